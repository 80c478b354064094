"""A chapter on gradient descent: five landscapes, six ways down, and how large a step may be.

>>> path = walk(LANDSCAPES["bowl"], "Newton", rate=1.0, steps=1)
>>> path[-1].tolist()
[0.0, 0.0]
"""

from cairn.foundations.descent.landscapes import LANDSCAPES, Landscape, bowl, finite_differences
from cairn.foundations.descent.rates import best, bound, curvatures, measured, shrinkage
from cairn.foundations.descent.walks import METHODS, walk

__all__ = [
    "LANDSCAPES",
    "METHODS",
    "Landscape",
    "best",
    "bound",
    "bowl",
    "curvatures",
    "finite_differences",
    "measured",
    "shrinkage",
    "walk",
]
