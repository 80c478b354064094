"""What makes a model predict well: not only how well it fits. `bias_variance`, then `double_descent`."""

from cairn.foundations.mathematics.learning.bias_variance import Decomposition, decompose, polynomial, wave
from cairn.foundations.mathematics.learning.double_descent import errors_by_width

__all__ = ["Decomposition", "decompose", "errors_by_width", "polynomial", "wave"]
