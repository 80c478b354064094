"""The mathematics of learning, as functions with pictures: what the other chapters lean on, computed with NumPy alone.

- `linear`: projections, least squares, eigenvectors, the singular value decomposition, principal components
- `probability`: distributions and their fitting, Bayes' rule, the central limit theorem
- `information`: entropy, cross-entropy, divergences, mutual information
- `learning`: why a model that fits its data best is not the one that predicts best

The algorithms are written out, because that is what is learnt here; NumPy's own `linalg` and SciPy are what they are tested
against.

>>> from cairn.foundations.mathematics.information import entropy
>>> from cairn.foundations.mathematics.probability import Bernoulli
>>> coin = Bernoulli.fit([1, 0, 0, 0])  # the coin under which one head in four throws is most likely
>>> round(float(entropy([coin.p, 1 - coin.p], unit="bits")), 3)  # how much one of its throws tells
0.811
"""
