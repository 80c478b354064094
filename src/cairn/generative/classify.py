"""Train an image classifier on a folder of pictures, and test it: one call, going on where a killed run was.

Shapes: B pictures of a batch, N of the test, L classes.
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.core.files import fingerprint
from cairn.core.progress import say
from cairn.core.stats import wilson
from cairn.foundations import metrics
from cairn.generative.cnn import CnnConfig, ImageClassifier
from cairn.generative.directory import save_classifier
from cairn.generative.images import ImageBatch, ImageData, Pictures, PictureSet, colours, hold_out
from cairn.models import read_record
from cairn.training import TrainConfig, remove_checkpoints, train
from cairn.training.parallel import join
from cairn.training.stage import complete, run_folder
from cairn.training.trainer import decisive

STAGE = "vision"
# Settings of the training loop that would go wrong here, or change nothing.
UNFIT = {
    "ema": "whose batch norm has statistics of the last weights and none of their average",
    "mup_width": "whose rates are not known to transfer from a narrower one",
    "compile": "which has no blocks of a Transformer to compile",
}
TEST_ROWS = 500  # pictures that go through the network at once when it is tested


@dataclass(frozen=True)
class VisionConfig:
    """How an image classifier is made."""

    width: int = option(32, "channels of the first stage; the others have 2 and 4 times as many", minimum=1)
    rows: int = option(256, "pictures of a step", minimum=2)
    mirror: bool = option(True, "mirror every second picture")
    move: int = option(3, "pixels by which a picture is moved, at most", minimum=0)
    smoothing: float = option(0.1, "share of a label's probability that goes to all classes", minimum=0)
    validation: float = option(0.02, "share of the training pictures that is held out", minimum=0)
    train: TrainConfig = option(TrainConfig(steps=1200, matrix_lr=0.05), "the training loop")

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UserError(f"smoothing must be below 1, got {self.smoothing}")
        for name, why in UNFIT.items():
            if getattr(self.train, name):
                raise UserError(f"train.{name} is nothing for an image classifier, {why}: leave it out")


class ImageClassification:
    """Cross-entropy of the classes, summed; "loss" in the metrics is the smoothed one, "accuracy" the share that is right."""

    def __init__(self, smoothing: float = 0.0):
        self.smoothing = smoothing

    def loss(self, model: Any, batch: ImageBatch) -> tuple[torch.Tensor, dict[str, Any]]:
        logits_BL = model(batch.pixels_BCHW).float()
        loss = F.cross_entropy(logits_BL, batch.labels_B, reduction="sum", label_smoothing=self.smoothing)
        right = (logits_BL.detach().argmax(dim=1) == batch.labels_B).sum()
        return loss, {"loss": loss.detach(), "accuracy": right}


@torch.inference_mode()
def predict(model: ImageClassifier, pixels_NCHW: np.ndarray) -> np.ndarray:
    """Probabilities of the classes (N, L), in float32 on any device."""
    device = model.unembed.weight.device
    parts = [
        model(torch.from_numpy(pixels_NCHW[first : first + TEST_ROWS]).to(device)).float().softmax(dim=1).cpu()
        for first in range(0, len(pixels_NCHW), TEST_ROWS)
    ]
    return torch.cat(parts).numpy()


def score_classifier(model: ImageClassifier, pictures: Pictures) -> dict[str, Any]:
    """Accuracy with chance, n and interval; log-loss, calibration and the confusion matrix."""
    model.eval()
    probability_NL = predict(model, pictures.pixels).astype(np.float64)
    probability_NL /= probability_NL.sum(axis=1, keepdims=True)  # sums of float32 are off by 1e-7
    said_N, classes = probability_NL.argmax(axis=1), range(probability_NL.shape[1])
    right_N = said_N == pictures.labels
    score = wilson(int(right_N.sum()), len(pictures), metrics.chance_level(pictures.labels))
    return {
        "accuracy": score.score,
        "low": score.low,
        "high": score.high,
        "chance": score.chance,
        "n": score.n,
        "log_loss": metrics.log_loss(pictures.labels, probability_NL, list(classes)),
        "calibration_error": metrics.expected_calibration_error(right_N, probability_NL.max(axis=1)),
        "confusion": metrics.confusion_matrix(pictures.labels, said_N, list(classes)).tolist(),
    }


def train_classifier(config: VisionConfig, pictures: PictureSet, out: Path | str) -> dict[str, Any]:
    """Train, test, and write the model directory `out`, unless it is there already. Returns its record."""
    out = Path(out)
    settings = config.train
    rest, held = hold_out(pictures.train, config.validation, settings.seed)
    world = join(settings.parallel, settings.device)
    inputs = {"train": _fingerprint(pictures.train), "test": _fingerprint(pictures.test), "classes": pictures.classes}
    recipe = to_dict(config)
    if world.size > 1:
        raise UserError(
            f"{STAGE}: batch norm needs the pictures of a step together: start one process, without torchrun"
        )
    identity = fingerprint([STAGE, recipe | {"train": decisive(recipe["train"])}, inputs])
    if complete(out, identity):
        say(f"{STAGE}: {out} is complete")
        return read_record(out)
    began = time.perf_counter()
    mean, deviation = colours(rest.pixels)
    shape = CnnConfig(config.width, rest.pixels.shape[2], pictures.classes, tuple(mean), tuple(deviation))
    model = ImageClassifier(shape).initialize(settings.seed)
    data = ImageData(
        rest, rows=config.rows, mirror=config.mirror, move=config.move, seed=settings.seed, device=settings.device
    )

    def evaluate(model: ImageClassifier) -> dict[str, float]:
        tested = score_classifier(model, held)
        return {"valid_loss": tested["log_loss"], "valid_accuracy": tested["accuracy"]}

    result = train(
        model,
        ImageClassification(config.smoothing),
        data,
        settings,
        run_folder(out),
        title=STAGE,
        inputs=[recipe | {"train": None}, inputs],
        evaluate=evaluate,
    )
    tested = score_classifier(model, pictures.test)
    record = {
        "stage": STAGE,
        "identity": identity,
        "recipe": recipe,
        "inputs": inputs,
        "parameters": model.parameter_count(),
        "steps": result.steps,
        "pictures": result.tokens,
        "seconds": round(max(result.seconds, time.perf_counter() - began), 2),
        "refused": list(pictures.refused),
        "metrics": result.last | {"test": tested},
    }
    save_classifier(out, model.cpu(), record)
    remove_checkpoints(run_folder(out))
    return read_record(out)


def _fingerprint(pictures: Pictures) -> str:
    found = hashlib.sha256(str(pictures.pixels.shape).encode())
    for array in (pictures.pixels, pictures.labels):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:16]
