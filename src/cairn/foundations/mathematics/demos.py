"""The pictures of this chapter, by name.

>>> "bayes" in DEMOS and DEMOS["bayes"].title
"Bayes' rule: belief about a coin moves with every throw (animated)"
"""

from cairn.foundations.demo import Demo
from cairn.foundations.mathematics.information import demos as information
from cairn.foundations.mathematics.learning import demos as learning
from cairn.foundations.mathematics.linear import demos as linear
from cairn.foundations.mathematics.probability import demos as probability

DEMOS: dict[str, Demo] = linear.DEMOS | probability.DEMOS | information.DEMOS | learning.DEMOS
