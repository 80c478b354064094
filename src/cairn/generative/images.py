"""Pictures to train on: read by foundations/data, and changed a little each time they are seen.

A mirrored cat is a cat, and so is one two pixels further down. Training on such pictures beside the real ones says so to the
network, which then learns less by heart. What is done to a picture follows from the seed and how often the run has shown
pictures before: a run that goes on, on whatever number of processes, sees the same ones.

Shapes: N pictures, B of a batch, C channels, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cairn.core.compute import pick_device
from cairn.core.errors import UserError
from cairn.foundations.data import read_cifar_binary, read_images, stratified_split
from cairn.training.objective import Part
from cairn.training.shuffle import mix, shuffled

# In the binary files classes are numbers; in this order.
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Pictures:
    """Bytes (N, C, H, W) and class numbers (N,)."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Pictures":
        return Pictures(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True)
class PictureSet:
    train: Pictures
    test: Pictures
    classes: tuple[str, ...]
    refused: tuple[str, ...]  # a line for each file that could not be read


def read_pictures(source: Path | str) -> PictureSet:
    """CIFAR-10's binary version (the .tar.gz or the unpacked folder), or train/CLASS/*.jpg and test/CLASS/*.jpg of 32 x 32 in a
    folder or a zip. Raises UserError for anything else."""
    source = Path(source)
    if not source.exists():
        raise UserError(f"--data {source} does not exist")
    try:
        if source.name.endswith((".tar.gz", ".tgz")) or (source.is_dir() and any(source.glob("data_batch_*"))):
            train, test = (Pictures(*read_cifar_binary(source, train=part)) for part in (True, False))
            return PictureSet(train, test, CIFAR_CLASSES, ())
        found = read_images(source, "train")
        tests = read_images(source, "test")
    except ValueError as error:
        raise UserError(f"--data: {error}") from None
    if tests.classes != found.classes:
        odd = sorted(set(found.classes) ^ set(tests.classes))
        raise UserError(f"--data {source}: the class {odd[0]} is in one of train/ and test/ only")
    train, test = Pictures(found.x_NCHW, found.y_N), Pictures(tests.x_NCHW, tests.y_N)
    return PictureSet(train, test, found.classes, found.refused + tests.refused)


def hold_out(pictures: Pictures, share: float, seed: int) -> tuple[Pictures, Pictures]:
    """The rest, and `share` of each class, which is kept to look at while training."""
    if not 0 < share < 1:
        raise UserError(f"the share that is held out must be above 0 and below 1, got {share}")
    rest, held = stratified_split(pictures.labels, (1 - share, share), seed)
    if not len(rest) or not len(held):
        raise UserError(f"{len(pictures)} pictures are too few to hold out a share of {share}")
    return pictures.take(rest), pictures.take(held)


@dataclass(frozen=True)
class ImageBatch:
    """Bytes (B, C, H, W) and class numbers (B,)."""

    pixels_BCHW: torch.Tensor
    labels_B: torch.Tensor


class ImageData:
    """`rows` pictures a step, every epoch in another order, mirrored and moved at random.

    mirror: every second picture the other way round, on average. move: pixels up, down, left or right, at most; what comes
    in at the edge is the picture's own reflection.
    """

    context = 1  # a picture counts as one token

    def __init__(self, pictures: Pictures, *, rows: int, mirror: bool, move: int, seed: int, device: str = "auto"):
        if rows > len(pictures):
            raise UserError(f"a step has {rows} pictures, but there are only {len(pictures)}: set rows lower")
        if move >= min(pictures.pixels.shape[2:]):
            raise UserError(f"move {move} pixels in pictures of {pictures.pixels.shape[2]}: set move lower")
        self.pictures, self.rows, self.mirror, self.move, self.seed = pictures, rows, mirror, move, seed
        self.device = pick_device(device)

    def batch(self, step: int, part: Part = Part()) -> list[ImageBatch]:
        shown = np.array(part.share(range(step * self.rows, (step + 1) * self.rows)))  # how many came before, each
        epoch, place = np.divmod(shown, len(self.pictures))
        chosen = self.pictures.take(shuffled(place, len(self.pictures), mix(self.seed, epoch)))
        pixels = self._changed(chosen.pixels, shown)
        pixels_BCHW = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return [ImageBatch(pixels_BCHW.to(self.device), torch.from_numpy(chosen.labels).to(self.device))]

    def weight(self, batch: ImageBatch) -> float:
        return float(len(batch.labels_B))

    def tokens(self, batch: ImageBatch) -> int:
        return len(batch.labels_B)

    def _changed(self, pixels_BCHW: np.ndarray, shown_B: np.ndarray) -> np.ndarray:
        """(B, H, W, C): each place takes the pixel that the mirrored and moved picture has there."""
        lines = [np.arange(side)[None] for side in pixels_BCHW.shape[2:]]
        if self.move:
            reach = 2 * self.move + 1
            lines = [
                line + (mix(self.seed, shown_B, axis) % reach).astype(np.int64)[:, None] - self.move
                for axis, line in enumerate(lines)
            ]
        row_BH, column_BW = (_reflected(line, side) for line, side in zip(lines, pixels_BCHW.shape[2:]))
        if self.mirror:
            turned_B1 = (mix(self.seed, shown_B, 2) % 2 == 1)[:, None]
            column_BW = np.where(turned_B1, pixels_BCHW.shape[3] - 1 - column_BW, column_BW)
        picture = np.arange(len(pixels_BCHW))[:, None, None]
        return pixels_BCHW[picture, :, row_BH[:, :, None], column_BW[:, None, :]]


def _reflected(line: np.ndarray, side: int) -> np.ndarray:
    """Places outside of 0 .. side - 1 seen in a mirror that stands on the edge's pixel."""
    line = np.abs(line)
    return np.where(line >= side, 2 * (side - 1) - line, line)


def colours(pixels_NCHW: np.ndarray) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of each channel; exact, by counting the 256 values."""
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in pixels_NCHW.transpose(1, 0, 2, 3)])
    values = np.arange(256)
    mean = counts @ values / counts.sum(axis=1)
    spread = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(axis=1) / counts.sum(axis=1))
    return [round(float(v), 4) for v in mean], [round(float(v), 4) or 1.0 for v in spread]
