"""What every training stage shares: one model directory in, one out, never run twice, going on when interrupted."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError
from cairn.core.files import fingerprint
from cairn.core.progress import say
from cairn.models import read_record, save
from cairn.tokenizers import Tokenizer
from cairn.training.parallel import join
from cairn.training.trainer import TrainConfig, TrainResult, decisive, remove_checkpoints


def run_folder(out: Path | str) -> Path:
    """Where a stage keeps metrics.jsonl and checkpoints while it runs: beside its model directory."""
    out = Path(out)
    return out.with_name(out.name + ".run")


def complete(out: Path | str, identity: str) -> bool:
    """Whether `out` already holds what this stage would make. Something else there is refused, never overwritten."""
    out = Path(out)
    if not out.exists():
        return False
    found = read_record(out).get("identity") if out.is_dir() else None
    if found == identity:
        return True
    what = "was made with other settings or inputs" if found else "exists already and is not the result of this command"
    raise UserError(f"{out} {what}; choose another --out, or delete it to start anew")


def train_stage(
    stage: str,
    out: Path | str,
    *,
    inputs: Any,
    recipe: dict[str, Any],
    parents: dict[str, str],
    settings: TrainConfig,
    build: Callable[[Path], tuple[Any, Tokenizer, TrainResult, dict[str, Any]]],
) -> dict[str, Any]:
    """Run `build(run folder)` unless `out` is complete, and write its model directory. Returns the directory's record.

    settings: of the training loop; its layout says how many processes run this, of which one writes the directory.
    inputs: everything besides `recipe` that decides the result (fingerprints of data and parent models).
    build returns the trained model, its tokenizer, the trainer's result, and figures for the record.
    """
    out = Path(out)
    world = join(settings.parallel, settings.device)
    identity = fingerprint([stage, _decisive(recipe), inputs, parents])
    if complete(out, identity):
        if world.is_main:
            say(f"{stage}: {out} is complete")
        return read_record(out)
    world.barrier()  # all have looked before one writes
    began = time.perf_counter()
    model, tokenizer, result, figures = build(run_folder(out))
    record = {
        "stage": stage,
        "identity": identity,
        "parents": parents,
        "recipe": recipe,
        "inputs": inputs,
        "parameters": model.parameter_count(),
        "steps": result.steps,
        "tokens": result.tokens,
        # training time as the checkpoints carry it through interruptions, and the rest of this process's work
        "seconds": round(max(result.seconds, time.perf_counter() - began), 2),
        "metrics": result.last | figures,
    }
    with world.first():
        if world.is_main:
            save(out, model.cpu(), tokenizer, record)
            remove_checkpoints(run_folder(out))
    return read_record(out)


def _decisive(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without the settings of its training loop that change nothing in the result."""
    if not isinstance(recipe.get("train"), dict):
        return recipe
    return recipe | {"train": decisive(recipe["train"])}
