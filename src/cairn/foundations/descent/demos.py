"""What the chapter shows in pictures: six methods on five landscapes, the same moving, and the rate that is too large.

>>> sorted(DEMOS)
['descent-animation', 'descent-methods', 'descent-rate']
"""

from pathlib import Path

import numpy as np

from cairn.foundations.demo import Demo
from cairn.foundations.descent.landscapes import LANDSCAPES, Landscape
from cairn.foundations.descent.pictures import COLORS, animate, legend, paint, trace
from cairn.foundations.descent.rates import best, bound, curvatures, measured, shrinkage
from cairn.foundations.descent.walks import METHODS, walk
from cairn.foundations.picture import new_figure, save

STEPS = 200
# 0.0001, 0.0002, 0.0005, 0.001 .. 0.5
LADDER = tuple(float(f"{digit}e{power}") for power in range(-4, 0) for digit in (1, 2, 5))


def at_its_best(land: Landscape, method: str, steps: int = STEPS) -> tuple[float, np.ndarray]:
    """A rate of LADDER and its walk: of those that never climb above their start, the one that ends lowest.

    So each method is shown as it can be. Newton's has no rate to choose: its step is 1.
    ValueError: every walk climbs.
    """
    if method == "Newton":
        return 1.0, walk(land, method, 1.0, steps)
    found = []
    for rate in LADDER:
        try:
            path = walk(land, method, rate, steps)
        except ValueError:
            continue  # off to infinity
        with np.errstate(over="ignore", invalid="ignore"):
            height = land.value(path.T)
        if height.max() <= height[0]:
            found.append((height[-1], rate, path))
    if not found:
        raise ValueError(f"on {land.name}, {method} climbs at every rate: add lower rates to LADDER")
    _, rate, path = min(found, key=lambda one: one[:2])
    return rate, path


def draw_methods(out: Path) -> list[str]:
    """Paths above, heights below, each method at its best rate; `out` gets methods.png."""
    figure, axes = new_figure(columns=len(LANDSCAPES), rows=2, size=(3.2, 3.0))
    lines = [f"height above the minimum after {STEPS} steps, each method at its best rate (in brackets)"]
    for i, land in enumerate(LANDSCAPES.values()):
        above, below = axes[i], axes[i + len(LANDSCAPES)]
        walks = {method: at_its_best(land, method) for method in METHODS}
        paint(above, land)
        trace(above, {method: path for method, (_, path) in walks.items()})
        height = {method: np.asarray(land.value(path.T)) for method, (_, path) in walks.items()}
        for method, values in height.items():
            below.plot(np.maximum(values, 1e-16), color=COLORS[method], linewidth=1)
        below.set(yscale="log", xlabel="step", ylabel="height above the minimum" if i == 0 else "", ylim=(1e-14, None))
        ends = (f"{method} {height[method][-1]:.0e} ({rate:g})" for method, (rate, _) in walks.items())
        lines.append(f"{land.name}: " + ", ".join(ends))
    legend(figure, axes[0])
    save(figure, out / "methods.png")
    return lines


def draw_animation(out: Path) -> list[str]:
    """The methods walking side by side; `out` gets descent.gif."""
    lands, frames, every = [LANDSCAPES[name] for name in ("Beale", "saddle")], 41, 3
    steps = (frames - 1) * every
    walks = [{method: at_its_best(land, method, steps)[1] for method in METHODS} for land in lands]
    path = animate(lands, walks, frames, out / "descent.gif", every)
    return [f"{frames} pictures of {len(METHODS)} methods over {steps} steps in {path.stat().st_size / 1e6:.1f} MB"]


def draw_rate(out: Path) -> list[str]:
    """Plain descent on the bowl at rates around 2 / L, with the shrinkage that theory foretells; `out` gets rate.svg."""
    land = LANDSCAPES["bowl"]
    curvature = curvatures(land, np.zeros(2))
    limit = bound(curvature)
    cases = {
        "too small: 0.1 / L": 0.05 * limit,
        "1 / L": 0.5 * limit,
        "best: 2 / (least + largest)": best(curvature),
        "at the bound: 2 / L": limit,
        "too large: 2.04 / L": 1.02 * limit,
    }
    steps = 60
    figure, axes = new_figure(columns=len(cases) + 1, size=(3.0, 2.8))
    lines = [f"bowl with curvatures {curvature[0]:g} and L = {curvature[1]:g}: the bound 2 / L is {limit:g}"]
    for i, (label, rate) in enumerate(cases.items()):
        path = walk(land, "plain", rate, steps)
        paint(axes[i], land)
        axes[i].plot(*path.T, "-o", color=f"C{i}", markersize=2, linewidth=0.9)
        axes[i].set_title(label)
        distance = np.linalg.norm(path, axis=1)
        axes[-1].plot(distance, color=f"C{i}", label=label)
        lines.append(
            f"{label} = {rate:.4f}: distance x {measured(path):.4f} per step (theory {shrinkage(rate, curvature):.4f}),"
            f" {distance[-1]:.2g} after {steps} steps"
        )
    axes[-1].set(yscale="log", xlabel="step", title="distance to the minimum")
    axes[-1].legend(fontsize=6, frameon=False)
    save(figure, out / "rate.svg")
    return lines


DEMOS = {
    "descent-methods": Demo("six ways down five landscapes, side by side", draw_methods),
    "descent-animation": Demo("the same ways, moving", draw_animation),
    "descent-rate": Demo("learning rates too small, right and too large, against the bound 2 / L", draw_rate),
}
