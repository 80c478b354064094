"""The parametric law of Hoffmann et al. (2022), their third approach: L(N, D) = E + A / N^alpha + B / D^beta.

N parameters, D tokens, L nats a token; E is what no model can know, A and B say what too small a model and too little text
cost. Fitted by Huber's loss (delta 1e-3) on log L. The first published fit stopped too early because losses were averaged
instead of summed (Besiroglu et al. 2024); here every start runs until nothing is gained, and several must agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cairn.core.errors import UserError
from cairn.planning.scaling.bootstrap import Estimate, estimate, interval, run_weights
from cairn.planning.scaling.runs import FLOPS_PER_WEIGHT, Run
from cairn.planning.scaling.solve import minimize_huber

NAMES = ("E", "A", "B", "alpha", "beta")
LEAST = len(NAMES) + 1  # runs: one more than parameters, or nothing is left to say how well they fit
EXPONENTS = (0.1, 0.25, 0.45, 0.8, 1.4)  # where the search begins, for alpha and for beta
LARGEST = 3.0  # exponent; an axis on which the runs say nothing ends here


@dataclass(frozen=True)
class Surface:
    """The law with its five numbers. flops = per_pair N D; 6 where FLOPs are counted as 6 N D."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    per_pair: float = FLOPS_PER_WEIGHT

    def loss(self, parameters: float, tokens: float) -> float:
        """Also where a size is 0 or beyond every float, as the optimum of a sample of the bootstrap can be."""
        with np.errstate(all="ignore"):
            small = np.exp(np.log(self.A) - self.alpha * np.log(parameters))
            short = np.exp(np.log(self.B) - self.beta * np.log(tokens))
        return float(self.E + small + short)

    @property
    def exponents(self) -> tuple[float, float]:
        """(a, b) of N_opt = G (C / 6)^a and D_opt = (C / 6)^b / G."""
        total = self.alpha + self.beta
        return self.beta / total, self.alpha / total

    def optimal(self, flops: float) -> tuple[float, float]:
        """The parameters and tokens that this much compute is best spent on (their equation 4):

        N = G (C / 6)^a,   D = (C / 6)^b / G,   G = (alpha A / (beta B))^(1 / (alpha + beta)),

        where both falling terms lose equally. 0 or infinite where the constants are out of all proportion.
        """
        a, b = self.exponents
        scale = math.log(self.alpha * self.A / (self.beta * self.B)) / (self.alpha + self.beta)
        pairs = math.log(flops / self.per_pair)
        with np.errstate(all="ignore"):
            return float(np.exp(scale + a * pairs)), float(np.exp(b * pairs - scale))


@dataclass(frozen=True)
class SurfaceFit:
    """The best surface, those of the bootstrap, and how far the runs lie from it.

    residuals (N,): ln observed - ln fitted. left_out (N,): the same for the fit that has not seen the run.
    """

    surface: Surface
    samples: tuple[Surface, ...]
    residuals: np.ndarray
    left_out: np.ndarray
    r2: float

    @property
    def runs(self) -> int:
        return len(self.residuals)

    def estimates(self) -> dict[str, Estimate]:
        """E, A, B, alpha, beta, and a and b of the compute-optimal N and D, with intervals."""
        best = [*(getattr(self.surface, n) for n in NAMES), *self.surface.exponents]
        rows = np.array([[*(getattr(s, n) for n in NAMES), *s.exponents] for s in self.samples])
        return {
            name: estimate(value, rows[:, i], self.runs, len(NAMES))
            for i, (name, value) in enumerate(zip((*NAMES, "a", "b"), best))
        }

    def predict(self, parameters: float, tokens: float) -> Estimate:
        """The loss of a run not seen, with the interval it falls into: the law's uncertainty and the scatter of single runs.

        The scatter is that of runs around fits that have not seen them. What no interval of this kind holds is that the law
        itself may bend beyond the runs.
        """
        rng = np.random.default_rng(23)
        law = np.log([s.loss(parameters, tokens) for s in self.samples])
        scatter = rng.choice(self.left_out - np.median(self.left_out), size=len(law))
        value = self.surface.loss(parameters, tokens)
        low, high = np.exp(interval(law + scatter, self.runs, len(NAMES)))
        return Estimate(value, min(float(low), value), max(float(high), value))

    def optimal(self, flops: float) -> tuple[Estimate, Estimate]:
        """Parameters and tokens for a budget, with intervals."""
        best = self.surface.optimal(flops)
        rows = np.array([s.optimal(flops) for s in self.samples])
        first, second = (estimate(best[i], rows[:, i], self.runs, len(NAMES)) for i in range(2))
        return first, second


def fit_surface(runs: Sequence[Run], *, delta: float = 1e-3, draws: int = 1000, seed: int = 1) -> SurfaceFit:
    """Fit the law to finished runs. Raises UserError where the runs cannot determine it."""
    n, d, loss = (np.array([getattr(run, key) for run in runs]) for key in ("parameters", "tokens", "loss"))
    if len(runs) < LEAST:
        raise UserError(f"{len(runs)} runs cannot determine a law of {len(NAMES)} parameters; give at least {LEAST}")
    for what, values in (("sizes", n), ("token counts", d)):
        if len(np.unique(values)) < 3:
            raise UserError(f"the runs have only {len(np.unique(values))} different {what}; the law needs at least 3")
    problem = _Problem(np.log(n), np.log(d), np.log(loss), delta)
    theta, cost = problem.solve(problem.starts(), np.ones((1, len(runs))))
    best = theta[np.argmin(cost)]
    problem.refuse_bounds(best)
    fitted, _ = problem.curve(best[None])
    residuals = problem.target - fitted[0]
    # Each sample, and each run left out, from where the whole fit ended and from the best start of another basin.
    sampled = problem.warm(best, run_weights(draws, len(runs), seed))
    alone = problem.warm(best, 1.0 - np.eye(len(runs)))
    unseen = problem.target - np.diagonal(problem.curve(alone)[0])
    per_pair = float(np.exp(np.mean(np.log([run.flops for run in runs]) - np.log(n) - np.log(d))))
    r2 = 1 - float(residuals @ residuals / max(((problem.target - problem.target.mean()) ** 2).sum(), 1e-300))
    samples = tuple(problem.surface(row, per_pair) for row in sampled)
    return SurfaceFit(problem.surface(best, per_pair), samples, residuals, unseen, r2)


class _Problem:
    """ln L = logsumexp(a - alpha x, b - beta y, e), with x = ln N and y = ln D counted from their means.

    From their means: far from zero, A and alpha would be all but one number to the solver.
    """

    def __init__(self, log_n: np.ndarray, log_d: np.ndarray, log_loss: np.ndarray, delta: float):
        self.n0, self.d0 = float(log_n.mean()), float(log_d.mean())
        self.x, self.y, self.target, self.delta = log_n - self.n0, log_d - self.d0, log_loss, delta
        least, most = log_loss.min(), log_loss.max()
        self.low = np.array([least - 12, least - 12, least - 7, 0.01, 0.01])
        self.high = np.array([most + 5, most + 5, least, LARGEST, LARGEST])

    def refuse_bounds(self, theta: np.ndarray) -> None:
        """Raises UserError where a falling term has ended at a bound: then the runs say nothing of it."""
        near = 1e-3 * (self.high - self.low)
        for what, term, power in (("parameters", 0, 3), ("tokens", 1, 4)):
            if theta[term] <= self.low[term] + near[term]:
                raise UserError(f"the loss does not fall with the {what} in these runs: no law can be fitted to them")
            if not self.low[power] + near[power] < theta[power] < self.high[power] - near[power]:
                raise UserError(
                    f"the runs do not determine {NAMES[power]}, it ends at its bound ({theta[power]:.3g}): the loss hardly "
                    f"falls with the {what}, or at one place alone; add runs of more sizes and lengths"
                )

    def curve(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        terms = np.stack(
            [
                theta[:, [0]] - theta[:, [3]] * self.x,
                theta[:, [1]] - theta[:, [4]] * self.y,
                np.broadcast_to(theta[:, [2]], (len(theta), len(self.x))),
            ]
        )
        top = terms.max(0)
        shares = np.exp(terms - top)
        total = shares.sum(0)
        shares /= total
        slope = np.stack([shares[0], shares[1], shares[2], -shares[0] * self.x, -shares[1] * self.y], -1)
        return top + np.log(total), slope

    def starts(self) -> np.ndarray:
        """For a pair of exponents the rest of the law is linear in E, A and B: least squares gives them."""
        loss, rows = np.exp(self.target), []
        for alpha in EXPONENTS:
            for beta in EXPONENTS:
                columns = np.stack([np.exp(-alpha * self.x), np.exp(-beta * self.y), np.ones_like(loss)], -1)
                solution = np.linalg.lstsq(columns / loss[:, None], np.ones_like(loss), rcond=None)[0]
                rows.append([*np.log(np.maximum(solution, loss.min() * 1e-3)), alpha, beta])
        return np.array(rows)

    def solve(self, starts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return minimize_huber(
            self.curve, starts, self.target, weights, delta=self.delta, low_K=self.low, high_K=self.high
        )

    def warm(self, best: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The fit under each row of weights, from the whole fit and from one with a smaller E; the better one."""
        other = best - np.array([0, 0, 1.0, 0, 0])
        problems = len(weights)
        theta, cost = self.solve(np.repeat([best, other], problems, axis=0), np.tile(weights, (2, 1)))
        second = cost[problems:] < cost[:problems]
        return np.where(second[:, None], theta[problems:], theta[:problems])

    def surface(self, theta: np.ndarray, per_pair: float) -> Surface:
        a, b, e, alpha, beta = map(float, theta)
        return Surface(math.exp(e), math.exp(a + alpha * self.n0), math.exp(b + beta * self.d0), alpha, beta, per_pair)
