"""Pictures of probability: families, likelihoods, moving belief, and averages that become normal.

>>> [name for name in DEMOS]
['distributions', 'likelihood', 'bayes', 'central-limit']
"""

from pathlib import Path

import numpy as np

from cairn.foundations.demo import Demo
from cairn.foundations.mathematics.probability.bayes import update_beta
from cairn.foundations.mathematics.probability.central_limit import berry_esseen, gap_to_normal, standardised_means
from cairn.foundations.mathematics.probability.counts import Bernoulli, Binomial, Categorical, Poisson
from cairn.foundations.mathematics.probability.distribution import Distribution
from cairn.foundations.mathematics.probability.interval import Beta, Uniform
from cairn.foundations.mathematics.probability.normal import Normal
from cairn.foundations.mathematics.probability.tails import Laplace, StudentT
from cairn.foundations.mathematics.probability.waiting import Exponential, Gamma
from cairn.foundations.picture import new_figure, save, save_animation


def draw_families(out: Path) -> list[str]:
    """Twelve families: what is drawn from each against its density, and what a fit finds back."""
    rng = np.random.default_rng(0)
    families: list[Distribution] = [
        Bernoulli(0.3),
        Binomial(10, 0.4),
        Categorical(np.array([0.1, 0.5, 0.15, 0.25])),
        Poisson(3.0),
        Normal(1.0, 2.0),
        Laplace(1.0, 1.5),
        StudentT(3.0, 1.0, 1.5),
        Uniform(-1.0, 3.0),
        Exponential(0.7),
        Gamma(3.0, 2.0),
        Beta(2.0, 5.0),
        Beta(0.5, 0.5),
    ]
    figure, axes = new_figure(columns=4, rows=3, size=(2.6, 2.0))
    lines = []
    for panel, family in zip(axes, families):
        x = family.sample(rng, 5000)
        low, high = np.quantile(x, [0.002, 0.998])
        if isinstance(family, Bernoulli | Binomial | Categorical | Poisson):
            values = np.arange(int(x.min()), int(x.max()) + 1)
            panel.bar(values, [(x == v).mean() for v in values], color="0.8")
            panel.plot(values, np.exp(family.log_density(values)), "C0o", ms=3)
        else:
            panel.hist(x, bins=60, range=(low, high), density=True, color="0.8")
            grid = np.linspace(low, high, 300)[1:-1]
            panel.plot(grid, np.exp(family.log_density(grid)), "C0")
        panel.set_title(type(family).__name__)
        found = type(family).fit(x, family.n) if isinstance(family, Binomial) else type(family).fit(x)
        if isinstance(found, Categorical):
            lines.append(f"Categorical: found {found.p.round(3).tolist()}")
        else:
            pairs = ((k, v, getattr(found, k)) for k, v in vars(family).items())
            lines.append(f"{type(family).__name__}: " + ", ".join(f"{k} {v} found {w:.3f}" for k, v, w in pairs))
    save(figure, out / "distributions.svg")
    return lines


def draw_likelihood(out: Path) -> list[str]:
    """The log-likelihood of a normal and of a gamma over their two parameters; the fit stands at the summit."""
    rng = np.random.default_rng(2)
    figure, axes = new_figure(columns=2, size=(4.2, 3.4))
    few = Normal(2.0, 1.5).sample(rng, 20)
    waits = Gamma(3.0, 2.0).sample(rng, 40)
    lines = []
    normal, gamma = Normal.fit(few), Gamma.fit(waits)
    surfaces = (
        (axes[0], Normal, few, (normal.location, normal.scale), np.linspace(0.5, 3.5, 61), np.linspace(0.8, 3.0, 61)),
        (axes[1], Gamma, waits, (gamma.shape, gamma.rate), np.linspace(1.0, 6.0, 61), np.linspace(0.5, 4.5, 61)),
    )
    for panel, family, x, best, across, up in surfaces:
        height = np.array([[family(a, b).log_likelihood(x) for a in across] for b in up])
        summit = family(*best).log_likelihood(x)
        # The region of 95 %: half of chi-squared with 2 degrees of freedom there is -ln 0.05 (Wilks).
        panel.contourf(across, up, height - summit, levels=[-40, -20, -12, -8, -5, -3, -1.5, -0.5, 0], cmap="Blues")
        panel.contour(across, up, height - summit, levels=[np.log(0.05)], colors="C1")
        panel.plot(*best, "C3*", ms=10)
        lines.append(
            f"{family.__name__}: fitted {best[0]:.4f}, {best[1]:.4f} has log-likelihood {summit:.4f}; "
            f"best on the grid {height.max():.4f}"
        )
    axes[0].set(title="20 draws of a normal", xlabel="location", ylabel="scale")
    axes[1].set(title="40 draws of a gamma", xlabel="shape", ylabel="rate")
    save(figure, out / "likelihood.svg")
    return [*lines, "the orange line encloses the parameters that 20 or 40 draws do not rule out at 95 %"]


def draw_bayes(out: Path) -> list[str]:
    """Beta posteriors of two who start from different beliefs, throw by throw."""
    throws = Bernoulli(0.7).sample(np.random.default_rng(5), 60)
    heads = np.concatenate([[0], np.cumsum(throws)])
    figure, (axes,) = new_figure(size=(5.5, 3.4))
    grid = np.linspace(0.001, 0.999, 400)
    priors = {"knows nothing": Beta(1.0, 1.0), "trusts coins": Beta(20.0, 20.0)}
    curves = {name: axes.plot(grid, grid, label=name)[0] for name in priors}
    axes.axvline(0.7, color="0.7", ls=":")
    axes.set(xlabel="share of heads", ylabel="density of belief", ylim=(0, 9))
    axes.legend(loc="upper left")

    def update(frame: int) -> None:
        n = 3 * frame
        for name, prior in priors.items():
            posterior = update_beta(prior, int(heads[n]), int(n - heads[n]))
            curves[name].set_ydata(np.exp(posterior.log_density(grid)))
        axes.set_title(f"{heads[n]} heads in {n} throws (true share 0.7)")

    save_animation(figure, update, 21, out / "bayes.gif", fps=4)
    save(figure, out / "bayes.svg")
    lines = []
    for name, prior in priors.items():
        after = update_beta(prior, int(heads[-1]), int(60 - heads[-1]))
        spread = np.sqrt(after.variance)
        lines.append(f"{name}: after {heads[-1]} heads in 60 throws {after.mean:.3f} +- {spread:.3f}")
    return lines


def draw_central_limit(out: Path) -> list[str]:
    """Means of exponential waiting times: from skewed to normal."""
    rng = np.random.default_rng(0)
    source, repeats = Exponential(1.0), 50_000
    figure, axes = new_figure(columns=4, size=(2.7, 2.6))
    grid = np.linspace(-3.5, 3.5, 200)
    for panel, n in zip(axes, (1, 4, 30)):
        panel.hist(standardised_means(source, n, repeats, rng), bins=70, range=(-3.5, 3.5), density=True, color="0.8")
        panel.plot(grid, np.exp(Normal(0.0, 1.0).log_density(grid)), "C0")
        panel.set(title=f"mean of {n}", ylim=(0, 1.0))
    # E|X - 1|^3 of an exponential is 12 / e - 2.
    sizes, third = (1, 2, 4, 8, 16, 32, 64), 12 / np.e - 2
    gaps = [gap_to_normal(standardised_means(source, n, repeats, rng)) for n in sizes]
    axes[-1].loglog(sizes, gaps, "o-", label="measured")
    axes[-1].loglog(sizes, [berry_esseen(third, 1.0, n) for n in sizes], "--", label="Berry-Esseen")
    axes[-1].set(title="largest gap to the normal", xlabel="n")
    axes[-1].legend()
    save(figure, out / "central-limit.svg")
    slope = np.polyfit(np.log(sizes), np.log(gaps), 1)[0]
    lines = [f"n {n:2}: gap {gap:.4f}, at most {berry_esseen(third, 1.0, n):.4f}" for n, gap in zip(sizes, gaps)]
    return [*lines, f"the gap falls like n^{slope:.2f}"]


DEMOS = {
    "distributions": Demo("twelve distributions: drawn, their density, and fitted", draw_families),
    "likelihood": Demo("likelihood as a landscape, and the fit at its summit", draw_likelihood),
    "bayes": Demo("Bayes' rule: belief about a coin moves with every throw (animated)", draw_bayes),
    "central-limit": Demo("averages become normal, and how fast", draw_central_limit),
}
