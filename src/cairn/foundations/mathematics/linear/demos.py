"""Pictures of linear algebra: circles and ellipses, shadows, convergence, and a photograph in few numbers.

>>> photograph().shape
(150, 128)
"""

from pathlib import Path

import numpy as np

from cairn.foundations.demo import Demo
from cairn.foundations.mathematics.linear.eigen import eigh
from cairn.foundations.mathematics.linear.jacobi import singular_values, svd
from cairn.foundations.mathematics.linear.low_rank import tail_errors
from cairn.foundations.mathematics.linear.norms import vector_norm
from cairn.foundations.mathematics.linear.orthonormal import gram_schmidt, householder_qr
from cairn.foundations.mathematics.linear.pca import fit_pca
from cairn.foundations.mathematics.linear.power import power_iteration
from cairn.foundations.mathematics.linear.projections import onto_line, onto_subspace
from cairn.foundations.picture import new_figure, save

ROUNDING = float(np.finfo(float).eps)


def photograph() -> np.ndarray:
    """(150, 128): grey values from 0 to 1 of the portrait of Grace Hopper that comes with matplotlib, 4 x 4 pixels averaged."""
    from matplotlib import cbook
    from matplotlib.image import imread

    pixels = imread(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))[:600].mean(axis=2) / 255
    return pixels.reshape(150, 4, 128, 4).mean(axis=(1, 3))


def draw_norms(out: Path) -> list[str]:
    """Unit circles of three norms, and what a matrix makes of the round one."""
    figure, (left, right) = new_figure(columns=2)
    angle = np.linspace(0, 2 * np.pi, 401)
    circle_2T = np.array([np.cos(angle), np.sin(angle)])
    for p in (1.0, 2.0, np.inf):
        length_T = np.array([vector_norm(x, p) for x in circle_2T.T])
        left.plot(*(circle_2T / length_T), label=f"p = {p:g}")
    left.set(title="all vectors of p-norm 1", aspect="equal")
    left.legend(loc="center")
    a = np.array([[1.5, 1.0], [0.2, 0.9]])
    u, s, vt = svd(a)
    right.plot(*circle_2T, color="0.7")
    right.plot(*(a @ circle_2T))
    for k, colour in enumerate(("C1", "C2")):
        right.annotate("", vt[k], (0, 0), arrowprops={"arrowstyle": "->", "color": colour, "linestyle": "--"})
        right.annotate("", s[k] * u[:, k], (0, 0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 2})
    right.set(title="A turns v (dashed) into s u (bold)", aspect="equal")
    save(figure, out / "norms.svg")
    stretch = np.linalg.norm(a @ circle_2T, axis=0)
    return [
        f"singular values {s[0]:.4f} and {s[1]:.4f}; condition number {s[0] / s[1]:.3f}",
        f"longest and shortest image of 401 unit vectors: {stretch.max():.4f} and {stretch.min():.4f}",
    ]


def draw_projections(out: Path) -> list[str]:
    """A vector's shadow on a line, and a fitted line as a shadow in a space of as many dimensions as points."""
    figure, (left, right) = new_figure(columns=2)
    a, b = np.array([2.0, 1.0]), np.array([1.0, 2.2])
    p = onto_line(b, a)
    left.axline((0, 0), tuple(a), color="0.7")
    for name, tip, colour in (("b", b, "C0"), ("p", p, "C1")):
        left.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 2})
        left.text(tip[0] + 0.06, tip[1] + 0.04, name, color=colour)
    left.plot(*np.array([p, b]).T, "C3--", label="b - p")
    left.set(title="p is the point of the line nearest to b", xlim=(-0.3, 2.6), ylim=(-0.3, 2.6), aspect="equal")
    left.legend()
    x = np.arange(8.0)
    y = 1 + 0.5 * x + np.random.default_rng(4).standard_normal(8)
    fitted = onto_subspace(y, np.stack([np.ones(8), x], axis=1))
    right.plot(x, y, "C0o", label="y")
    right.plot(x, fitted, "C1", label="projection of y on span(1, x)")
    right.vlines(x, fitted, y, "C3", linestyles="--")
    right.set(title="least squares is a projection", xlabel="x")
    right.legend()
    save(figure, out / "projections.svg")
    return [
        f"(b - p) . a = {(b - p) @ a:.1e}: a right angle",
        f"residuals . 1 = {(y - fitted).sum():.1e}, residuals . x = {(y - fitted) @ x:.1e}",
    ]


def draw_orthogonality(out: Path) -> list[str]:
    """How perpendicular three algorithms leave columns that are more and more alike."""
    figure, (axes,) = new_figure(size=(6, 3.6))
    rng = np.random.default_rng(0)
    algorithms = {
        "classical Gram-Schmidt": lambda a: gram_schmidt(a, modified=False),
        "modified Gram-Schmidt": gram_schmidt,
        "Householder": householder_qr,
    }
    conditions = 10.0 ** np.arange(0, 14)
    lost: dict[str, list[float]] = {name: [] for name in algorithms}
    for condition in conditions:
        u, _ = householder_qr(rng.standard_normal((40, 12)))
        v, _ = householder_qr(rng.standard_normal((12, 12)))
        a = u * np.geomspace(1, 1 / condition, 12) @ v.T
        for name, algorithm in algorithms.items():
            q, _ = algorithm(a)
            lost[name].append(float(np.linalg.norm(q.T @ q - np.eye(12), 2)))
    for name, values in lost.items():
        axes.loglog(conditions, values, "o-", label=name)
    axes.loglog(conditions, ROUNDING * conditions, "0.7", ls=":", label="rounding x condition")
    axes.loglog(
        conditions, np.minimum(ROUNDING * conditions**2, 10), "0.7", ls="--", label="rounding x condition squared"
    )
    axes.set(xlabel="condition number", ylabel="|Q'Q - I|", title="orthogonality lost")
    axes.legend(fontsize=7)
    save(figure, out / "orthogonality.svg")
    return [f"{name}: |Q'Q - I| = {values[10]:.1e} at condition 1e10" for name, values in lost.items()]


def draw_power(out: Path) -> list[str]:
    """How fast power iteration comes to the first eigenvector, by the ratio of the first two eigenvalues."""
    figure, (left, right) = new_figure(columns=2, size=(4.4, 3.4))
    lines = []
    for colour, ratio in enumerate((0.3, 0.7, 0.95)):
        rng = np.random.default_rng(1)
        q, _ = householder_qr(rng.standard_normal((30, 30)))
        a = q * np.concatenate([[1.0, ratio], np.linspace(0.9 * ratio, 0.0, 28)]) @ q.T
        residuals = np.array(power_iteration(a, rng, tolerance=1e-13, max_steps=2000).residuals)
        steps = np.arange(len(residuals))
        left.semilogy(steps, residuals, f"C{colour}", label=f"ratio {ratio}")
        start = len(steps) // 2
        left.semilogy(steps, residuals[start] * ratio ** (steps - start), "k:", lw=1)
        late = residuals[start : start + len(steps) // 3]
        slope = np.exp(np.polyfit(np.arange(len(late)), np.log(late), 1)[0])
        lines.append(f"ratio {ratio}: {len(steps)} steps, the residual shrinks by {slope:.4f} a step")
    left.set(title="|Av - lv|; dotted: ratio^k", xlabel="step", xlim=(0, 150), ylim=(1e-15, 1))
    left.legend()
    a = np.array([[2.0, 0.8], [0.8, 1.0]])
    v = np.array([-0.45, 1.0]) / np.hypot(0.45, 1.0)
    for step in range(8):
        right.annotate("", v, (0, 0), arrowprops={"arrowstyle": "->", "color": str(0.85 - 0.12 * step)})
        v = a @ v / np.linalg.norm(a @ v)
    direction = eigh(a)[1][:, 1]
    right.axline((0, 0), tuple(direction), color="C3", ls=":", label="first eigenvector")
    right.set(title="a vector turns into it, pale to dark", xlim=(-0.6, 1.1), ylim=(-0.4, 1.1), aspect="equal")
    right.legend(loc="lower right")
    save(figure, out / "power-iteration.svg")
    return lines


def draw_low_rank(out: Path) -> list[str]:
    """A photograph from its first few singular vectors."""
    pixels = photograph()
    u, s, vt = svd(pixels)
    ranks = (1, 5, 15, 40)
    figure, axes = new_figure(columns=3, rows=2, size=(2.6, 2.9))
    lines, tails = [], tail_errors(s)
    for panel, k in zip(axes, (*ranks, len(s))):
        copy = u[:, :k] * s[:k] @ vt[:k]
        panel.imshow(copy, cmap="gray", vmin=0, vmax=1)
        panel.set_axis_off()
        share = k * (sum(pixels.shape) + 1) / pixels.size
        panel.set_title(f"rank {k}" if k < len(s) else "the photograph")
        if k < len(s):
            error = np.linalg.norm(pixels - copy)
            lines.append(
                f"rank {k:2}: {share:.0%} of the numbers, distance {error:.6f} "
                f"(tail of the singular values {tails[k]:.6f}), {error / tails[0]:.1%} of the whole"
            )
    axes[-1].semilogy(s / s[0])
    axes[-1].semilogy(tails[:-1] / tails[0], "--")
    axes[-1].set(title="singular values; tail (dashed)", xlabel="rank", ylim=(1e-4, 1.2))
    save(figure, out / "low-rank.png")
    return lines


def draw_small(out: Path) -> list[str]:
    """Three ways to singular values whose smallness comes from the scale of columns, in order and shuffled."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((40, 20)) * 10.0 ** -np.arange(0, 20)
    shuffled = a[:, rng.permutation(20)]  # the same singular values on paper
    ways = {
        "one-sided Jacobi (ours)": singular_values,
        "LAPACK (numpy.linalg.svd)": lambda x: np.linalg.svd(x, compute_uv=False),
        "roots of the eigenvalues of A'A": lambda x: np.sqrt(np.maximum(np.linalg.eigvalsh(x.T @ x)[::-1], 0)),
    }
    figure, (axes,) = new_figure(size=(6, 3.6))
    reference, lines = singular_values(a), []
    for (name, way), style in zip(ways.items(), ("o-", "x-", "+-")):
        values = way(shuffled)
        wrong = np.abs(values / reference - 1)
        axes.loglog(reference, np.maximum(wrong, ROUNDING / 4), style, label=name)
        lines.append(
            f"{name}: the smallest of 20 is {values[-1]:.3e}, {int((wrong < 1e-6).sum())} of them right to 6 digits"
        )
    axes.set(xlabel="singular value", title="relative error, columns scaled by 1 ... 1e-19 and shuffled")
    axes.set_ylim(1e-17, 1e10)
    axes.invert_xaxis()
    axes.legend()
    save(figure, out / "small-singular-values.svg")
    return [*lines, f"Jacobi, columns in order: the smallest is {reference[-1]:.3e}"]


def draw_pca(out: Path) -> list[str]:
    """The directions of a cloud, and those of the 8 x 8 patches of a photograph."""
    rng = np.random.default_rng(3)
    cloud = rng.standard_normal((400, 2)) * [2.0, 0.6] @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + [1.0, -1.0]
    pixels = photograph()
    patches = np.lib.stride_tricks.sliding_window_view(pixels, (8, 8))[::3, ::3].reshape(-1, 64)
    pca = fit_pca(patches)
    figure, axes = new_figure(columns=3, rows=1, size=(3.4, 3.4))
    plane = fit_pca(cloud)
    axes[0].plot(*cloud.T, ".", ms=3, color="C0", alpha=0.5)
    white = plane.transform(cloud, whiten=True) + plane.mean
    axes[0].plot(*white.T, ".", ms=2, color="0.5", alpha=0.5)
    for direction, deviation in zip(plane.components, np.sqrt(plane.variance)):
        tip = plane.mean + 2 * deviation * direction
        axes[0].annotate("", tip, plane.mean, arrowprops={"arrowstyle": "->", "color": "C3", "lw": 2})
    axes[0].set(title="a cloud; grey: whitened", aspect="equal")
    tiles = np.full((4 * 9 - 1, 6 * 9 - 1), np.nan)
    for i, component in enumerate(pca.components[:24]):
        row, column = divmod(i, 6)
        tiles[9 * row : 9 * row + 8, 9 * column : 9 * column + 8] = component.reshape(8, 8) / np.abs(component).max()
    axes[1].imshow(tiles, cmap="gray")
    axes[1].set_axis_off()
    axes[1].set_title("24 components of 8 x 8 patches")
    axes[2].plot(np.arange(1, 65), np.cumsum(pca.explained), ".-")
    axes[2].set(title="variance explained", xlabel="components", ylim=(0, 1.02))
    save(figure, out / "principal-components.png")
    lines = [f"{len(patches)} patches of 64 numbers, all components explain {pca.explained.sum():.6f}"]
    for k in (1, 4, 16):
        kept = fit_pca(patches, k)
        missed = ((patches - kept.reconstruct(kept.transform(patches))) ** 2).sum() / (len(patches) - 1) / pca.total
        lines.append(f"{k:2} components explain {kept.explained.sum():.2%}; their reconstruction misses {missed:.2%}")
    return lines


DEMOS = {
    "norms": Demo("norms, and the circle that a matrix turns into an ellipse", draw_norms),
    "projections": Demo("projection on a line, and least squares as a projection", draw_projections),
    "orthogonality": Demo("what Gram-Schmidt loses on nearly dependent columns, and mirrors keep", draw_orthogonality),
    "power-iteration": Demo("power iteration: convergence by the ratio of the first two eigenvalues", draw_power),
    "low-rank": Demo("a photograph from few singular vectors: the best copy of each rank", draw_low_rank),
    "small-singular-values": Demo("singular values of 1e-19, found and lost", draw_small),
    "principal-components": Demo("principal components of a cloud and of a photograph's patches", draw_pca),
}
