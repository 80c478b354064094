"""The mathematics of foundations against NumPy's LAPACK, SciPy and scikit-learn, on random inputs.

Where signs are free (columns of Q, singular and eigenvectors) they are brought together first.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from cairn.foundations.mathematics import information, linear, probability, special
from cairn.parity import Check


def _shape(rng: np.random.Generator, tall: bool = False) -> tuple[int, int]:
    """Two different sizes up to 30; the first larger with `tall`."""
    rows, columns = rng.choice(np.arange(2, 31), 2, replace=False).tolist()
    return (max(rows, columns), min(rows, columns)) if tall else (rows, columns)


def _gap(ours: Any, theirs: Any) -> float:
    """Largest difference, relative to the largest entry; infinite entries must agree, and NaN is infinitely wrong: `max`
    would hide it."""
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    finite = np.isfinite(theirs)
    if (
        ours.shape != theirs.shape
        or not (ours[~finite] == theirs[~finite]).all()
        or not np.isfinite(ours[finite]).all()
    ):
        return float("inf")
    ours, theirs = ours[finite], theirs[finite]
    return float(np.abs(ours - theirs).max(initial=0.0) / max(1.0, np.abs(theirs).max(initial=0.0)))


def _alike(ours: np.ndarray, theirs: np.ndarray) -> float:
    """`_gap` of columns whose signs are free."""
    return _gap(ours * np.sign((ours * theirs).sum(axis=0)), theirs)


def _scipy(name: str) -> Any:
    """One of SciPy's modules; its annotations are narrower than what it takes."""
    return importlib.import_module(f"scipy.{name}")


# --- linear algebra


def svd(seed: int) -> float:
    """U, S and V of a matrix with parted singular values, which alone have directions of their own."""
    rng = np.random.default_rng(seed)
    rows, columns = _shape(rng)
    k = min(rows, columns)
    left, right = (np.linalg.qr(rng.standard_normal((n, k)))[0] for n in (rows, columns))
    a = left * np.linspace(k, 1, k) @ right.T
    u, s, vt = linear.svd(a)
    theirs_u, theirs_s, theirs_vt = np.linalg.svd(a, full_matrices=False)
    return max(_alike(u, theirs_u), _gap(s, theirs_s), _alike(vt.T, theirs_vt.T))


def eigh(seed: int) -> float:
    theirs = _scipy("linalg").eigh
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = q * rng.permutation(np.arange(n) - n / 3) @ q.T
    (ours_w, ours_v), (w, v) = linear.eigh(a), theirs((a + a.T) / 2)
    return max(_gap(ours_w, w), _alike(ours_v, v))


def qr(seed: int) -> float:
    theirs = _scipy("linalg").qr
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(_shape(rng))
    (q, r), (theirs_q, theirs_r) = linear.householder_qr(a), theirs(a, mode="economic")
    sign = np.sign(np.diag(r)) * np.sign(np.diag(theirs_r))
    return max(_gap(q * sign, theirs_q), _gap(r * sign[:, None], theirs_r))


def gram_schmidt(seed: int) -> float:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(_shape(rng, tall=True))
    theirs_q, theirs_r = np.linalg.qr(a)
    sign = np.sign(np.diag(theirs_r))
    pairs = (linear.gram_schmidt(a, modified) for modified in (True, False))
    return max(max(_gap(q, theirs_q * sign), _gap(r, theirs_r * sign[:, None])) for q, r in pairs)


def cholesky(seed: int) -> float:
    cho_solve = _scipy("linalg").cho_solve
    rng = np.random.default_rng(seed)
    root = rng.standard_normal(_shape(rng, tall=True))
    a, b = root.T @ root + np.eye(root.shape[1]), rng.standard_normal(root.shape[1])
    theirs = np.linalg.cholesky(a)
    return max(_gap(linear.cholesky(a), theirs), _gap(linear.solve_cholesky(a, b), cho_solve((theirs, True), b)))


def least_squares(seed: int) -> float:
    lstsq = _scipy("linalg").lstsq
    rng = np.random.default_rng(seed)
    rows, columns = _shape(rng, tall=True)
    a, b = rng.standard_normal((2 * rows, columns)), rng.standard_normal(2 * rows)
    theirs = lstsq(a, b)[0]
    return max(_gap(solve(a, b), theirs) for solve in (linear.solve_normal, linear.solve_qr, linear.solve_svd))


def shortest(seed: int) -> float:
    """Least squares of matrices without full rank, tall and wide."""
    rng = np.random.default_rng(seed)
    rows, columns = _shape(rng)
    r = max(1, min(rows, columns) // 2)
    a = rng.standard_normal((rows, r)) @ rng.standard_normal((r, columns)) / r
    b = rng.standard_normal(rows)
    return _gap(linear.solve_svd(a, b), np.linalg.pinv(a, rcond=1e-12) @ b)


def projection(seed: int) -> float:
    orth = _scipy("linalg").orth
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(_shape(rng, tall=True))
    a = np.concatenate([a, a[:, :1] - a[:, -1:]], axis=1)  # a column that adds nothing
    q, b = orth(a), rng.standard_normal(len(a))
    return max(_gap(linear.projection_matrix(a), q @ q.T), _gap(linear.onto_subspace(b, a), q @ (q.T @ b)))


def power(seed: int) -> float:
    """Three eigenpairs by deflation, of eigenvalues that differ in size."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 20))
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = q * (0.7 ** np.arange(n) * rng.choice([-1, 1], n)) @ q.T
    values, vectors = linear.leading_eigenpairs(a, 3, rng, tolerance=1e-14)
    theirs, theirs_v = np.linalg.eigh((a + a.T) / 2)
    order = np.argsort(-np.abs(theirs))[:3]
    return max(_gap(values, theirs[order]), _alike(vectors, theirs_v[:, order]))


def norms(seed: int) -> float:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(_shape(rng))
    kinds: tuple[tuple[Any, Any], ...] = (
        ("frobenius", "fro"),
        ("spectral", 2),
        ("nuclear", "nuc"),
        ("columns", 1),
        ("rows", np.inf),
    )
    gaps = [_gap(linear.matrix_norm(a, ours), np.linalg.norm(a, theirs)) for ours, theirs in kinds]
    gaps += [_gap(linear.vector_norm(a[0], p), np.linalg.norm(a[0], p)) for p in (1, 1.5, 2, 3, np.inf)]
    return max(*gaps, _gap(linear.condition_number(a) / np.linalg.cond(a), 1.0))


def low_rank(seed: int) -> float:
    """The distance to the best copy of a rank against the tail of LAPACK's singular values, and the copy itself."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(_shape(rng))
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    k = int(rng.integers(0, len(s) + 1))
    copy = linear.best_of_rank(a, k)
    tail = np.sqrt((s[k:] ** 2).sum())
    return max(
        _gap(copy, u[:, :k] * s[:k] @ vt[:k]),
        _gap(np.linalg.norm(a - copy), tail),
        _gap(linear.tail_errors(linear.singular_values(a))[k], tail),
    )


def pca(seed: int) -> float:
    """Mean, components with their signs, variances, coordinates, whitened ones, and the reconstruction."""
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    rows, columns = _shape(rng, tall=True)
    x = rng.standard_normal((rows + 5, columns)) * np.linspace(1, 3, columns) + rng.standard_normal(columns)
    k = int(rng.integers(1, columns + 1))
    ours, theirs, white = linear.fit_pca(x, k), PCA(k, svd_solver="full"), PCA(k, svd_solver="full", whiten=True)
    z = theirs.fit_transform(x)
    return max(
        _gap(ours.mean, theirs.mean_),
        _gap(ours.components, theirs.components_),
        _gap(ours.variance, theirs.explained_variance_),
        _gap(ours.explained, theirs.explained_variance_ratio_),
        _gap(ours.transform(x), z),
        _gap(ours.transform(x, whiten=True), white.fit_transform(x)),
        _gap(ours.reconstruct(ours.transform(x)), theirs.inverse_transform(z)),
    )


# --- special functions and distributions


def special_functions(seed: int) -> float:
    """Relative to max(1, |value|), from 1e-8 to 1e8; of erfc, whose values are tiny, relative alone."""
    theirs = _scipy("special")
    rng = np.random.default_rng(seed)
    x = 10 ** rng.uniform(-8, 8, 500)
    z = rng.uniform(-8, 8, 500)
    tail = rng.uniform(-3, 25, 500)
    pairs = (
        (special.gammaln(x), theirs.gammaln(x)),
        (special.digamma(x), theirs.digamma(x)),
        (special.trigamma(x), theirs.polygamma(1, x)),
        (special.erf(z), theirs.erf(z)),
    )
    gaps = [_gap(a / np.maximum(1.0, np.abs(b)), b / np.maximum(1.0, np.abs(b))) for a, b in pairs]
    return max(*gaps, _gap(special.erfc(tail) / theirs.erfc(tail), np.ones(500)))


def families(rng: np.random.Generator) -> list[tuple[Any, Any]]:
    """One of each family with random parameters, and SciPy's."""
    stats = _scipy("stats")
    a, b = rng.uniform(0.3, 6, 2)
    location, scale = rng.normal(0, 3), rng.uniform(0.2, 4)
    p, n = rng.uniform(0.05, 0.95), int(rng.integers(1, 40))
    shares = rng.dirichlet(np.ones(6))
    return [
        (probability.Bernoulli(p), stats.bernoulli(p)),
        (probability.Binomial(n, p), stats.binom(n, p)),
        (probability.Categorical(shares), stats.rv_discrete(values=(np.arange(6), shares))),
        (probability.Poisson(3 * a), stats.poisson(3 * a)),
        (probability.Normal(location, scale), stats.norm(location, scale)),
        (probability.Laplace(location, scale), stats.laplace(location, scale)),
        (probability.StudentT(2 + a, location, scale), stats.t(2 + a, location, scale)),
        (probability.Uniform(location, location + scale), stats.uniform(location, scale)),
        (probability.Exponential(a), stats.expon(scale=1 / a)),
        (probability.Gamma(a, b), stats.gamma(a, scale=1 / b)),
        (probability.Beta(a, b), stats.beta(a, b)),
    ]


def densities(seed: int) -> float:
    """ln p on and off the support."""
    rng = np.random.default_rng(seed)
    gaps = []
    for ours, theirs in families(rng):
        if hasattr(theirs, "pmf"):
            x: np.ndarray = np.arange(-3, 45, 0.5)
            wanted = theirs.logpmf(x)
        else:
            x = np.concatenate([rng.normal(0, 4, 200), rng.random(100)])
            wanted = theirs.logpdf(x)
        gaps.append(_gap(ours.log_density(x), wanted))
    return max(gaps)


def moments(seed: int) -> float:
    both = families(np.random.default_rng(seed))
    return max(max(_gap(ours.mean, theirs.mean()), _gap(ours.variance, theirs.var())) for ours, theirs in both)


def samples(seed: int) -> float:
    """Kolmogorov's distance of 4000 draws from SciPy's distribution function, times the root of 4000."""
    rng = np.random.default_rng(seed)
    distances = []
    for ours, theirs in families(rng):
        x = np.sort(ours.sample(rng, 4000))
        at = np.unique(x)
        distances.append(np.abs(np.searchsorted(x, at, "right") / len(x) - theirs.cdf(at)).max() * np.sqrt(len(x)))
    return float(max(distances))


def closed_fits(seed: int) -> float:
    """Parameters that SciPy finds in closed form too."""
    stats = _scipy("stats")
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 2, 50)
    waits = rng.exponential(2, 50)
    normal, laplace, uniform = probability.Normal.fit(x), probability.Laplace.fit(x), probability.Uniform.fit(x)
    return max(
        _gap((normal.location, normal.scale), stats.norm.fit(x)),
        _gap((laplace.location, laplace.scale), stats.laplace.fit(x)),
        _gap((uniform.low, uniform.high - uniform.low), stats.uniform.fit(x)),
        _gap((0, 1 / probability.Exponential.fit(waits).rate), stats.expon.fit(waits, floc=0)),
    )


def newton_fits(seed: int) -> float:
    """Gamma and beta: relative difference of the parameters."""
    stats = _scipy("stats")
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.4, 6, 2)
    waits, shares = rng.gamma(a, b, 200), rng.beta(a, b, 200)
    gamma, beta = probability.Gamma.fit(waits), probability.Beta.fit(shares)
    shape, _, scale = stats.gamma.fit(waits, floc=0)
    theirs_a, theirs_b, *_ = stats.beta.fit(shares, floc=0, fscale=1)
    ratios = np.array([gamma.shape / shape, gamma.rate * scale, beta.a / theirs_a, beta.b / theirs_b])
    return float(np.abs(ratios - 1).max())


def student_fit(seed: int) -> float:
    """By how much the likelihood per value of SciPy's numerical search is above ours."""
    stats = _scipy("stats")
    rng = np.random.default_rng(seed)
    x = 2 + 1.5 * rng.standard_t(3, 300)
    theirs = stats.t.logpdf(x, *stats.t.fit(x)).mean()
    ours = probability.StudentT.fit(x).log_likelihood(x) / len(x)
    return max(0.0, float(theirs - ours)) if np.isfinite(ours) else float("inf")


def multivariate(seed: int) -> float:
    """Density, and the fitted mean and covariance."""
    multivariate_normal = _scipy("stats").multivariate_normal
    rng = np.random.default_rng(seed)
    rows, d = _shape(rng, tall=True)
    root = rng.standard_normal((d, d + 2))
    ours = probability.MultivariateNormal(rng.standard_normal(d), root @ root.T)
    x = ours.sample(rng, rows + 5)
    fitted = probability.MultivariateNormal.fit(x)
    mean, covariance = multivariate_normal.fit(x)
    theirs = multivariate_normal.logpdf(x, ours.location, ours.covariance)
    return max(_gap(ours.log_density(x), theirs), _gap(fitted.location, mean), _gap(fitted.covariance, covariance))


def normal_cdf(seed: int) -> float:
    """Relative, down to 1e-300."""
    norm = _scipy("stats").norm
    x = np.random.default_rng(seed).uniform(-37, 5, 500)
    return float(np.abs(probability.Normal(0, 1).cdf(x) / norm.cdf(x) - 1).max())


def evidence(seed: int) -> float:
    betabinom = _scipy("stats").betabinom
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.3, 6, 2)
    heads, tails = rng.integers(0, 50, 2).tolist()
    ours = probability.beta_binomial_evidence(probability.Beta(a, b), heads, tails)
    return _gap(ours, betabinom.logpmf(heads, heads + tails, a, b))


# --- information


def entropies(seed: int) -> float:
    """Entropy, KL and Jensen-Shannon in both units, with outcomes that never happen."""
    jensenshannon = _scipy("spatial.distance").jensenshannon
    entropy, rng = _scipy("stats").entropy, np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(7, 0.7), (2, 5))
    p[:, 2] = 0
    q[0, 4] = 0
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    units: tuple[tuple[Any, float], ...] = (("nats", np.e), ("bits", 2.0))
    return max(
        max(
            _gap(information.entropy(p, unit), entropy(p, base=base, axis=1)),
            _gap(information.kl(p, q, unit), entropy(p, q, base=base, axis=1)),
            _gap(
                information.cross_entropy(p, q, unit), entropy(p, base=base, axis=1) + entropy(p, q, base=base, axis=1)
            ),
            _gap(information.jensen_shannon(p, q, unit), jensenshannon(p, q, base=base, axis=1) ** 2),
        )
        for unit, base in units
    )


def mutual_information(seed: int) -> float:
    from sklearn.metrics import mutual_info_score

    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, 300)
    y = np.where(rng.random(300) < 0.5, x, rng.integers(0, 4, 300))
    return _gap(information.mutual_information_of(x, y), mutual_info_score(x, y))


_PARTS: list[tuple[str, str, float, Callable[[int], float]]] = [
    ("SVD by one-sided Jacobi: U, S and V", "numpy", 1e-11, svd),
    ("QR algorithm: eigenvalues and vectors", "scipy", 1e-11, eigh),
    ("Householder QR: Q and R", "scipy", 1e-11, qr),
    ("Gram-Schmidt, classical and modified: Q and R", "numpy", 1e-10, gram_schmidt),
    ("Cholesky factor and solution", "scipy", 1e-11, cholesky),
    ("least squares by normal equations, QR and SVD", "scipy", 1e-11, least_squares),
    ("least squares without full rank: the shortest solution", "numpy", 1e-10, shortest),
    ("projection on a subspace with a dependent column", "scipy", 1e-11, projection),
    ("power iteration with deflation: three eigenpairs", "numpy", 1e-10, power),
    ("norms of vectors and matrices, condition number", "numpy", 1e-11, norms),
    ("best copy of a lower rank, and its distance", "numpy", 1e-11, low_rank),
    ("PCA: components, variances, whitening, reconstruction", "scikit-learn", 1e-10, pca),
    ("log-gamma, digamma, trigamma, erf, erfc", "scipy", 1e-12, special_functions),
    ("11 distributions: log-density on and off the support", "scipy", 1e-11, densities),
    ("11 distributions: mean and variance", "scipy", 1e-12, moments),
    # Beyond 2.5 one of 11 comes by chance in one of 25 000 seeds.
    ("11 distributions: distance of 4000 draws times the root of 4000", "scipy", 2.5, samples),
    ("normal, Laplace, uniform, exponential: most likely parameters", "scipy", 1e-12, closed_fits),
    ("gamma and beta: most likely parameters, relative", "scipy", 1e-6, newton_fits),
    ("Student's t: likelihood short of the oracle's", "scipy", 1e-9, student_fit),
    ("normal of a vector: log-density and fit", "scipy", 1e-10, multivariate),
    ("normal distribution function, relative, to 1e-300", "scipy", 1e-12, normal_cdf),
    ("evidence of coin throws under a beta prior", "scipy", 1e-11, evidence),
    ("entropy, cross-entropy, KL, Jensen-Shannon", "scipy", 1e-12, entropies),
    ("mutual information of labels", "scikit-learn", 1e-12, mutual_information),
]
CHECKS = [Check(*part) for part in _PARTS]
