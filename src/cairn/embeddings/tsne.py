"""t-SNE: points on a plane that keep who is near whom (van der Maaten & Hinton 2008).

Exact: all pairs are compared, so it is for up to a few thousand points. Names carry shapes: N points, D dimensions.
"""

import numpy as np

STEPS, EXAGGERATED = 1000, 250  # of which the first pull neighbours together more strongly
EXAGGERATION = 12.0
PERPLEXITY_STEPS = 64  # halvings; the width is then as exact as float64 is
SMALLEST = 1e-12  # probabilities are kept above this, for their logarithms


def squared_distances(x_ND: np.ndarray) -> np.ndarray:
    """float64[N, N].

    >>> squared_distances(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist()
    [[0.0, 25.0], [25.0, 0.0]]
    """
    squares_N = np.einsum("nd,nd->n", x_ND, x_ND)
    distances_NN = np.maximum(squares_N[:, None] + squares_N[None, :] - 2 * x_ND @ x_ND.T, 0.0)
    np.fill_diagonal(distances_NN, 0.0)
    return distances_NN


def neighbour_probabilities(x_ND: np.ndarray, perplexity: float) -> np.ndarray:
    """p_ij = (p_j|i + p_i|j) / 2N, where p_j|i falls with the squared distance as a Gaussian around i does.

    Each Gaussian is as wide as makes exp(entropy of p_.|i) the perplexity: every point has about so many neighbours. The
    width is found by bisection for all points at once.
    """
    count = len(x_ND)
    distances_NN = squared_distances(x_ND)
    distances_NN /= distances_NN.mean() or 1.0  # so that the bisection begins at the right size
    np.fill_diagonal(distances_NN, np.inf)
    low_N, high_N, beta_N = np.zeros(count), np.full(count, np.inf), np.ones(count)
    nearest_N1 = distances_NN.min(axis=1, keepdims=True)
    for _ in range(PERPLEXITY_STEPS):
        p_NN = np.exp(-(distances_NN - nearest_N1) * beta_N[:, None])
        p_NN /= p_NN.sum(axis=1, keepdims=True)
        entropy_N = -(p_NN * np.log(np.maximum(p_NN, SMALLEST))).sum(axis=1)
        wide_N = entropy_N > np.log(perplexity)
        low_N, high_N = np.where(wide_N, beta_N, low_N), np.where(wide_N, high_N, beta_N)
        beta_N = np.where(np.isinf(high_N), 2 * beta_N, (low_N + np.minimum(high_N, 1e300)) / 2)
    return np.maximum((p_NN + p_NN.T) / (2 * count), SMALLEST)


def divergence_and_gradient(p_NN: np.ndarray, y_N2: np.ndarray) -> tuple[float, np.ndarray]:
    """KL(p || q) and its gradient, where q_ij is proportional to 1 / (1 + |y_i - y_j|^2): Student's t has room far away.

    dKL / dy_i = 4 sum_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|^2)
    """
    t_NN = 1 / (1 + squared_distances(y_N2))
    np.fill_diagonal(t_NN, 0.0)
    q_NN = np.maximum(t_NN / t_NN.sum(), SMALLEST)
    pull_NN = (p_NN - q_NN) * t_NN
    gradient_N2 = 4 * (pull_NN.sum(axis=1)[:, None] * y_N2 - pull_NN @ y_N2)
    apart_NN = p_NN * np.log(p_NN / q_NN)
    np.fill_diagonal(apart_NN, 0.0)
    return float(apart_NN.sum()), gradient_N2


def tsne(x_ND: np.ndarray, perplexity: float = 30.0, start_N2: np.ndarray | None = None) -> np.ndarray:
    """float64[N, 2]. Begins at `start_N2` (the first two principal components, say), so that the same comes out each time.

    The perplexity is at most a third of the points. Descent with momentum, and a gain for each coordinate that grows while
    it keeps its direction, as in the authors' program.
    """
    x_ND = np.asarray(x_ND, np.float64)
    if len(x_ND) < 4:
        raise ValueError(f"t-SNE needs four points or more, got {len(x_ND)}")
    p_NN = neighbour_probabilities(x_ND, max(1.5, min(perplexity, (len(x_ND) - 1) / 3)))
    y_N2 = np.asarray(x_ND[:, :2] if start_N2 is None else start_N2, np.float64).copy()
    y_N2 *= 1e-4 / (y_N2[:, 0].std() or 1.0)
    rate = max(len(x_ND) / EXAGGERATION / 4, 50.0)  # Belkina et al. 2019
    velocity_N2, gains_N2 = np.zeros_like(y_N2), np.ones_like(y_N2)
    for step in range(STEPS):
        early = step < EXAGGERATED
        _, gradient_N2 = divergence_and_gradient(p_NN * EXAGGERATION if early else p_NN, y_N2)
        turned_N2 = np.sign(gradient_N2) == np.sign(velocity_N2)
        gains_N2 = np.maximum(np.where(turned_N2, gains_N2 * 0.8, gains_N2 + 0.2), 0.01)
        velocity_N2 = (0.5 if early else 0.8) * velocity_N2 - rate * gains_N2 * gradient_N2
        y_N2 += velocity_N2
        y_N2 -= y_N2.mean(axis=0)
    return y_N2
