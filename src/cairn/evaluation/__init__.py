"""How good is it: bits per byte and exact match, with chance level, n and interval."""

from cairn.evaluation.perplexity import BitsPerByte, bits_per_byte, over_documents
from cairn.evaluation.skills import Answered, answer_items, overall, score_skills

__all__ = ["Answered", "BitsPerByte", "answer_items", "bits_per_byte", "over_documents", "overall", "score_skills"]
