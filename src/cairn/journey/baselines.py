"""What came before the Transformer, on the same tokens: n-grams, recurrent networks, and a Transformer, in bits per byte.

All models see the same documents: as many as make one pass for the networks (steps x rows x context tokens). The networks take
the same steps with the same trainer; an n-gram model counts those tokens once.

    OUT/tokenizer/  OUT/tokens.*  OUT/MODEL/       kept: the same command goes on where it was
    OUT/baselines.json  OUT/baselines.svg  OUT/gradient.svg  (and .png)
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, fingerprint, hash_unit, write_bytes, write_json
from cairn.core.progress import say
from cairn.corpus import Corpus, TokenShard, write_shard
from cairn.corpus.vocabulary import tokenizer_stage
from cairn.evaluation import BitsPerByte, bits_per_byte, over_documents
from cairn.models import ModelConfig, Transformer, read_record, save
from cairn.models.ngram import NgramConfig, NgramLM
from cairn.models.pictures import gradient_picture
from cairn.models.recurrent import CELLS, RecurrentConfig, RecurrentLM, gradient_by_distance
from cairn.tokenizers import Tokenizer
from cairn.training import CausalLM, ShardData, TrainConfig
from cairn.training.stage import complete, run_folder
from cairn.training.trainer import remove_checkpoints, train

HEADS = 4
GRADIENT_ROWS = 16


@dataclass(frozen=True)
class BaselinesConfig:
    vocab_size: int = option(1024, "ids of the tokenizer, special tokens included", minimum=264)
    orders: tuple[int, ...] = option((1, 2, 3, 4, 5), "orders of the n-gram models", minimum=1)
    dim: int = option(128, "width of the networks, a multiple of 8", minimum=8)
    layers: int = option(2, "layers of the networks", minimum=1)
    steps: int = option(400, "optimizer steps of each network", minimum=1)
    rows: int = option(8, "rows a step", minimum=1)
    context: int = option(128, "tokens a row, in training and when scored", minimum=8)
    lr: float = option(3e-3, "peak rate of AdamW in the Transformer (embeddings, norms)", minimum=0)
    matrix_lr: float = option(0.02, "peak rate of Muon in the Transformer", minimum=0)
    recurrent_lr: float = option(0.01, "peak rate of AdamW in the recurrent networks", minimum=0)
    seed: int = option(1, "seed of data order and initialisation", minimum=0)
    device: str = option("auto", "where to train: auto, cpu, cuda or mps")

    def __post_init__(self) -> None:
        if not self.orders or len(set(self.orders)) < len(self.orders):
            raise UserError("orders must name at least one order, and none twice")
        if self.dim % (2 * HEADS):
            raise UserError(f"dim ({self.dim}) must be a multiple of {2 * HEADS}")


def baselines(config: BaselinesConfig, corpus: Corpus, out: Path | str) -> dict[str, Any]:
    """Train and measure every model that `out` does not hold yet. Returns what baselines.json holds."""
    out = Path(out)
    tokenizer = tokenizer_stage(corpus, config.vocab_size, out / "tokenizer")
    budget = config.steps * config.rows * config.context
    source = fingerprint([corpus.fingerprint(), budget])
    shard = write_shard(out / "tokens", _documents(corpus, tokenizer, budget), tokenizer, source)
    inputs = {"tokens": source, "tokenizer": tokenizer.fingerprint()}
    rows = [_ngram(config, order, corpus, shard, tokenizer, out, inputs) for order in sorted(config.orders)]
    networks: dict[str, Any] = {cell: _recurrent(config, cell, tokenizer.vocab_size) for cell in CELLS}
    networks["transformer"] = _transformer(config, tokenizer.vocab_size)
    probe = torch.from_numpy(np.asarray(shard.tokens[: GRADIENT_ROWS * (config.context + 1)]).astype(np.int64))
    probe = probe[: len(probe) // (config.context + 1) * (config.context + 1)].view(-1, config.context + 1)
    for name, model in networks.items():
        rows.append(_network(config, name, model, corpus, shard, tokenizer, out, inputs, probe))
    figures = {"documents": shard.info["documents"], "bytes": shard.info["bytes"], "tokens": len(shard)}
    result = {"config": to_dict(config), "corpus": corpus.fingerprint(), "train": figures, "chance": 8.0, "rows": rows}
    write_json(out / "baselines.json", result)
    after, before = ({r["name"]: r[key] for r in rows if key in r} for key in ("gradient", "gradient_before"))
    for kind in ("svg", "png"):
        write_bytes(out / f"baselines.{kind}", plot(rows, kind))
        write_bytes(out / f"gradient.{kind}", gradient_picture(after, before, kind))
    return result


def _documents(corpus: Corpus, tokenizer: Tokenizer, budget: int) -> Iterator[str]:
    """Training documents in an order that depends on their names alone, until they hold `budget` tokens."""
    tokens = 0
    for document in sorted(corpus.documents("general-train"), key=lambda d: hash_unit(d.id, "baselines")):
        if tokens >= budget:
            return
        tokens += len(tokenizer.encode(document.text)) + 1
        yield document.text


def _recurrent(config: BaselinesConfig, cell: str, vocab_size: int) -> RecurrentLM:
    shape = RecurrentConfig(cell, vocab_size, config.dim, config.layers, max_positions=config.context)
    return RecurrentLM(shape).initialize(config.seed)


def _transformer(config: BaselinesConfig, vocab_size: int) -> Transformer:
    shape = ModelConfig(
        vocab_size=vocab_size,
        dim=config.dim,
        layers=config.layers,
        heads=HEADS,
        kv_heads=HEADS,
        ffn_dim=math.ceil(config.dim / 3) * 8,  # 8/3 of the width, as three matrices cost what two of 4 would
        max_positions=config.context,
    )
    return Transformer(shape).initialize(config.seed)


def _ngram(
    config: BaselinesConfig,
    order: int,
    corpus: Corpus,
    shard: TokenShard,
    tokenizer: Tokenizer,
    out: Path,
    inputs: dict[str, str],
) -> dict[str, Any]:
    bos = tokenizer.bos_id
    assert bos is not None, "the tokenizers trained here have one"
    setting = NgramConfig(order, tokenizer.vocab_size, bos)

    def build() -> tuple[NgramLM, dict[str, Any]]:
        model = NgramLM.train(shard.tokens, setting)
        nats, sizes = [], []
        for text in corpus.texts("general-valid"):
            nats.append(-model.log_probs(np.append(bos, tokenizer.encode(text)).astype(np.int64)).sum())
            sizes.append(len(text.encode("utf-8", "surrogatepass")))
        return model, _figures(model.parameter_count(), len(shard), over_documents(nats, sizes))

    return _kept(out / f"{order}-gram", tokenizer, inputs, to_dict(setting), build)


def _network(
    config: BaselinesConfig,
    name: str,
    model: Any,
    corpus: Corpus,
    shard: TokenShard,
    tokenizer: Tokenizer,
    out: Path,
    inputs: dict[str, str],
    probe: torch.Tensor,
) -> dict[str, Any]:
    setting = TrainConfig(
        steps=config.steps,
        # Each kind with the optimizer that serves it: Muon treats the stacked gates of a cell as one matrix.
        optimizer="muon" if name == "transformer" else "adamw",
        lr=config.lr if name == "transformer" else config.recurrent_lr,
        matrix_lr=config.matrix_lr,
        warmup=config.steps // 10,
        seed=config.seed,
        device=config.device,
    )
    recipe = {"train": to_dict(setting), "shape": to_dict(model.config), "rows": config.rows, "context": config.context}
    where = out / name

    def build() -> tuple[Any, dict[str, Any]]:
        before = gradient_by_distance(model, probe).tolist()
        data = ShardData([shard], rows=config.rows, context=config.context, seed=config.seed, device=config.device)
        run_folder(where).mkdir(parents=True, exist_ok=True)
        result = train(model, CausalLM(), data, setting, run_folder(where), title=name, inputs=inputs)
        bits = bits_per_byte(model, tokenizer, corpus.texts("general-valid"), context=config.context)
        model.cpu()
        figures = _figures(model.parameter_count(), result.tokens, bits) | {
            "seconds": round(result.seconds, 2),
            "gradient": gradient_by_distance(model, probe).tolist(),
            "gradient_before": before,
        }
        return model, figures

    row = _kept(where, tokenizer, inputs, recipe, build)
    remove_checkpoints(run_folder(where))
    return row


def _figures(parameters: int, tokens: int, bits: BitsPerByte) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "tokens": tokens,
        "bits_per_byte": bits.value,
        "low": bits.low,
        "high": bits.high,
        "n": bits.documents,
        "bytes": bits.bytes,
    }


def _kept(
    where: Path,
    tokenizer: Tokenizer,
    inputs: dict[str, str],
    recipe: dict[str, Any],
    build: Callable[[], tuple[Any, dict[str, Any]]],
) -> dict[str, Any]:
    """The figures of the model at `where`, made first unless it is complete."""
    identity = fingerprint(["baselines", where.name, recipe, inputs])
    if complete(where, identity):
        say(f"{where.name}: {where} is complete")
        return read_record(where)["figures"]
    model, figures = build()
    figures = {"name": where.name} | figures
    record = {"stage": "baselines", "identity": identity, "recipe": recipe, "inputs": inputs, "figures": figures}
    if isinstance(model, Transformer):
        save(where, model, tokenizer, record)
    else:
        with atomic_directory(where) as directory:
            model.save(directory / "model.safetensors")
            write_json(directory / "cairn.json", record)
    return figures


def plot(rows: Sequence[dict[str, Any]], kind: str) -> bytes:
    """A bar of bits per byte for each model with its interval. kind: svg or png."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, and the same figures give the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "baselines", "axes.spines.top": False}):
        figure = Figure(figsize=(6.4, 0.36 * len(rows) + 0.9), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(rows):
            axes.barh(place, row["bits_per_byte"], height=0.62, color="#2a6f97" if "gradient" in row else "#b9c4cb")
            axes.plot([row["low"], row["high"]], [place, place], color="#222222", linewidth=1.3)
            axes.annotate(f"{row['bits_per_byte']:.2f}", (row["high"], place), xytext=(4, 0), textcoords="offset points",
                          va="center", size=9)  # fmt: skip
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, max(row["high"] for row in rows) * 1.12)
        axes.set_xlabel(f"bits per byte of {rows[0]['n']} unseen documents, 95 % over documents (chance: 8)")
        axes.spines["right"].set_visible(False)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return buffer.getvalue()
