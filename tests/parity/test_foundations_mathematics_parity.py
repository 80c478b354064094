"""The mathematics of foundations against NumPy, SciPy and scikit-learn: the checks of `cairn parity` with more seeds, and small
singular values against arithmetic with 60 digits."""

import numpy as np
import pytest

from cairn.foundations.mathematics import linear, probability, special
from cairn.parity import foundations_mathematics as parity

# A search by SciPy of a third of a second, or eleven families at a time: fewer seeds.
SEEDS = {parity.student_fit: 3, parity.samples: 8, parity.pca: 8}


@pytest.mark.parametrize("check", parity.CHECKS, ids=lambda check: f"{check.part} ({check.oracle})")
def test_check(check):
    pytest.importorskip("sklearn" if check.oracle == "scikit-learn" else check.oracle)
    errors = [check.run(seed) for seed in range(SEEDS.get(check.run, 20))]
    assert np.max(errors) <= check.tolerance  # NaN stays NaN, and fails


def test_a_wrong_digit_is_seen(monkeypatch):
    """The checks can fail."""
    real = np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda *a, **k: tuple(part * (1 + 1e-10) for part in real(*a, **k)))
    assert parity.svd(0) > 1e-11
    assert parity.low_rank(0) > 1e-11
    gammaln = special.gammaln
    monkeypatch.setattr(special, "gammaln", lambda x: gammaln(x) * (1 + 1e-11))
    assert parity.special_functions(0) > 1e-12
    sample = probability.Normal.sample
    monkeypatch.setattr(special, "digamma", lambda x: np.full_like(x, np.nan))  # `max` would hide it
    assert parity.special_functions(0) == np.inf
    monkeypatch.setattr(probability.Normal, "sample", lambda self, rng, size: sample(self, rng, size) * 1.15)
    assert parity.samples(0) > 2.5


@pytest.mark.parametrize("seed", range(3))
def test_small_singular_values_have_all_their_digits(seed):
    """Columns of very different scale in any order: every value to 12 digits, where the eigenvalues of A^T A lose half of
    them altogether, and LAPACK some digits."""
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(seed)
    a = (rng.standard_normal((14, 9)) * 10.0 ** -np.arange(0, 27, 3))[:, rng.permutation(9)]
    with mpmath.workdps(60):
        exact = np.array([float(s) for s in mpmath.svd_r(mpmath.matrix(a.tolist()), compute_uv=False)])
    assert exact[-1] < 1e-22 * exact[0]

    def error(values):
        return np.abs(values / exact - 1).max()

    assert error(linear.singular_values(a)) < 1e-12
    assert error(linear.singular_values(a.T)) < 1e-12
    assert error(np.sqrt(np.abs(np.linalg.eigvalsh(a.T @ a)[::-1]))) > 0.1


def test_special_functions_near_their_zeros_and_poles():
    """Relative accuracy where the value is small: erf at 1e-300, log-gamma beside 1 and 2 to 1e-14 absolute."""
    theirs = pytest.importorskip("scipy.special")
    x = np.array([1e-300, 1e-20, 1e-3])
    np.testing.assert_allclose(special.erf(x), theirs.erf(x), rtol=1e-14)
    np.testing.assert_allclose(special.erf([1e-3, 1.4999, 1.5]), theirs.erf([1e-3, 1.4999, 1.5]), rtol=2e-15)
    seam = np.array([-2.0, 0.0, 1.4999, 1.5, 1.5001, 2.0])
    np.testing.assert_allclose(special.erfc(seam), theirs.erfc(seam), rtol=1e-14)
    np.testing.assert_allclose(special.erfc(26.0), theirs.erfc(26.0), rtol=2e-13)
    beside = np.array([1 - 1e-9, 1.0, 1 + 1e-9, 2 - 1e-9, 2.0, 2 + 1e-9])
    np.testing.assert_allclose(special.gammaln(beside), theirs.gammaln(beside), atol=1e-14, rtol=0)
    np.testing.assert_allclose(special.digamma(1e-300), theirs.digamma(1e-300), rtol=1e-14)
    assert special.gammaln(np.ones((2, 3))).shape == (2, 3)
    assert special.erf(np.inf) == 1
    assert special.erf(-np.inf) == -1
    assert special.erfc(np.inf) == 0
    assert special.erfc(-np.inf) == 2


def test_fits_are_at_the_summit():
    """No parameter, moved a little either way, makes the data more likely; of the Student's t the derivative is 0 too."""
    rng = np.random.default_rng(3)
    t = probability.StudentT(2.5, 1.0, 2.0).sample(rng, 400)
    for family, x in (
        (probability.Poisson, rng.poisson(3, 200)),
        (probability.Normal, rng.normal(1, 2, 200)),
        (probability.Laplace, rng.laplace(1, 2, 201)),
        (probability.StudentT, t),
        (probability.Exponential, rng.exponential(3, 200)),
        (probability.Gamma, rng.gamma(0.7, 3, 200)),
        (probability.Beta, rng.beta(0.7, 3, 200)),
    ):
        best = family.fit(x)
        top = best.log_likelihood(x)
        for name, value in vars(best).items():
            for step in (1e-3, -1e-3):
                assert family(**vars(best) | {name: value + step * abs(value)}).log_likelihood(x) < top, (family, name)
            if family is not probability.Laplace:  # its likelihood has a corner there
                h = 1e-5 * abs(value)
                up, down = (family(**vars(best) | {name: value + s * h}).log_likelihood(x) for s in (1, -1))
                assert abs(up - down) / (2 * h) * abs(value) < 1e-3, (family, name)
