"""Passages, their search, answers grounded in them, and the calculator."""

from cairn.retrieval.bm25 import BM25, words
from cairn.retrieval.chunking import Passage, chunk, headings
from cairn.retrieval.rag import Answer, Comparison, Grounded, Hit, Retriever, answer, compare, ground
from cairn.retrieval.tools import CALCULATOR_SCHEMA, TOOLS, calculator

__all__ = [
    "BM25",
    "CALCULATOR_SCHEMA",
    "TOOLS",
    "Answer",
    "Comparison",
    "Grounded",
    "Hit",
    "Passage",
    "Retriever",
    "answer",
    "calculator",
    "chunk",
    "compare",
    "ground",
    "headings",
    "words",
]
