"""What makes a model predict well: not only how well it fits. `bias_variance`, then `double_descent`.

>>> import numpy as np
>>> x = np.linspace(-1, 1, 20)
>>> y = wave(x) + 0.4 * np.random.default_rng(0).standard_normal(20)
>>> fits = [polynomial(degree)(x, y) for degree in (3, 12)]
>>> [float(((fit(x) - y) ** 2).mean().round(3)) for fit in fits]  # on the data: the more, the better
[0.059, 0.035]
>>> [float(((fit(x) - wave(x)) ** 2).mean().round(3)) for fit in fits]  # on the truth: not so
[0.065, 0.086]
"""

from cairn.foundations.mathematics.learning.bias_variance import Decomposition, decompose, polynomial, wave
from cairn.foundations.mathematics.learning.double_descent import errors_by_width

__all__ = ["Decomposition", "decompose", "errors_by_width", "polynomial", "wave"]
