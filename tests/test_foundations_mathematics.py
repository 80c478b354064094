"""Laws that linear algebra, probability and information obey, on inputs that hypothesis makes up; and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.foundations.mathematics import information, learning, linear, probability, special
from cairn.foundations.mathematics.demos import DEMOS
from cairn.foundations.mathematics.linear.jacobi import tournament
from cairn.foundations.mathematics.probability import Beta, Normal

many, some = settings(max_examples=60, deadline=None), settings(max_examples=25, deadline=None)


@st.composite
def matrices(draw, tall=False):
    """Of any rank and of entries from 1e-6 to 1e6, whole columns and rows scaled."""
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    if tall:
        rows, columns = max(rows, columns), min(rows, columns)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rank = draw(st.integers(0, min(rows, columns)))
    a = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
    return a * 10.0 ** rng.integers(-6, 6, columns) if draw(st.booleans()) else a


@st.composite
def distributions(draw, *shape, zeros=True):
    """Arrays of that shape whose last axis sums to 1, some entries 0 or tiny."""
    size = int(np.prod(shape))
    low = 0 if zeros else 1e-6
    weights = st.one_of(st.floats(low, 1), st.just(float(low)), st.floats(1e-6, 1e-5))
    p = np.array(draw(st.lists(weights, min_size=size, max_size=size)), dtype=float).reshape(shape)
    p[..., -1] += 0.01
    return p / p.sum(axis=-1, keepdims=True)


# --- linear algebra


@many
@given(matrices())
def test_svd_is_what_it_says(a):
    u, s, vt = linear.svd(a)
    k = min(a.shape)
    assert u.shape == (a.shape[0], k)
    assert vt.shape == (k, a.shape[1])
    assert (s >= 0).all()
    assert (np.diff(s) <= 0).all()
    np.testing.assert_allclose(u * s @ vt, a, atol=1e-13 * max(s[0], 1e-300))
    np.testing.assert_allclose(u.T @ u, np.eye(k), atol=1e-13)  # also where the rank is lower
    np.testing.assert_allclose(vt @ vt.T, np.eye(k), atol=1e-13)
    assert (vt[np.arange(k), np.abs(vt).argmax(axis=1)] > 0).all()


@many
@given(matrices(tall=True))
def test_qr_is_orthonormal_whatever_the_rank(a):
    q, r = linear.householder_qr(a)
    np.testing.assert_allclose(q.T @ q, np.eye(a.shape[1]), atol=1e-14)
    np.testing.assert_allclose(q @ r, a, atol=1e-13 * max(np.abs(a).max(), 1e-300))
    assert np.array_equal(r, np.triu(r))


@many
@given(matrices())
def test_eigenvalues_of_a_gram_matrix(a):
    gram = a.T @ a
    values, vectors = linear.eigh(gram)
    scale = max(np.abs(gram).max(), 1e-300)
    np.testing.assert_allclose(vectors * values @ vectors.T, gram, atol=1e-13 * scale)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(gram)), atol=1e-13)
    assert (np.diff(values) >= 0).all()
    assert values.sum() == pytest.approx(np.trace(gram), abs=1e-12 * scale)


@some
@given(matrices(), st.integers(0, 2**32))
def test_projection(a, seed):
    """Idempotent, symmetric, its trace the rank; what is left over is perpendicular; nothing in the space is nearer."""
    rng = np.random.default_rng(seed)
    b = rng.standard_normal(len(a))
    p, projected = linear.projection_matrix(a), linear.onto_subspace(b, a)
    np.testing.assert_allclose(p @ p, p, atol=1e-13)
    assert np.array_equal(p, p.T) or np.abs(p - p.T).max() < 1e-15
    assert np.trace(p) == pytest.approx(np.linalg.matrix_rank(a), abs=1e-12)
    np.testing.assert_allclose(p @ b, projected, atol=1e-13)
    lengths = np.linalg.norm(a, axis=0)
    assert np.abs((b - projected) @ a).max() <= 1e-12 * max(lengths.max(), 1e-300)
    other = linear.onto_subspace(rng.standard_normal(len(a)), a)
    assert np.linalg.norm(b - projected) <= np.linalg.norm(b - other) + 1e-13


@some
@given(matrices(), st.integers(0, 2**32), st.integers(0, 9))
def test_no_matrix_of_that_rank_is_nearer(a, seed, k):
    """Eckart and Young: the distance is the tail, and no random matrix of the rank does better."""
    k = min(k, *a.shape)
    values = linear.singular_values(a)
    copy = linear.best_of_rank(a, k)
    distance = np.linalg.norm(a - copy)
    assert distance == pytest.approx(linear.tail_errors(values)[k], rel=1e-9, abs=1e-13 * max(values[0], 1e-300))
    assert np.linalg.matrix_rank(copy, tol=1e-12 * max(values[0], 1e-300)) <= k
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((len(a), k)) if rng.random() < 0.5 else a @ rng.standard_normal((a.shape[1], k))
    q, _ = np.linalg.qr(columns) if k else (np.zeros((len(a), 0)), None)
    assert np.linalg.norm(a - q @ (q.T @ a)) >= distance * (1 - 1e-9) - 1e-13 * values[0]


@some
@given(matrices(), st.floats(1, 9), st.integers(0, 2**32))
def test_norms_are_norms(a, p, seed):
    b = np.random.default_rng(seed).standard_normal(a.shape)
    for kind in ("frobenius", "spectral", "nuclear", "columns", "rows"):
        whole, parts = linear.matrix_norm(a + b, kind), linear.matrix_norm(a, kind) + linear.matrix_norm(b, kind)
        assert whole <= parts * (1 + 1e-12)
        assert linear.matrix_norm(-3 * a, kind) == pytest.approx(3 * linear.matrix_norm(a, kind))
    x, y = a[0], b[0]
    assert linear.vector_norm(x + y, p) <= (linear.vector_norm(x, p) + linear.vector_norm(y, p)) * (1 + 1e-12)
    conjugate = p / (p - 1) if p > 1 else np.inf
    assert abs(x @ y) <= linear.vector_norm(x, p) * linear.vector_norm(y, conjugate) * (1 + 1e-12)  # Hoelder


def test_numbers_far_from_one():
    """Squares of 1e200 are no numbers; lengths and values of such matrices are."""
    for scale in (1e200, 1e-200):
        a = np.array([[2.0, 1.0], [1.0, 2.0]])
        assert linear.vector_norm([3 * scale, 4 * scale]) == pytest.approx(5 * scale)
        np.testing.assert_allclose(linear.singular_values(a * scale), [3 * scale, scale], rtol=1e-14)
        np.testing.assert_allclose(linear.eigh(a * scale)[0], [scale, 3 * scale], rtol=1e-14)
        found = linear.power_iteration(a * scale, np.random.default_rng(0))
        assert found.value == pytest.approx(3 * scale, rel=1e-12)
        assert linear.rayleigh_quotient(a, [scale, scale]) == pytest.approx(3)
        np.testing.assert_allclose(linear.gram_schmidt(a * scale)[1], linear.gram_schmidt(a)[1] * scale, rtol=1e-14)
        np.testing.assert_allclose(linear.onto_line([1.0, 2.0], [scale, 0.0]), [1.0, 0.0])


def test_matrices_that_are_simple():
    assert linear.condition_number(np.diag([4.0, 2.0])) == 2
    assert linear.condition_number([[1.0, 0.0], [0.0, 0.0]]) == np.inf
    np.testing.assert_array_equal(linear.singular_values(np.zeros((3, 5))), np.zeros(3))
    u, s, vt = linear.svd([[-7.0]])
    assert (u.tolist(), s.tolist(), vt.tolist()) == ([[-1.0]], [7.0], [[1.0]])
    values, vectors = linear.eigh(np.diag([3.0, 1.0, 1.0]))
    assert values.tolist() == [1, 1, 3]
    assert np.abs(vectors[:, 2]).tolist() == [1, 0, 0]
    assert linear.eigh([[0.0, 1.0], [1.0, 0.0]])[0] == pytest.approx([-1, 1])
    assert linear.power_iteration(np.zeros((3, 3)), np.random.default_rng(0)).value == 0


@pytest.mark.parametrize("players", range(1, 12))
def test_everybody_meets_everybody_once(players):
    rounds = tournament(players)
    met = [tuple(sorted(pair)) for first, second in rounds for pair in zip(first.tolist(), second.tolist())]
    assert sorted(met) == [(i, j) for i in range(players) for j in range(i + 1, players)]
    for first, second in rounds:
        seats = [*first.tolist(), *second.tolist()]
        assert len(seats) == len(set(seats))


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9, -0.8])
def test_power_iteration_converges_by_the_ratio(ratio):
    """The residual shrinks by |l2 / l1| a step, the Rayleigh quotient's error by its square."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    a = q * np.array([2.0, 2 * ratio, 0.3, 0.1, -0.05, 0.0]) @ q.T
    found = linear.power_iteration(a, np.random.default_rng(1), tolerance=1e-13)
    residuals = np.array([r for r in found.residuals if 1e-12 < r < 1e-3])
    rates = residuals[1:] / residuals[:-1]
    assert np.median(rates) == pytest.approx(abs(ratio), rel=3e-3)
    v = q @ [1.0, 1e-3, 0, 0, 0, 0]
    before, after = (abs(linear.rayleigh_quotient(a, w) - 2.0) for w in (v, a @ v))
    assert after / before == pytest.approx(ratio**2, rel=1e-3)


def test_deflated_vectors_stay_perpendicular():
    """Also where each is found to few digits only."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((12, 12))
    values, vectors = linear.leading_eigenpairs(a @ a.T, 5, rng, tolerance=1e-3)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(5), atol=1e-13)
    assert (np.diff(values) < 0).all()


def test_qr_iteration_comes_to_the_same_eigenvalues():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    a = q * np.array([5.0, 3.0, -2.0, 1.0, 0.4]) @ q.T
    t = linear.qr_iteration(a, 120)
    np.testing.assert_allclose(np.sort(np.diag(t)), linear.eigh(a)[0], atol=1e-12)
    assert np.abs(t - np.diag(np.diag(t))).max() < 1e-12
    some = linear.qr_iteration(a, 10)  # an entry below the diagonal shrinks by the ratio of the two beside it
    assert linear.qr_iteration(a, 11)[3, 2] / some[3, 2] == pytest.approx(-0.5, rel=0.02)
    diagonal, beside, q = linear.tridiagonal(a)
    np.testing.assert_allclose(q.T @ a @ q, np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1), atol=1e-13)


def test_normal_equations_lose_twice_the_digits():
    """On columns that are nearly alike QR keeps half of the digits where the normal equations keep none."""
    a = np.polynomial.polynomial.polyvander(np.linspace(0, 1, 40), 8)  # powers of x, condition 5e5
    x = np.arange(1.0, 10.0)
    b = a @ x
    for solve in (linear.solve_qr, linear.solve_svd):
        assert np.abs(solve(a, b) - x).max() < 1e-9
    assert np.abs(linear.solve_normal(a, b) - x).max() > 1e-8
    with pytest.raises(ValueError, match="not positive definite"):
        linear.solve_normal([[1.0, 1.0], [1e-9, 0.0], [0.0, 1e-9]], [1.0, 0.0, 0.0])


def test_gram_schmidt_loses_what_householder_keeps():
    a = 1 / (np.arange(10)[:, None] + np.arange(10) + 1)  # Hilbert's matrix, condition 1e13

    def lost(q):
        return np.abs(q.T @ q - np.eye(10)).max()

    classical, modified = linear.gram_schmidt(a, modified=False)[0], linear.gram_schmidt(a)[0]
    assert lost(classical) > 0.9
    assert 1e-10 < lost(modified) < 1e-2
    assert lost(linear.householder_qr(a)[0]) < 1e-14


def test_whitened_data_are_white():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5)) @ rng.standard_normal((5, 5)) + 3
    z = linear.fit_pca(x).transform(x, whiten=True)
    np.testing.assert_allclose(np.cov(z.T), np.eye(5), atol=1e-12)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    pca = linear.fit_pca(x, 3)
    assert pca.explained.sum() < 1
    np.testing.assert_allclose(
        pca.reconstruct(pca.transform(x, whiten=True), whitened=True), pca.reconstruct(pca.transform(x))
    )
    missed = ((x - pca.reconstruct(pca.transform(x))) ** 2).sum() / 199
    assert missed == pytest.approx(pca.total - pca.variance.sum(), rel=1e-12)


# --- probability


@many
@given(st.lists(st.integers(0, 1), min_size=1, max_size=30), st.floats(0.2, 9), st.floats(0.2, 9))
def test_throw_by_throw_or_all_at_once(throws, a, b):
    belief = Beta(a, b)
    for throw in throws:
        belief = probability.update_beta(belief, throw, 1 - throw)
    whole = probability.update_beta(Beta(a, b), sum(throws), len(throws) - sum(throws))
    assert belief.a == pytest.approx(whole.a)
    assert belief.b == pytest.approx(whole.b)


@many
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(0.3, 3), st.floats(0.5, 3))
def test_normal_update_is_bayes_rule_on_a_grid(x, noise, spread):
    prior = Normal(0.5, spread)
    after = probability.update_normal(prior, x, noise)
    one_by_one = prior
    for value in x:
        one_by_one = probability.update_normal(one_by_one, [value], noise)
    assert one_by_one.location == pytest.approx(after.location, abs=1e-12)
    assert one_by_one.scale == pytest.approx(after.scale)
    grid = after.location + after.scale * np.linspace(-8, 8, 1001)
    logs = prior.log_density(grid) + sum(Normal(float(v), noise).log_density(grid) for v in x)
    share = np.exp(logs - logs.max())
    table, _ = probability.update_table(np.full(1001, 1 / 1001), share)
    assert table @ grid == pytest.approx(after.location, abs=1e-6)
    assert np.sqrt(table @ (grid - table @ grid) ** 2) == pytest.approx(after.scale, rel=1e-6)


def test_evidence_sums_to_one_and_table_update_agrees():
    prior = Beta(2.0, 0.5)
    all_counts = [probability.beta_binomial_evidence(prior, k, 12 - k) for k in range(13)]
    assert np.exp(all_counts).sum() == pytest.approx(1)
    posterior, evidence = probability.update_table([0.2, 0.8, 0.0], [0.5, 0.25, 1.0])
    assert evidence == pytest.approx(0.3)
    assert posterior == pytest.approx([1 / 3, 2 / 3, 0])


@pytest.mark.parametrize(
    "family",
    [
        probability.Normal(-1.0, 0.5),
        probability.Laplace(1.0, 2.0),
        probability.StudentT(4.0, 0.0, 1.0),
        probability.Uniform(-2.0, 1.0),
        probability.Exponential(3.0),
        probability.Gamma(2.5, 0.5),
        probability.Beta(2.0, 3.5),
    ],
    ids=lambda family: type(family).__name__,
)
def test_densities_integrate_to_one(family):
    """And give the mean and variance that the family names."""
    edges = np.linspace(-60, 90, 1_500_001)
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    p = np.exp(family.log_density(middle)) * width
    assert p.sum() == pytest.approx(1, abs=1e-4)
    assert p @ middle == pytest.approx(family.mean, abs=2e-3)
    assert p @ (middle - family.mean) ** 2 == pytest.approx(family.variance, rel=6e-3)


def test_limits_of_parameters():
    """Sure coins, impossible values, and tails without moments."""
    assert probability.Bernoulli(1.0).log_density([0, 1]).tolist() == [-np.inf, 0]
    assert probability.Binomial(3, 0.0).log_density([1, 3.5, -1, np.inf]).tolist() == [-np.inf] * 4
    assert probability.Categorical(np.array([1.0, 0.0])).log_density([0, 1, 2, -1]).tolist() == [0, *[-np.inf] * 3]
    assert probability.Gamma(1.0, 2.0).log_density([0.0])[0] == pytest.approx(np.log(2))
    assert probability.Beta(0.5, 2.0).log_density([0.0, 1.0]).tolist() == [np.inf, -np.inf]
    assert probability.Exponential(1.0).log_density([-1e-9, np.inf]).tolist() == [-np.inf, -np.inf]
    assert np.isnan(probability.StudentT(1.0, 0.0, 1.0).mean)
    assert np.isinf(probability.StudentT(1.5, 0.0, 1.0).variance)
    assert np.isnan(probability.StudentT(0.5, 0.0, 1.0).variance)
    assert probability.Normal(0.0, 1.0).log_density([[0.0, 1.0], [2.0, 3.0]]).shape == (2, 2)
    assert probability.Categorical.fit([0, 0], categories=3).p.tolist() == [1, 0, 0]
    draws = probability.Categorical(np.array([0.0, 1.0, 0.0])).sample(np.random.default_rng(0), 1000)
    assert set(draws.tolist()) == {1}

    class Lowest(np.random.Generator):
        def random(self, size=None, *_, **__):
            return np.zeros(size or ())

    assert probability.Categorical(np.array([0.0, 1.0])).sample(Lowest(np.random.PCG64(0)), 3).tolist() == [1, 1, 1]


@pytest.mark.filterwarnings("error")
def test_special_functions_far_out():
    """No overflow on the way, and the limits at infinity."""
    x = np.array([1e25, 1e100, np.inf])
    assert special.gammaln(x).tolist() == [1e25 * (np.log(1e25) - 1), 1e100 * (np.log(1e100) - 1), np.inf]
    assert special.digamma(x).tolist() == np.log(x).tolist()
    assert special.trigamma(x) == pytest.approx([1e-25, 1e-100, 0], rel=1e-14, abs=0)
    assert special.erf([-np.inf, np.inf]).tolist() == [-1, 1]
    assert special.erfc([-np.inf, np.inf]).tolist() == [2, 0]
    assert probability.Poisson(3.0).log_density(1e25) < -1e25


def test_whole_numbers_may_be_floats():
    """3.0 is as good a count as 3."""
    rng = np.random.default_rng(0)
    assert linear.best_of_rank(np.diag([2.0, 1.0]), 1.0).tolist() == [[2, 0], [0, 0]]  # type: ignore[arg-type]
    assert linear.leading_eigenpairs(np.diag([3.0, 2.0, 1.0]), 2.0, rng)[0] == pytest.approx([3, 2])  # type: ignore[arg-type]
    parts = learning.decompose(learning.polynomial(1.0), learning.wave, 0.1, 9.0, 3.0, rng)  # type: ignore[arg-type]
    assert parts.noise == pytest.approx(0.01)
    assert learning.errors_by_width([20.0], 10.0, 1.0, rng).shape == (1,)  # type: ignore[arg-type]
    assert probability.Categorical.fit([0, 1], categories=3.0).p.tolist() == [0.5, 0.5, 0]  # type: ignore[arg-type]


def test_samples_of_a_vector_have_its_covariance():
    rng = np.random.default_rng(0)
    covariance = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.4], [0.0, -0.4, 0.5]])
    family = probability.MultivariateNormal(np.array([1.0, -2.0, 0.0]), covariance)
    x = family.sample(rng, 40_000)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.05)
    np.testing.assert_allclose(x.mean(axis=0), family.mean, atol=0.03)
    fitted = probability.MultivariateNormal.fit(x)
    assert fitted.log_likelihood(x) > family.log_likelihood(x)


def test_central_limit_within_its_bound():
    rng = np.random.default_rng(0)
    for source, third in ((probability.Exponential(2.0), (12 / np.e - 2) / 8), (probability.Bernoulli(0.5), 0.125)):
        gaps = []
        for n in (2, 8, 32, 128):
            gap = probability.gap_to_normal(probability.standardised_means(source, n, 20_000, rng))
            assert gap <= probability.berry_esseen(third, np.sqrt(source.variance), n) + 0.01
            gaps.append(gap)
        assert gaps[0] > 4 * gaps[-1]  # by 8 = sqrt(64) on paper
    with pytest.raises(ValueError, match="no finite variance"):
        probability.standardised_means(probability.StudentT(1.0, 0.0, 1.0), 10, 10, rng)


# --- information


@some
@given(distributions(4, 6), distributions(4, 6))
def test_divergences_are_never_negative(p, q):
    """And 0 of a distribution from itself; cross-entropy is entropy + KL; Jensen-Shannon is symmetric and at most 1 bit."""
    divergence = information.kl(p, q)
    assert (divergence >= 0).all()
    assert (information.kl(p, p) == 0).all()
    np.testing.assert_allclose(information.cross_entropy(p, q), information.entropy(p) + divergence, atol=1e-12)
    js = information.jensen_shannon(p, q, unit="bits")
    np.testing.assert_allclose(js, information.jensen_shannon(q, p, unit="bits"), atol=1e-15)
    assert ((js >= 0) & (js <= 1 + 1e-12)).all()
    assert np.isinf(divergence).tolist() == ((p > 0) & (q == 0)).any(axis=1).tolist()
    entropy = information.entropy(p)
    assert ((entropy >= 0) & (entropy <= np.log(6) + 1e-12)).all()
    np.testing.assert_allclose(information.perplexity(p), np.exp(entropy))


def test_divergence_of_the_smallest_float():
    """Half of it is 0: a mixture that is formed first misses it, and the divergence would be infinite."""
    js = information.jensen_shannon([5e-324, 1.0], [0.0, 1.0])
    assert 0 <= js < 1e-300
    assert information.jensen_shannon([0.0, 1.0], [1.0, 0.0], unit="bits") == 1.0


@many
@given(distributions(3, zeros=False), distributions(3, zeros=False), distributions(3, zeros=False))
def test_the_root_of_jensen_shannon_is_a_distance(p, q, r):
    def distance(a, b):
        return np.sqrt(information.jensen_shannon(a, b))

    assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-9


@some
@given(distributions(20), distributions(5, 3))
def test_mutual_information(flat, channel):
    """Equal to H(X) + H(Y) - H(X, Y) and to H(X) - H(X | Y), symmetric, and less after a channel."""
    table = flat.reshape(4, 5)
    of_x, of_y = information.entropy(table.sum(axis=1)), information.entropy(table.sum(axis=0))
    both, mutual = information.joint_entropy(table), information.mutual_information(table)
    assert mutual >= 0
    assert mutual == pytest.approx(of_x + of_y - both, abs=1e-12)
    assert mutual == pytest.approx(of_x - information.conditional_entropy(table), abs=1e-12)
    assert both == pytest.approx(of_y + information.conditional_entropy(table), abs=1e-12)  # the chain rule
    assert mutual == pytest.approx(information.mutual_information(table.T), abs=1e-12)
    assert mutual <= min(of_x, of_y) + 1e-12
    assert information.mutual_information(information.through(table, channel)) <= mutual + 1e-12


@many
@given(distributions(3), distributions(4))
def test_independent_things_tell_nothing(p, q):
    table = np.outer(p, q)
    assert information.mutual_information(table) == pytest.approx(0, abs=1e-15)
    assert information.joint_entropy(table) == pytest.approx(information.entropy(p) + information.entropy(q), abs=1e-12)


@many
@given(st.floats(-3, 3), st.floats(0.2, 3), st.floats(-3, 3), st.floats(0.2, 3))
def test_kl_of_normals_is_the_integral(mean_p, scale_p, mean_q, scale_q):
    closed = information.kl_normal(mean_p, scale_p, mean_q, scale_q)
    x = mean_p + scale_p * np.linspace(-12, 12, 4001)
    p, q = Normal(mean_p, scale_p), Normal(mean_q, scale_q)
    gap = p.log_density(x) - q.log_density(x)
    assert closed == pytest.approx(float((np.exp(p.log_density(x)) * gap).sum() * (x[1] - x[0])), abs=1e-9, rel=1e-9)
    assert closed >= 0


def test_few_pairs_look_dependent_by_chance():
    """The plug-in estimate is too large by (|X| - 1)(|Y| - 1) / 2N on average; corrected it is not."""
    rng = np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(300):
        x, y = rng.integers(0, 5, (2, 200))
        plain.append(float(information.mutual_information_of(x, y)))
        corrected.append(float(information.mutual_information_of(x, y, corrected=True)))
    assert np.mean(plain) == pytest.approx(16 / 400, rel=0.08)
    assert abs(np.mean(corrected)) < 0.004
    words = information.table_of(["a", "b", "a"], ["x", "y", "x"])
    np.testing.assert_allclose(words, [[2 / 3, 0], [0, 1 / 3]])


# --- learning


def test_the_parts_add_up_to_the_error():
    """At every degree within its interval, and over many runs as often as an interval should."""
    rng = np.random.default_rng(1)
    for degree in (0, 1, 3, 6, 10):
        parts = learning.decompose(learning.polynomial(degree), learning.wave, 0.3, 16, 300, rng)
        assert abs(parts.error - parts.total) < 4 * parts.uncertainty, degree
    scores = []
    for _ in range(200):
        parts = learning.decompose(learning.polynomial(3), learning.wave, 0.3, 12, 30, rng)
        scores.append((parts.error - parts.total) / parts.uncertainty)
    assert abs(np.mean(scores)) < 0.25
    assert 0.88 < np.std(scores) < 1.12


def test_variance_of_a_polynomial_is_that_of_theory():
    """Of least squares with fixed x it is s^2 times the mean of the hat matrix's diagonal on the grid; of a wave that it can
    nearly follow, the bias is nothing."""
    parts = learning.decompose(learning.polynomial(9), learning.wave, 0.5, 24, 3000, np.random.default_rng(0))
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, 24), 9)
    grid = np.polynomial.legendre.legvander(np.linspace(-1, 1, 100), 9)
    hat = grid @ np.linalg.pinv(basis)
    assert parts.variance == pytest.approx(0.25 * (hat**2).sum(axis=1).mean(), rel=0.03)
    assert abs(parts.bias) < 1e-3
    assert parts.noise == 0.25


def test_few_repeats_make_no_bias():
    """With three data sets at a time the parts are right on average: the scatter of their mean is not taken for bias."""
    rng = np.random.default_rng(0)
    runs = [learning.decompose(learning.polynomial(9), learning.wave, 0.5, 24, 3, rng) for _ in range(300)]
    variance = np.mean([r.variance for r in runs])
    assert variance == pytest.approx(0.0964, rel=0.06)  # s^2 times the mean of the hat matrix
    assert abs(np.mean([r.bias for r in runs])) < variance / 12  # 0.33 of it uncorrected


def test_error_falls_twice():
    widths = [20, 60, 500]
    few, even, many = learning.errors_by_width(widths, 60, 7, np.random.default_rng(0))
    assert even > 5 * few > 5 * many


# --- what is refused


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linear.svd([[1.0, np.nan]]), r"a has the value nan at \[0, 1\]: leave it out or replace it"),
        (lambda: linear.svd([1.0, 2.0]), "give a matrix"),
        (lambda: linear.svd([[1.0, 2.0], [3.0]]), "rows of equal length"),
        (lambda: linear.svd([["a"]]), "no array of real numbers"),
        (lambda: linear.svd([[1j]]), "no array of real numbers"),
        (lambda: linear.svd(np.zeros((0, 3))), "empty: give at least one number"),
        (lambda: linear.eigh([[1.0, 2.0]]), "give a square matrix"),
        (lambda: linear.eigh([[1.0, 2.0], [3.0, 4.0]]), "give a symmetric matrix"),
        (lambda: linear.cholesky([[1.0, 2.0], [2.0, 1.0]]), "add a little to its diagonal"),
        (
            lambda: linear.power_iteration([[0.0, 1.0], [1.0, 0.0]], np.random.default_rng(0), max_steps=99),
            "multiple of the",
        ),
        (
            lambda: linear.power_iteration([[0.0, -1.0], [1.0, 0.0]], np.random.default_rng(0), max_steps=99),
            "use `eigh`",
        ),
        (lambda: linear.leading_eigenpairs(np.eye(2), 3, np.random.default_rng(0)), "whole number from 1 to 2"),
        (lambda: linear.rayleigh_quotient(np.eye(2), [0.0, 0.0]), "give another vector"),
        (lambda: linear.gram_schmidt([[1.0, 2.0], [1.0, 2.0]]), "column 1 is a combination of those before"),
        (lambda: linear.gram_schmidt([[1.0, 2.0]]), "give at most 1"),
        (lambda: linear.solve_qr([[1.0, 1.0], [2.0, 2.0]], [1.0, 2.0]), "use `solve_svd`"),
        (lambda: linear.solve_qr([[1.0, 1.0]], [1.0]), "add some, or use `solve_svd`"),
        (lambda: linear.solve_qr(np.eye(3), [1.0, 2.0]), "b has 2 numbers where 3 are needed"),
        (lambda: linear.solve_upper([[1.0, 1.0], [0.0, 0.0]], [1.0, 2.0]), "no unique solution"),
        (lambda: linear.onto_line([1.0, 2.0], [0.0, 0.0]), "give a direction"),
        (lambda: linear.best_of_rank(np.eye(2), 3), "whole number from 0 to 2"),
        (lambda: linear.tail_errors([1.0, 2.0]), "from large to small"),
        (lambda: linear.power_iteration(np.eye(2), np.random.default_rng(0), max_steps=0), "max_steps is 0"),
        (lambda: linear.fit_pca(np.full((3, 2), 0.1)), "no variance to explain"),  # whose mean is not 0.1
        (lambda: linear.fit_pca([[0.0], [1e-200]]), "scale x up"),
        (lambda: linear.vector_norm([1.0], 0.5), "p of at least 1"),
        (lambda: linear.matrix_norm([[1.0]], "sup"), "take frobenius"),  # type: ignore[arg-type]
        (lambda: linear.fit_pca([[1.0, 2.0]]), "give two or more"),
        (lambda: linear.fit_pca([[1.0, 2.0], [1.0, 2.0]]), "no variance to explain"),
        (lambda: linear.fit_pca(np.eye(3), 4), "whole number from 1 to 3"),
        (lambda: linear.fit_pca(np.eye(3)).transform(np.eye(3), whiten=True), "whiten fewer components"),
        (lambda: linear.fit_pca(np.eye(3)).transform(np.eye(2)), "give the same features"),
        (lambda: probability.Normal(0.0, 0.0), "scale is 0.0: give a number above 0"),
        (lambda: probability.Normal(0.0, "wide"), "scale is no array of real numbers"),  # type: ignore[arg-type]
        (lambda: probability.Exponential(np.inf), "rate is inf: give a number above 0"),
        (lambda: probability.Binomial(np.nan, 0.5), "n has the value nan"),  # type: ignore[arg-type]
        (lambda: linear.best_of_rank(np.eye(2), 1.5), "whole number from 0 to 2"),  # type: ignore[arg-type]
        (lambda: probability.Normal(0.0, np.array([1.0, -1.0])), "give a single number"),  # type: ignore[arg-type]
        (lambda: probability.Normal([0.0, 1.0], 1.0), "location has shape"),  # type: ignore[arg-type]
        (lambda: probability.Uniform(0.0, [1.0, 2.0]), "high has shape"),  # type: ignore[arg-type]
        (lambda: probability.Bernoulli("half"), "p is no array of real numbers"),  # type: ignore[arg-type]
        (lambda: probability.Bernoulli([0.1, 0.2]), "give a single number"),  # type: ignore[arg-type]
        (lambda: probability.Categorical.fit([0], categories=0), "number of categories is 0"),
        (lambda: probability.Categorical.fit([0, 3], categories=3), "x holds 3: give numbers up to 2"),
        (lambda: probability.Categorical.fit([0, 1e12]), "number of categories is 1000000000001.0"),  # not 8 TB
        (lambda: probability.Beta.fit([0.5, 0.5 + 1e-9]), "lost in rounding"),
        (lambda: probability.berry_esseen(1.0, 0.0, 4), "deviation is 0.0"),
        (lambda: probability.update_table([[0.5, 0.5], [0.5, 0.5]], [0.1, 0.2]), "give a vector"),
        (lambda: information.kl_normal(np.nan, 1.0, 0.0, 1.0), "mean_p has the value nan"),
        (lambda: probability.Bernoulli(1.5), "from 0 to 1"),
        (lambda: probability.Binomial(0, 0.5), "whole number of at least 1"),
        (lambda: probability.Binomial.fit([1, 2]), "how many coins"),
        (lambda: probability.Binomial.fit([1, 5], n=3), "x holds 5: give whole numbers from 0 up to 3"),
        (lambda: probability.Categorical(np.array([0.5, 0.6])), "divide it by its sum"),
        (lambda: probability.Categorical(np.array([1.5, -0.5])), "probabilities are 0 or more"),
        (lambda: probability.Uniform(1.0, 1.0), "widen the interval"),
        (lambda: probability.Normal.fit([2.0, 2.0]), "two different ones"),
        (lambda: probability.Normal.fit([]), "x is empty"),
        (lambda: probability.Normal(0.0, 1.0).log_density([np.nan]), "replace it"),
        (lambda: probability.Poisson.fit([1.5]), "x holds 1.5: give whole numbers from 0"),
        (lambda: probability.Poisson.fit([0, 0]), "observe for longer"),
        (lambda: probability.Exponential.fit([0.0]), "measure them more finely"),
        (lambda: probability.Gamma.fit([0.0, 1.0]), "x holds 0: give numbers above 0"),
        (lambda: probability.Gamma.fit([1.0, 1.0 + 1e-12]), "fit a Normal"),
        (lambda: probability.Beta.fit([0.5, 1.0]), "above 0 below 1"),
        (lambda: probability.StudentT.fit(np.linspace(-1, 1, 50)), "fit a Normal"),
        (lambda: probability.StudentT.fit([1.0, 1.0, 1.0, 1.0, 1.0, 2.0]), "most values are the same"),
        (lambda: probability.MultivariateNormal.fit(np.eye(3)), "more rows than columns"),
        (lambda: probability.MultivariateNormal.fit([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), "not positive definite"),
        (lambda: probability.MultivariateNormal(np.zeros(2), np.eye(3)), "2 numbers where 3 are needed"),
        (lambda: probability.update_table([0.5, 0.5], [0.0, 0.0]), "add one that allows it"),
        (lambda: probability.update_table([0.5, 0.5], [0.1]), "1 numbers where 2 are needed"),
        (lambda: probability.update_table([0.5, 0.5], [0.1, -0.1]), "0 or more"),
        (lambda: probability.update_beta(Beta(1.0, 1.0), -1, 0), "heads is -1: give a whole number of at least 0"),
        (lambda: probability.update_normal(Normal(0.0, 1.0), [1.0], -1.0), "noise is -1.0"),
        (lambda: information.entropy([0.5, 0.4]), "p sums to 0.9"),
        (lambda: information.entropy(1.0), "the probabilities of all outcomes"),
        (lambda: information.entropy([1.0], unit="bans"), "take nats or bits"),  # type: ignore[arg-type]
        (lambda: information.kl([1.0], [0.5, 0.5]), "over the same ones"),
        (lambda: information.kl([0.5, 0.5], [0.4, 0.4]), "q sums to 0.8"),
        (lambda: information.perplexity_of([0.1]), "0 or less"),
        (lambda: information.mutual_information([0.5, 0.5]), "give a matrix"),
        (lambda: information.mutual_information([[0.5, 0.5], [0.5, 0.5]]), "table sums to 2"),
        (lambda: information.through([[0.5, 0.5]], [[1.0]]), "give one for each"),
        (lambda: information.mutual_information_of([1, 2], [1]), "of the same length"),
        (lambda: learning.polynomial(3)(np.arange(3.0), np.arange(3.0)), "lower it or add some"),
        (
            lambda: learning.decompose(learning.polynomial(1), learning.wave, 0.0, 9, 9, np.random.default_rng(0)),
            "noise is 0",
        ),
    ],
)
def test_refused_with_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- pictures


@pytest.mark.parametrize("name", DEMOS)
def test_demo_draws(name, tmp_path):
    lines = DEMOS[name].draw(tmp_path)
    assert lines
    assert all(isinstance(line, str) and "nan" not in line for line in lines)
    pictures = list(tmp_path.iterdir())
    assert pictures
    assert all(p.suffix in (".svg", ".png", ".gif") and p.stat().st_size > 2000 for p in pictures)


def test_same_bytes_each_time(tmp_path):
    runs = []
    for run in ("first", "second"):
        DEMOS["entropy"].draw(tmp_path / run)
        runs.append([p.read_bytes() for p in sorted((tmp_path / run).iterdir())])
    assert runs[0] == runs[1]
