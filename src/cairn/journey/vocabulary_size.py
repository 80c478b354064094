"""How large should a vocabulary be? Bits per byte against its size, each model trained with the same compute.

A larger vocabulary puts more text into a token, and makes a token more expensive: the output layer grows with it. At equal
compute the small vocabulary sees more tokens, the large one more text a token. Compute is training FLOPs: for each token 6 for
each weight that multiplies (the output layer among them, the look-up of embeddings not) and attention's share,
`Transformer.flops_per_token`. Steps have equally many tokens, so sizes differ in the number of steps; rates are the same.

    OUT/tokenizer-SIZE/  OUT/model-SIZE-seed-N/    kept: the same command goes on where it was
    OUT/vocabulary.json  OUT/vocabulary.svg  OUT/vocabulary.png
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.core.files import write_bytes, write_json
from cairn.corpus import Corpus, write_shard
from cairn.corpus.vocabulary import tokenizer_stage
from cairn.evaluation import bits_per_byte
from cairn.models import ModelConfig, Transformer, preset
from cairn.models.config import PRESETS
from cairn.tokenizers import Tokenizer
from cairn.training import CausalLM, ShardData, TrainConfig
from cairn.training.stage import run_folder, train_stage
from cairn.training.trainer import train

WARMUP = 0.1  # share of the steps, so that no size spends more of its compute on it
FEWEST_STEPS = 20
# Student's t, two-sided 95 %, for 2, 3, ... 10 models; wider than needed for more.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class VocabularyConfig:
    sizes: tuple[int, ...] = option(
        (264, 512, 1024, 2048, 4096, 8192), "ids of each vocabulary, special tokens included", minimum=264
    )
    preset: str = option("pebble", "shape of the models", choices=tuple(PRESETS))
    flops: float = option(4e11, "training FLOPs of each model", minimum=1)
    seeds: int = option(1, "models a size; from two on the interval is that over models", minimum=1)
    rows: int = option(8, "rows a step", minimum=1)
    context: int = option(128, "tokens a row", minimum=8)
    lr: float = option(3e-3, "peak rate of AdamW", minimum=0)
    matrix_lr: float = option(0.02, "peak rate of Muon", minimum=0)
    device: str = option("auto", "where to train: auto, cpu, cuda or mps")

    def __post_init__(self) -> None:
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            raise UserError("sizes must name at least one vocabulary size, and none twice")


def vocabulary_experiment(config: VocabularyConfig, corpus: Path | str, out: Path | str) -> dict[str, Any]:
    """Train and measure every size and seed that `out` does not hold yet. Returns what vocabulary.json holds."""
    source, out = Corpus(corpus), Path(out)
    steps_for(config, Transformer(shape_of(config, max(config.sizes))))  # refuses too little compute before any work
    rows = []
    for size in sorted(config.sizes):
        tokenizer = tokenizer_stage(source, size, out / f"tokenizer-{size}")
        records = [_one(config, source, out, size, seed, tokenizer) for seed in range(1, config.seeds + 1)]
        rows.append(_row(size, tokenizer, records))
    result = {"config": to_dict(config), "corpus": source.fingerprint(), "rows": rows}
    write_json(out / "vocabulary.json", result)
    for kind in ("svg", "png"):
        write_bytes(out / f"vocabulary.{kind}", plot(rows, config, kind))
    return result


def shape_of(config: VocabularyConfig, vocab_size: int) -> ModelConfig:
    shape = preset(config.preset)
    longest = max(shape.max_positions, config.context)
    return dataclasses.replace(shape, vocab_size=vocab_size, max_positions=longest)


def steps_for(config: VocabularyConfig, model: Transformer) -> int:
    """Optimizer steps that come nearest to the compute. Raises UserError when it is too little to train at all."""
    step = config.rows * config.context * model.flops_per_token(config.context)
    steps = round(config.flops / step)
    if steps < FEWEST_STEPS:
        raise UserError(
            f"flops {config.flops:.3g} is only {steps} steps with {model.config.vocab_size} ids; give at least "
            f"{FEWEST_STEPS * step:.3g}, or lower rows, context or sizes"
        )
    return steps


def _one(
    config: VocabularyConfig, corpus: Corpus, out: Path, size: int, seed: int, tokenizer: Tokenizer
) -> dict[str, Any]:
    """Train one model and measure it; the record of its directory."""
    model = Transformer(shape_of(config, tokenizer.vocab_size)).initialize(seed)
    steps = steps_for(config, model)
    setting = TrainConfig(
        steps=steps,
        lr=config.lr,
        matrix_lr=config.matrix_lr,
        warmup=round(WARMUP * steps),
        seed=seed,
        device=config.device,
    )
    inputs = {"corpus": corpus.fingerprint(), "tokenizer": tokenizer.fingerprint()}
    recipe = {"train": to_dict(setting), "preset": config.preset, "rows": config.rows, "context": config.context}

    def build(run: Path):
        shard = write_shard(out / f"tokens-{size}", corpus.texts("general-train"), tokenizer, corpus.fingerprint())
        data = ShardData([shard], rows=config.rows, context=config.context, seed=seed, device=config.device)
        title = f"{size} ids, seed {seed}"
        result = train(model, CausalLM(), data, setting, run, title=title, inputs=inputs)
        bits = bits_per_byte(model, tokenizer, corpus.texts("general-valid"), context=config.context)
        seen = result.tokens * shard.info["bytes"] / len(shard)
        figures = {
            "bits_per_byte": bits.value,
            "low": bits.low,
            "high": bits.high,
            "flops_per_token": model.flops_per_token(config.context),
            "text_bytes": round(seen),
            "epochs": result.tokens / len(shard),
        }
        return model, tokenizer, result, figures

    where = out / f"model-{size}-seed-{seed}"
    run_folder(where).mkdir(parents=True, exist_ok=True)
    return train_stage("vocabulary", where, inputs=inputs, recipe=recipe, parents={}, settings=setting, build=build)


def _row(size: int, tokenizer: Tokenizer, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a size. low and high: 95 %, over models, or with one model over validation documents."""
    first = records[0]
    values = [record["metrics"]["bits_per_byte"] for record in records]
    mean = statistics.fmean(values)
    low, high = first["metrics"]["low"], first["metrics"]["high"]
    if len(values) > 1:
        half = STUDENT[min(len(values) - 2, len(STUDENT) - 1)] * statistics.stdev(values) / math.sqrt(len(values))
        low, high = mean - half, mean + half
    return {
        "size": size,
        "ids": tokenizer.vocab_size,
        "parameters": first["parameters"],
        "flops_per_token": first["metrics"]["flops_per_token"],
        "flops": first["metrics"]["flops_per_token"] * first["tokens"],
        "steps": first["steps"],
        "tokens": first["tokens"],
        "text_bytes": first["metrics"]["text_bytes"],
        "epochs": first["metrics"]["epochs"],
        "bits_per_byte": mean,
        "low": low,
        "high": high,
        "interval": "models" if len(values) > 1 else "documents",
        "by_seed": values,
    }


def plot(rows: Sequence[dict[str, Any]], config: VocabularyConfig, kind: str) -> bytes:
    """Bits per byte over the size of the vocabulary, and beside it what each size spent its compute on. kind: svg or png."""
    import io

    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

    ids = [row["ids"] for row in rows]
    # Text stays text, and the same figures give the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vocabulary", "axes.spines.top": False}):
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        value = [row["bits_per_byte"] for row in rows]
        left.plot(ids, value, marker="o", color="#2a6f97")
        if (
            rows[0]["interval"] == "models"
        ):  # that over documents is the same for all sizes: it says nothing of differences
            left.vlines(ids, [row["low"] for row in rows], [row["high"] for row in rows], color="#2a6f97")
        best = min(rows, key=lambda row: row["bits_per_byte"])
        left.plot(
            best["ids"], best["bits_per_byte"], marker="o", markersize=11, markerfacecolor="none", color="#b5502b"
        )
        left.set_ylabel("bits per byte of unseen text")
        left.set_title(f"{config.preset}, {config.flops:.3g} FLOPs each", loc="left", size=11)
        for key, name, color in (
            ("text_bytes", "bytes of text seen", "#b5502b"),
            ("tokens", "tokens seen", "#2a6f97"),
            ("parameters", "parameters", "#777777"),
        ):
            right.plot(ids, [row[key] for row in rows], marker="o", label=name, color=color)
        right.set_yscale("log")
        right.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        right.yaxis.set_major_formatter(EngFormatter())
        right.yaxis.set_minor_formatter(NullFormatter())
        right.set_title("what the same compute buys", loc="left", size=11)
        right.legend(frameon=False, fontsize=9)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xticks(ids, [str(i) for i in ids], rotation=30)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("ids of the vocabulary")
            axes.spines["right"].set_visible(False)
            axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return buffer.getvalue()
