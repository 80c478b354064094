"""Skills that a tiny model can really learn, each with an exact answer and a held-out test.

Every skill is a generator of items; which items are held out is decided by a hash of the question, so that no question of
the test ever occurs in training, whatever the seeds and sizes are.
"""

from cairn.corpus.skills.generate import SCORED, SKILLS, Skills, chance_level, smalltalk
from cairn.corpus.skills.item import DECLINE, Item, with_passage

__all__ = ["DECLINE", "SCORED", "SKILLS", "Item", "Skills", "chance_level", "smalltalk", "with_passage"]
