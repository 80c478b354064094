"""Training a network on pictures of digits, and saying how good it is in a way that can be believed.

Three parts of the data have three jobs. The network learns from the first. Settings (how many epochs, how much augmentation)
were chosen on the second. The third is looked at once, at the end, and its accuracy comes with the number of pictures and the
interval in which the true accuracy lies with 95 %: of 360 pictures, 5 wrong ones more or less are chance.

>>> from cairn.foundations.data import load_digits
>>> result = train(load_digits(), "mlp", TrainSettings(epochs=4))
>>> bool(result.low < result.accuracy < result.high), bool(result.accuracy > 0.8), result.n
(True, True, 359)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from cairn.foundations import metrics
from cairn.foundations.data import Split, load_digits, read_mnist, split_images
from cairn.foundations.network import Adam, Epoch, Sequential, Watch, accuracy, cross_entropy, fit, predict
from cairn.foundations.network.augmentation import rotate_and_zoom
from cairn.foundations.network.schedules import cosine, warm_up
from cairn.foundations.vision.models import cnn, mlp

MODELS = {"mlp": mlp, "cnn": cnn}


@dataclass(frozen=True)
class TrainSettings:
    epochs: int = 30
    batch_size: int = 32
    lr: float = 3e-3
    label_smoothing: float = 0.05
    degrees: float = 5.0  # of rotation, either way
    zoom: float = 0.05  # share, either way
    seed: int = 0  # of weights, order, dropout and augmentation; the parts of the data do not depend on it


# Chosen by cross-validation on the training and validation parts together, without the test part: 10 degrees, or moving by a
# pixel, is too much for 8 x 8 pixels.
DIGITS = {"mlp": TrainSettings(epochs=60), "cnn": TrainSettings(epochs=30)}
MNIST = {"mlp": TrainSettings(epochs=20, degrees=10, zoom=0.1), "cnn": TrainSettings(epochs=5, degrees=10, zoom=0.1)}


@dataclass(frozen=True)
class Result:
    """A trained network and how it did on the test part."""

    model: Sequential
    history: list[Epoch]
    outputs_NC: np.ndarray  # scores of the test pictures
    split: Split
    accuracy: float
    low: float  # 95 %, Wilson's interval
    high: float
    n: int
    seconds: float
    watch: Watch | None  # measurements on the way, where they were asked for

    @property
    def predicted(self) -> np.ndarray:
        """The class that each test picture was given."""
        return self.outputs_NC.argmax(axis=1)

    def __str__(self) -> str:
        return (
            f"{100 * self.accuracy:.1f} % of {self.n} test pictures ({100 * self.low:.1f} .. {100 * self.high:.1f} %), "
            f"{self.seconds:.0f} s"
        )


def train(
    split: Split,
    model: str = "cnn",
    settings: TrainSettings | None = None,
    watch_every: int | None = None,
    report: Callable[[Epoch], None] | None = None,
) -> Result:
    """Train "mlp" or "cnn" on pictures of any size and channels, in float32."""
    if model not in MODELS:
        raise ValueError(f"no model is called {model!r}; there are {', '.join(MODELS)}")
    settings = settings or DIGITS[model]
    rng = np.random.default_rng(settings.seed)
    _, channels, height, width = split.train_x.shape
    classes = int(max(y.max() for y in (split.train_y, split.validation_y, split.test_y))) + 1
    network = MODELS[model]((channels, height, width), classes, rng).astype(np.float32)
    steps = settings.epochs * -(-len(split.train_y) // settings.batch_size)
    warm = max(1, steps // 20)
    watch = Watch(network, watch_every) if watch_every else None
    start = perf_counter()

    def augment(x_BCHW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rotate_and_zoom(x_BCHW, rng, settings.degrees, settings.zoom)

    history = fit(
        network,
        lambda outputs, y: cross_entropy(outputs, y, label_smoothing=settings.label_smoothing),
        Adam(network.parameters(), lr=settings.lr),
        split.train_x,
        split.train_y,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        rng=rng,
        schedule=warm_up(warm, then=cosine(max(1, steps - warm))),
        augment=augment,
        validation=(split.validation_x, split.validation_y),
        measure=accuracy,
        watch=watch,
        report=report,
    )
    seconds = perf_counter() - start
    outputs_NC = predict(network, split.test_x)
    n = len(split.test_y)
    right = int((outputs_NC.argmax(axis=1) == split.test_y).sum())
    interval = metrics.proportion_interval(right, n)
    return Result(network, history, outputs_NC, split, right / n, *interval, n, seconds, watch)


def train_digits(model: str = "cnn", seed: int = 0) -> Result:
    """scikit-learn's digits with the settings that were chosen for them."""
    return train(load_digits(), model, replace(DIGITS[model], seed=seed))


def train_mnist(images: Path | str, labels: Path | str, model: str = "cnn", seed: int = 0) -> Result:
    """A pair of MNIST's IDX files, split here. From the command line: python -m cairn.foundations.vision."""
    return train(split_images(*read_mnist(images, labels)), model, replace(MNIST[model], seed=seed))
