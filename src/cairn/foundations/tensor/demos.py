"""What the chapter shows in pictures: how well finite differences can check, a network that solves an equation, curvature.

>>> sorted(DEMOS)
['tensor-equation', 'tensor-gradcheck', 'tensor-sharpness']
"""

from pathlib import Path
from typing import Any

import numpy as np

from cairn.foundations.demo import Demo
from cairn.foundations.picture import new_figure, save
from cairn.foundations.tensor.derivatives import hessian, jacobian
from cairn.foundations.tensor.shapes import concatenate
from cairn.foundations.tensor.tensor import Tensor, grad


def draw_gradcheck(out: Path) -> list[str]:
    """Error of finite differences against the step, one-sided and central, in float64 and float32; gradcheck.svg."""
    x = np.linspace(0.2, 2.0, 50)
    steps = 10.0 ** np.arange(-15, 0.01, 0.25)
    figure, (axis,) = new_figure(size=(5.5, 3.8))
    lines = ["smallest error of a numeric derivative of exp(sin(x^2)), and the step where it is"]

    def f(x):
        return (x * x).sin().exp() if isinstance(x, Tensor) else np.exp(np.sin(x * x))

    leaf = Tensor(x, requires_grad=True)
    (exact,) = grad(f(leaf).sum(), [leaf])
    for dtype, style in ((np.float64, "-"), (np.float32, "--")):
        z = x.astype(dtype)
        for name, color in (("one-sided", "tab:orange"), ("central", "tab:blue")):
            errors = []
            for step in steps.astype(dtype):
                below = z if name == "one-sided" else z - step
                slope = (f(z + step) - f(below)) / ((z + step) - below + np.finfo(dtype).tiny)
                errors.append(np.abs(slope - exact.data).max())
            axis.loglog(steps, errors, style, color=color, label=f"{name}, {dtype.__name__}")
            best = int(np.argmin(errors))
            lines.append(f"{name}, {dtype.__name__}: {errors[best]:.0e} at a step of {steps[best]:.0e}")
    axis.set(xlabel="step", ylabel="largest error of the derivative", ylim=(1e-12, 1e2))
    axis.set_title("Rounding on the left, bending on the right")
    axis.legend(fontsize=8)
    save(figure, out / "gradcheck.svg")
    return lines


class Curve:
    """A network of one number: 1-24-24-1 with tanh. Its parameters are one vector, as Hessians and Jacobians like them."""

    sizes = ((1, 24), (24, 24), (24, 1))

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        parts = []
        for a, b in self.sizes:
            # Units of the first layer bend at different places.
            parts += [rng.normal(size=a * b) * (2.0 if a == 1 else a**-0.5), rng.normal(size=b) * (a == 1)]
        self.start = np.concatenate(parts)

    def __call__(self, theta_P: Tensor, x_N1: Tensor) -> Tensor:
        """(N, 1)."""
        place = 0
        for a, b in self.sizes:
            weight, bias = theta_P[place : place + a * b].reshape(a, b), theta_P[place + a * b : place + (a + 1) * b]
            x_N1 = (x_N1 if a == 1 else x_N1.tanh()) @ weight + bias
            place += (a + 1) * b
        return x_N1


def draw_equation(out: Path) -> list[str]:
    """A network finds u with u'' = -u, u(0) = 0 and u'(0) = 1 without being shown a sine; equation.svg.

    What is made small are the equation's remainders r at 33 places, which contain second derivatives of the network by x; their
    derivatives by its parameters are third ones. Each step solves (J^T J + damping) d = J^T r (Levenberg-Marquardt), written
    with J J^T, which is smaller.
    """
    net = Curve(1)
    x_N1 = np.linspace(0, 2 * np.pi, 33)[:, None]

    def network(theta: Tensor, x: Any) -> Tensor:
        return net(theta, (x - np.pi) / 1.5)

    def remainders(theta: Tensor) -> Tensor:
        x = Tensor(x_N1, requires_grad=True)
        u = network(theta, x)
        # A result belongs to one x alone, so the gradient of their sum is the derivative at each.
        (slope,) = grad(u.sum(), [x], create_graph=True)
        (bend,) = grad(slope.sum(), [x], create_graph=True)
        return concatenate([(bend + u)[:, 0], 5 * u[0], 5 * (slope[0] - 1)])

    theta, damping = net.start, 0.01
    r = remainders(Tensor(theta)).data
    figure, axes = new_figure(columns=2, size=(4.4, 3.2))
    errors = []
    for step in range(21):
        u = network(Tensor(theta), x_N1).data
        errors.append(np.abs(u - np.sin(x_N1)).max())
        if step in (0, 2, 4, 6, 20):
            axes[0].plot(x_N1, u, label=f"step {step}")
        j = jacobian(remainders, theta)
        for _ in range(30):
            change = j.T @ np.linalg.solve(j @ j.T + damping * np.eye(len(r)), r)
            new = remainders(Tensor(theta - change)).data
            if new @ new < r @ r:
                theta, r, damping = theta - change, new, damping / 4
                break
            damping *= 5
    axes[0].plot(x_N1, np.sin(x_N1), "k:", label="sin x")
    axes[0].set(xlabel="x", ylabel="u(x)", title="u'' = -u, u(0) = 0, u'(0) = 1", ylim=(-2, 2.5))
    axes[0].legend(fontsize=8)
    axes[1].semilogy(errors)
    axes[1].set(xlabel="step", ylabel="largest distance to sin x")
    save(figure, out / "equation.svg")
    return [
        "distance to the sine that it was never shown, at the start and after 5, 10 and 20 steps:",
        ", ".join(f"{errors[step]:.1e}" for step in (0, 5, 10, 20)),
    ]


def draw_sharpness(out: Path) -> list[str]:
    """Full-batch gradient descent climbs to where its steps only just hold (Cohen et al. 2021); sharpness.svg.

    A step of size s across a valley of curvature c overshoots when s c > 2. Training makes valleys narrower until the largest
    eigenvalue of the Hessian is 2 / s, and then goes on along that edge.
    """
    net = Curve(0)
    x_N1 = np.linspace(-3, 3, 24)[:, None]
    goal_N1 = np.sin(1.7 * x_N1) * np.exp(-(x_N1**2) / 8)

    def loss(theta: Tensor) -> Tensor:
        return ((net(theta, Tensor(x_N1)) - goal_N1) ** 2).mean()

    figure, axes = new_figure(columns=3, size=(3.6, 3.2))
    lines = ["rate: loss, largest curvature, and the 2 / rate that steps hold, after 2000 steps"]
    theta = net.start
    for rate, color in ((0.06, "tab:blue"), (0.08, "tab:orange"), (0.1, "tab:green")):
        theta = net.start.copy()
        direction = np.ones_like(theta)
        seen = []
        for step in range(2001):
            parameters = Tensor(theta, requires_grad=True)
            value = loss(parameters)
            value.backward(retain_graph=step % 50 == 0)
            if step % 50 == 0:
                curvature, direction = largest_curvature(value, parameters, direction)
                seen.append((step, value.item(), curvature))
            theta -= rate * parameters.grad
        steps, losses, curvatures = zip(*seen)
        axes[0].semilogy(steps, losses, color=color, label=f"rate {rate}")
        axes[1].plot(steps, curvatures, color=color)
        axes[1].axhline(2 / rate, color=color, linestyle=":")
        lines.append(f"{rate}: {losses[-1]:.4f}, {curvatures[-1]:.2f}, {2 / rate:.2f}")
    spectrum = np.linalg.eigvalsh(hessian(loss, theta))
    axes[0].set(xlabel="step", ylabel="loss")
    axes[0].legend(fontsize=8)
    axes[1].set(xlabel="step", ylabel="largest curvature; dotted: 2 / rate")
    axes[2].semilogy(np.sort(np.abs(spectrum))[::-1], ".", markersize=3)
    axes[2].set(
        xlabel="direction",
        ylabel="|curvature|",
        title=f"all {len(spectrum)} at the end, rate {rate}",
        ylim=(1e-12, None),
    )
    save(figure, out / "sharpness.svg")
    flat = np.mean(np.abs(spectrum) < 1e-3 * spectrum[-1])
    return [*lines, f"of {len(spectrum)} directions {flat:.0%} are a thousand times flatter than the steepest"]


def largest_curvature(loss: Tensor, theta: Tensor, direction: np.ndarray) -> tuple[float, np.ndarray]:
    """Largest eigenvalue of the Hessian and its direction, by power iteration from the one given.

    The Hessian is never made: its product with v is the gradient of (gradient . v), one walk through the graph.
    """
    (g,) = grad(loss, [theta], create_graph=True)
    curvature = 0.0
    for _ in range(20):
        (product,) = grad((g * direction).sum(), [theta], retain_graph=True)
        curvature = float(np.linalg.norm(product.data) / np.linalg.norm(direction))
        direction = product.data / np.linalg.norm(product.data)
    return curvature, direction


DEMOS = {
    "tensor-gradcheck": Demo("finite differences: how small an error they can see, and at which step", draw_gradcheck),
    "tensor-equation": Demo("a network finds the sine from u'' = -u alone (third derivatives)", draw_equation),
    "tensor-sharpness": Demo("gradient descent at the edge of stability, by Hessians", draw_sharpness),
}
