"""What the chapter shows in pictures: the graph of an expression, and two moons that a network of numbers takes apart.

>>> sorted(DEMOS)
['scalar-graph', 'scalar-moons']
"""

from pathlib import Path

import numpy as np

from cairn.foundations.demo import Demo
from cairn.foundations.picture import new_figure, save
from cairn.foundations.scalar.graph import draw
from cairn.foundations.scalar.moons import LOSSES, accuracy, scores, train, two_moons
from cairn.foundations.scalar.network import MLP
from cairn.foundations.scalar.value import Value

GRID = 60  # points along each side of the map
SMOOTH = 20  # batches in the mean that the loss curve shows


def draw_graphs(out: Path) -> list[str]:
    """One neuron, and the squared error of a network of three; `out` gets neuron.svg and network.svg."""
    x1, x2, w1, w2, b = (Value(number) for number in (2.0, -1.0, -0.5, 1.5, 3.0))
    neuron = (w1 * x1 + w2 * x2 + b).tanh()
    neuron.backward()
    draw(neuron, out / "neuron.svg", {"x1": x1, "x2": x2, "w1": w1, "w2": w2, "b": b, "out": neuron})

    model = MLP([2, 2, 1], np.random.default_rng(0))
    inputs = [Value(0.5), Value(-1.0)]
    loss = (model(inputs)[0] - 1.0) ** 2
    loss.backward()
    draw(loss, out / "network.svg", _parameter_names(model) | {"x1": inputs[0], "x2": inputs[1], "loss": loss})
    return [
        f"neuron: tanh(w1 x1 + w2 x2 + b) = {neuron.data:.4f}, d/dw1 = {w1.grad:.4f}, d/dw2 = {w2.grad:.4f}",
        f"network: loss {loss.data:.4f} over {len(model.parameters())} parameters",
    ]


def _parameter_names(model: MLP) -> dict[str, Value]:
    """w2.1.3: the third weight of the first neuron of the second layer; b2.1 its bias."""
    names = {}
    for i, layer in enumerate(model.layers, 1):
        for j, neuron in enumerate(layer.neurons, 1):
            names |= {f"w{i}.{j}.{k}": weight for k, weight in enumerate(neuron.weights, 1)}
            names[f"b{i}.{j}"] = neuron.bias
    return names


def draw_moons(out: Path) -> list[str]:
    """Loss curves and the score over the plane, of either loss; `out` gets moons.png."""
    x_N2, y_N = two_moons(200, 0.1, np.random.default_rng(0))
    fresh_x_N2, fresh_y_N = two_moons(400, 0.1, np.random.default_rng(1))
    figure, axes = new_figure(columns=3, size=(4.4, 3.6))
    across, up = np.linspace(-1.6, 2.6, GRID), np.linspace(-1.1, 1.6, GRID)
    grid_G2 = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    lines = []
    for loss, axis in zip(LOSSES, axes[1:]):
        model, record = train(x_N2, y_N, loss=loss)
        losses = [step.loss for step in record]
        (line,) = axes[0].plot(losses, linewidth=0.6, alpha=0.35)
        smooth = np.convolve(losses, np.full(SMOOTH, 1 / SMOOTH), "valid")
        axes[0].plot(range(SMOOTH - 1, len(losses)), smooth, label=loss, color=line.get_color())
        found, fresh = accuracy(model, x_N2, y_N), accuracy(model, fresh_x_N2, fresh_y_N)
        score = scores(model, grid_G2).reshape(GRID, GRID)
        axis.contourf(across, up, np.clip(score, -3, 3), levels=np.linspace(-3, 3, 25), cmap="RdBu", alpha=0.6)
        axis.contour(across, up, score, [-1, 0, 1], colors="#222", linewidths=[0.7, 1.6, 0.7], linestyles="solid")
        axis.scatter(*x_N2.T, c=np.where(y_N > 0, "#2166ac", "#b2182b"), s=12, edgecolors="white", linewidths=0.4)
        axis.set(title=f"{loss} loss: scores -1, 0 (bold) and 1", xlabel="x1", ylabel="x2", aspect="equal")
        lines.append(
            f"{loss}: loss {record[0].loss:.3f} -> {record[-1].loss:.3f} in {len(record)} steps; on the right side:"
            f" {found:.1%} of 200 points learned from, {fresh:.1%} of 400 fresh ones"
        )
    axes[0].set(title="loss of each batch, and its mean", xlabel="step", ylabel="loss", yscale="log")
    axes[0].legend(frameon=False, title=f"mean of {SMOOTH}")
    save(figure, out / "moons.png")
    return lines


DEMOS = {
    "scalar-graph": Demo("the graph of an expression, with values and gradients", draw_graphs),
    "scalar-moons": Demo("two moons: loss and decision boundary of a network of numbers", draw_moons),
}
