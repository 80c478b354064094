"""The demonstrations of this chapter: `cairn foundations demo NAME --out DIR` draws one.

>>> sorted(DEMOS)
['activations', 'augmentation', 'diagnostics', 'initialisers', 'schedules']
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cairn.foundations.data import load_digits
from cairn.foundations.demo import Demo
from cairn.foundations.network import augmentation, initialisers, schedules
from cairn.foundations.network.activations import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from cairn.foundations.network.dense import Dense
from cairn.foundations.network.diagnostics import Watch
from cairn.foundations.network.diagnostics_picture import draw_row
from cairn.foundations.network.fit import accuracy, fit, predict
from cairn.foundations.network.layer import Layer, Sequential
from cairn.foundations.network.losses import cross_entropy
from cairn.foundations.network.optimizers import SGD
from cairn.foundations.picture import new_figure, save
from cairn.foundations.tensor import Tensor


def activations(out: Path) -> list[str]:
    """Each activation and its slope."""
    layers = [ReLU(), LeakyReLU(0.1), GELU(), SiLU(), Softplus(), Sigmoid(), Tanh()]
    figure, axes = new_figure(columns=4, rows=2, size=(2.6, 2.2))
    lines = []
    for panel, layer in zip(axes, layers):
        x = Tensor(np.linspace(-4, 4, 401), requires_grad=True)
        y = layer(x)
        y.backward(np.ones(401))
        assert x.grad is not None
        panel.plot(x.data, y.data, label="value")
        panel.plot(x.data, x.grad, linestyle="--", label="slope")
        panel.set(title=type(layer).__name__, ylim=(-1.2, 2.5))
        lines.append(f"{type(layer).__name__:<10} largest slope {x.grad.max():.3f}, at -4 {x.grad[0]:.4f}")
    axes[0].legend(frameon=False)
    axes[-1].axis("off")
    return [*lines, str(save(figure, out / "activations.svg"))]


def rates(out: Path) -> list[str]:
    """The factor on the learning rate over 100 steps."""
    steps = 100
    shown = {
        "step decay": schedules.step_decay(30, 0.5),
        "exponential": schedules.exponential(0.97),
        "linear": schedules.linear(steps),
        "cosine": schedules.cosine(steps),
        "warm-up, then cosine": schedules.warm_up(10, then=schedules.cosine(steps - 10)),
        "one cycle": schedules.one_cycle(steps),
    }
    figure, axes = new_figure(columns=3, rows=2, size=(2.8, 2.0))
    for panel, (name, schedule) in zip(axes, shown.items()):
        panel.plot([schedule(step) for step in range(steps)])
        panel.set(title=name, ylim=(-0.03, 1.05), xlabel="step")
    halves = [f"{name:<22} mean factor {np.mean([s(i) for i in range(steps)]):.3f}" for name, s in shown.items()]
    return [*halves, str(save(figure, out / "schedules.svg"))]


def spreads(out: Path) -> list[str]:
    """How large signals are after each of 30 layers of ReLUs, by how the weights began."""
    makers: dict[str, Callable[..., np.ndarray]] = {
        "normal, 0.02": initialisers.normal,
        "normal, 0.2": lambda shape, rng: initialisers.normal(shape, rng, 0.2),
        "Xavier": initialisers.xavier_normal,
        "He": initialisers.he_normal,
        "orthogonal, gain sqrt 2": lambda shape, rng: initialisers.orthogonal(shape, rng, 2**0.5),
    }
    figure, (panel,) = new_figure(size=(5.5, 3.5))
    lines = []
    for name, make in makers.items():
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 128))
        sizes = [1.0]
        for _ in range(30):
            x = np.maximum(x @ make((128, 128), rng).T, 0)
            sizes.append(float(np.sqrt((x**2).mean())))
        panel.plot(sizes, label=name)
        lines.append(f"{name:<24} size after 30 layers: {sizes[-1]:.1e}")
    panel.set(yscale="log", xlabel="layer", ylabel="root mean square", title="30 layers of 128 ReLUs")
    panel.legend(frameon=False)
    return [*lines, str(save(figure, out / "initialisers.svg"))]


def augmented(out: Path) -> list[str]:
    """One digit, six times each way."""
    digit_CHW = load_digits().train_x[7]
    x_BCHW = np.repeat(digit_CHW[None], 6, axis=0)
    rng = np.random.default_rng(1)
    rows = {
        "as it is": x_BCHW,
        "shift": augmentation.shift(x_BCHW, rng, 2),
        "rotate": augmentation.rotate(x_BCHW, rng, 30),
        "zoom": augmentation.zoom(x_BCHW, rng, 0.3),
        "flip": augmentation.flip(x_BCHW, rng),
        "cutout": augmentation.cutout(x_BCHW, rng, 4),
        "noise": augmentation.noise(x_BCHW, rng, 0.15),
    }
    others = load_digits().train_x[:100]  # among so many, a digit's partner is almost always another one
    rows["mixup"] = augmentation.mixup(np.concatenate([x_BCHW, others]), np.eye(106), rng, alpha=1.0)[0][:6]
    figure, axes = new_figure(rows=len(rows), size=(5.0, 0.9))
    for panel, (name, pictures) in zip(axes, rows.items()):
        # side by side, with a grey line between
        strip = np.concatenate(
            [np.pad(picture[0], ((0, 0), (0, 1)), constant_values=0.5) for picture in pictures], axis=1
        )
        panel.imshow(strip, cmap="gray_r", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
        panel.set_ylabel(name, rotation=0, ha="right", va="center")
    figure.suptitle("augmentation: the same digit, seen again")
    moved = [f"{name:<9} mean change of a pixel {np.abs(x - x_BCHW).mean():.3f}" for name, x in rows.items()]
    return [*moved[1:], str(save(figure, out / "augmentation.png"))]


def faults(out: Path) -> list[str]:
    """A healthy network and three with a planted fault, measured while they learn digits."""
    split = load_digits()
    inputs = split.train_x.reshape(len(split.train_x), -1).astype(np.float64)

    def deep(bend: type[Layer], make: initialisers.Initialiser, seed: int) -> Sequential:
        rng = np.random.default_rng(seed)
        layers: list[Layer] = [Dense(64, 64, rng, initialiser=make), bend()]
        for _ in range(4):
            layers += [Dense(64, 64, rng, initialiser=make), bend()]
        return Sequential(*layers, Dense(64, 10, rng, initialiser=initialisers.xavier_normal))

    def large(shape, rng: np.random.Generator) -> np.ndarray:
        return initialisers.normal(shape, rng, 1.0)

    runs = {
        "healthy (ReLU, He)": (deep(ReLU, initialisers.he_normal, 0), 0.05),
        "vanishing (sigmoid)": (deep(Sigmoid, initialisers.xavier_normal, 0), 0.05),
        "saturated (tanh, weights of 1)": (deep(Tanh, large, 0), 0.05),
        "dying (ReLU, rate of 3)": (deep(ReLU, initialisers.he_normal, 0), 3.0),
    }
    figure, axes = new_figure(columns=4, rows=len(runs), size=(3.7, 2.6))
    lines = []
    for i, (name, (model, lr)) in enumerate(runs.items()):
        watch = Watch(model, every=3)
        optimizer = SGD(model.parameters(), lr=lr)
        fit(
            model, cross_entropy, optimizer, inputs, split.train_y,
            epochs=3, batch_size=32, rng=np.random.default_rng(0), clip=1.0 if lr > 1 else None, watch=watch,
        )  # fmt: skip
        draw_row(watch, axes[4 * i : 4 * i + 4], name)
        outputs = predict(model, split.validation_x.reshape(len(split.validation_x), -1).astype(np.float64))
        share = accuracy(outputs, split.validation_y)
        found = watch.findings() or ["nothing found"]
        lines.append(f"{name}: {100 * share:.0f} % of {len(outputs)} validation digits right")
        lines += [f"    {line}" for line in found[:3]] + ([f"    and {len(found) - 3} more"] if len(found) > 3 else [])
    return [*lines, str(save(figure, out / "diagnostics.svg"))]


DEMOS: dict[str, Demo] = {
    "activations": Demo("activations and their slopes", activations),
    "initialisers": Demo("how weights begin decides whether signals live", spreads),
    "schedules": Demo("learning-rate schedules", rates),
    "augmentation": Demo("one digit shifted, turned, cut and mixed", augmented),
    "diagnostics": Demo("what a healthy network and three planted faults look like from inside", faults),
}
