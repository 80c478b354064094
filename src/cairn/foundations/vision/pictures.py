"""What a trained network looks like: how it learned, what its filters are, what it confuses, and where it is wrong.

A number says how often a network is right. The pictures it gets wrong say more: of most of them a person would not be sure.

>>> from tempfile import TemporaryDirectory
>>> from cairn.foundations.data import load_digits
>>> from cairn.foundations.vision.train import TrainSettings, train
>>> result = train(load_digits(), "cnn", TrainSettings(epochs=1))
>>> with TemporaryDirectory() as folder:
...     drawing = confusion(result, Path(folder) / "confusion.svg").read_text()
>>> f"of {result.n} test pictures are wrong" in drawing
True
"""

from pathlib import Path

import numpy as np

from cairn.foundations import metrics
from cairn.foundations.network import Conv2d
from cairn.foundations.network.diagnostics_picture import picture
from cairn.foundations.picture import new_figure, save
from cairn.foundations.vision.train import Result


def draw_all(result: Result, folder: Path, name: str) -> list[Path]:
    """Every picture that this result has enough for; their names begin with `name`."""
    drawn = [
        curves(result, folder / f"{name}-curves.svg"),
        confusion(result, folder / f"{name}-confusion.svg"),
        mistakes(result, folder / f"{name}-mistakes.png"),
    ]
    if result.watch is not None:
        drawn.append(picture(result.watch, folder / f"{name}-diagnostics.svg"))
    if any(isinstance(layer, Conv2d) for _, layer in result.model.layers()):
        drawn.append(filters(result, folder / f"{name}-filters.png"))
    return drawn


def curves(result: Result, path: Path) -> Path:
    """Loss and accuracy by epoch."""
    figure, (left, right) = new_figure(columns=2)
    epochs = [line.epoch + 1 for line in result.history]
    marker = "o" if len(epochs) == 1 else ""  # a line through one point is not seen
    left.plot(epochs, [line.loss for line in result.history], marker=marker, label="training, augmented, with dropout")
    left.plot(epochs, [line.validation_loss for line in result.history], marker=marker, label="validation")
    left.set(title="loss", xlabel="epoch", ylabel="cross-entropy with smoothed labels (nats)", yscale="log")
    left.legend(frameon=False)
    wrong = [100 * (1 - line.validation_measure) for line in result.history]
    right.plot(epochs, wrong, marker=marker, color="C1")
    top = max(15.0, 1.5 * min(wrong))  # the first epochs, which are far off, would flatten the rest
    right.set(title="validation pictures that are wrong", xlabel="epoch", ylabel="%", ylim=(0, top))
    return save(figure, path)


def filters(result: Result, path: Path) -> Path:
    """The weights of the first convolution: what its units look for. ValueError: the network has none."""
    first = next((layer for _, layer in result.model.layers() if isinstance(layer, Conv2d)), None)
    if first is None:
        raise ValueError("this network has no convolution, and so no filters to show")
    weight_OCHW = first.weight.data
    columns = min(8, len(weight_OCHW))
    figure, axes = new_figure(columns, -(-len(weight_OCHW) // columns), size=(1.0, 1.0))
    limit = np.abs(weight_OCHW).max()
    for panel in axes:
        panel.axis("off")
    for panel, filter_CHW in zip(axes, weight_OCHW):
        panel.imshow(filter_CHW.mean(axis=0), cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.suptitle("filters of the first layer: red wants ink, blue wants none")
    return save(figure, path)


def confusion(result: Result, path: Path) -> Path:
    """How often each digit is called what."""
    classes = np.arange(result.outputs_NC.shape[1])
    counts_CC = metrics.confusion_matrix(result.split.test_y, result.predicted, classes=classes)
    figure, (panel,) = new_figure(size=(4.6, 4.4))
    wrong_CC = np.where(np.eye(len(counts_CC), dtype=bool), 0, counts_CC)
    panel.imshow(wrong_CC, cmap="Reds", vmin=0, vmax=max(4, wrong_CC.max()))
    for row, counts in enumerate(counts_CC):
        for column, count in enumerate(counts):
            if count:
                panel.text(column, row, str(count), ha="center", va="center", color="0.5" if row == column else "black")
    title = f"{int(wrong_CC.sum())} of {result.n} test pictures are wrong"
    panel.set(title=title, xlabel="called", ylabel="is", xticks=classes, yticks=classes)
    return save(figure, path)


def mistakes(result: Result, path: Path, most: int = 16) -> Path:
    """The test pictures that are wrong, the most confident ones first; where there are few, the least sure of the right."""
    wrong_N = result.predicted != result.split.test_y
    z_NC = result.outputs_NC - result.outputs_NC.max(axis=1, keepdims=True)
    sure_N = 1 / np.exp(z_NC).sum(axis=1)
    shown = np.lexsort((np.where(wrong_N, -sure_N, sure_N), ~wrong_N))[:most]
    figure, axes = new_figure(8, -(-len(shown) // 8), size=(1.15, 1.45))
    for panel in axes:
        panel.axis("off")
    for panel, i in zip(axes, shown):
        panel.imshow(result.split.test_x[i].mean(axis=0), cmap="gray_r", vmin=0, vmax=1)
        said = f"{result.split.test_y[i]} called {result.predicted[i]}\n{100 * sure_N[i]:.0f} % sure"
        panel.set_title(said, fontsize=8, color="red" if wrong_N[i] else "black")
    figure.suptitle(
        f"{wrong_N.sum()} of {result.n} test pictures are wrong (red); then those that it was least sure of"
    )
    return save(figure, path)
