"""Shakespeare character by character in nanoGPT's setting for a CPU, and what our recipe makes of the same seconds.

    python benchmarks/shakespeare.py tinyshakespeare.txt [--quick] [--json FILE]

The setting: 4 layers, 4 heads, 128 wide, rows of 64 characters, 12 rows a step, 2,000 steps of AdamW; nanoGPT's README gives a
validation loss of 1.88 for it. The first nine tenths of the text are for training; the loss is in nats a character over the
whole last tenth in rows of 64, so that a character is predicted from 32 others in the mean, as there. Our recipe has as many
seconds as our trainer took for the setting, evaluation left out.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measure import Row, row

from cairn.core.errors import UserError
from cairn.core.files import write_json
from cairn.models import ModelConfig, Transformer, preset
from cairn.training import CausalLM, ShardData, TrainConfig, train
from cairn.training.shards import ShardSet
from cairn.training.validation import validation_loss

PUBLISHED = 1.88
CONTEXT = 64

SETTING = replace(
    preset("gpt2-124m"),
    dim=128,
    layers=4,
    heads=4,
    kv_heads=4,
    head_dim=0,
    ffn_dim=512,
    max_positions=CONTEXT,
    qkv_bias=False,
    out_bias=False,
    ffn_bias=False,
    norm_bias=False,
)
SETTING_TRAIN = TrainConfig(
    steps=2000,
    optimizer="adamw",
    lr=1e-3,
    final=0.1,
    weight_decay=0.1,
    beta2=0.99,
    schedule="cosine",
    warmup=100,
    device="cpu",
    checkpoint_every=10**6,
)

# The journey's: a Llama of about the same size, Muon, a rate that falls to nothing.
RECIPE = ModelConfig(dim=128, layers=4, heads=4, kv_heads=4, ffn_dim=344, max_positions=CONTEXT)
RECIPE_TRAIN = TrainConfig(
    optimizer="muon", lr=3e-3, matrix_lr=0.02, schedule="linear", warmup=30, device="cpu", checkpoint_every=10**6
)
RECIPE_ROWS = 12


class Text:
    """Characters as a token shard in memory."""

    def __init__(self, name: str, ids: np.ndarray):
        self.path, self.tokens, self.info = name, ids, {"bytes": len(ids)}

    def __len__(self) -> int:
        return len(self.tokens)


def read(path: Path) -> tuple[int, Text, Text]:
    """The number of different characters, training and validation text."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    characters = sorted(set(text))
    ids = np.searchsorted(characters, list(text)).astype(np.uint16)
    border = int(0.9 * len(ids))
    return len(characters), Text("training", ids[:border]), Text("validation", ids[border:])


def run(
    shape: ModelConfig, settings: TrainConfig, rows: int, texts: tuple[int, Text, Text], name: str
) -> tuple[float, float]:
    """Validation loss and seconds of training."""
    vocabulary, training, validation = texts
    model = Transformer(replace(shape, vocab_size=vocabulary)).initialize(settings.seed)
    data = ShardData([training], rows=rows, context=CONTEXT, seed=settings.seed, device="cpu")  # type: ignore[list-item]
    with tempfile.TemporaryDirectory() as folder:
        result = train(model, CausalLM(), data, settings, Path(folder), title=name, inputs=0)
    held_out = ShardSet([validation])  # type: ignore[list-item]
    return validation_loss(model, held_out, CONTEXT, rows=10**9)["valid_loss"], result.seconds


def steps_within(seconds: float, shape: ModelConfig, rows: int, texts: tuple[int, Text, Text]) -> int:
    """Steps of the recipe that take `seconds`, by a trial."""
    trial = replace(RECIPE_TRAIN, steps=100)
    _, taken = run(shape, trial, rows, texts, "trial")
    return max(100, int(seconds / taken * trial.steps))


def measure(path: Path, quick: bool) -> list[Row]:
    texts = read(path)
    setting = replace(SETTING_TRAIN, steps=50 if quick else SETTING_TRAIN.steps)
    loss, seconds = run(SETTING, setting, 12, texts, "nanoGPT's setting")
    steps = steps_within(seconds, RECIPE, RECIPE_ROWS, texts)
    best, taken = run(RECIPE, replace(RECIPE_TRAIN, steps=steps), RECIPE_ROWS, texts, "our recipe")
    print(f"setting: {setting.steps} steps, {seconds:.0f} s; recipe: {steps} steps, {taken:.0f} s")
    unit = "nats a character"
    return [
        row("validation loss, nanoGPT's setting", "nanoGPT's README", loss, PUBLISHED, unit, 1.0, less_is_better=True),
        row(
            "validation loss, our recipe, same seconds", "the setting above", best, loss, unit, 1.0, less_is_better=True
        ),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--quick", action="store_true", help="few steps: does it run")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--threads", type=int, default=1, help="a model this small gains nothing from more")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    began = time.perf_counter()
    found = measure(arguments.text, arguments.quick)
    for r in found:
        print(f"{r['name']:<44}{r['value']:.4f} against {r['peer_value']:.4f} ({r['peer']})")
    print(f"{time.perf_counter() - began:.0f} s")
    if arguments.json:
        write_json(arguments.json, found)
