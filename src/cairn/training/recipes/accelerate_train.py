"""Train a model directory with Hugging Face Accelerate or, through it, with DeepSpeed.

    python -m cairn.training.recipes.accelerate_train --model runs/base --corpus runs/corpus --out runs/more
    cairn launch accelerate --gpus 4 --out job -- --model runs/base --corpus runs/corpus --out runs/more

The model is the one of `transformers`, the data and the loss are those of `cairn pretrain --optimizer adamw`: a step's loss
is the sum over its tokens divided by their number, over all micro-batches of all processes. A mixture of experts is trained
without its load-balancing loss. Interrupted or killed, the same command goes on from the newest checkpoint.
"""

import argparse
import math
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from cairn.core.config import add_options, from_dict, option, read_options, read_toml, to_dict
from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, fingerprint, hash_file, write_json
from cairn.core.progress import Display, say
from cairn.core.record import MetricsLog
from cairn.corpus import Corpus, write_shard
from cairn.models import weights_hash
from cairn.models.directory import RECORD, versions
from cairn.tokenizers import Tokenizer
from cairn.training.causal_rows import ShardData
from cairn.training.interrupt import Interrupt
from cairn.training.losses import IGNORED
from cairn.training.objective import Part
from cairn.training.optimizers.groups import members
from cairn.training.recipes.accelerate_state import load_state, save_state
from cairn.training.schedules import SCHEDULES, rate
from cairn.training.shards import ShardSet, open_shards
from cairn.training.stage import complete, run_folder


@dataclass(frozen=True)
class RecipeConfig:
    rows: int = option(16, "rows a step, over all processes", minimum=1)
    micro_rows: int = option(0, "rows that go through the model at once; 0 means all of a process", minimum=0)
    context: int = option(256, "tokens a row", minimum=8)
    part: str = option("general", "which part of --corpus to learn", choices=("general", "domain"))
    steps: int = option(1000, "optimizer steps", minimum=1)
    lr: float = option(3e-4, "peak rate of AdamW", minimum=0)
    weight_decay: float = option(0.0, "decoupled weight decay of the matrices", minimum=0)
    beta2: float = option(0.95, "second moment decay of AdamW", minimum=0)
    schedule: str = option("linear", "learning-rate schedule", choices=SCHEDULES)
    warmup: int = option(50, "steps of linear warm-up", minimum=0)
    final: float = option(0.0, "share of the peak rate that is left at the end", minimum=0)
    clip: float = option(1.0, "largest gradient norm; 0 turns clipping off", minimum=0)
    seed: int = option(1, "seed of data order and dropout", minimum=0)
    log_every: int = option(10, "steps between rows of metrics.jsonl", minimum=1)
    checkpoint_every: int = option(100, "steps between checkpoints", minimum=1)


def make_parser() -> argparse.ArgumentParser:
    name = "python -m cairn.training.recipes.accelerate_train"
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=name, description=__doc__, formatter_class=formatter, allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model directory to go on with")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--corpus", type=Path, metavar="DIR", help="corpus directory")
    data.add_argument("--shards", type=Path, metavar="DIR", help="token shards, of the model's tokenizer")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="model directory to write")
    parser.add_argument("--recipe", metavar="FILE", help="settings in a TOML file; options typed here win over it")
    add_options(parser, RecipeConfig)
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    try:
        base = from_dict(RecipeConfig, read_toml(options.recipe)) if options.recipe else RecipeConfig()
        train(read_options(RecipeConfig, options, base), options.model, options.out, options.corpus, options.shards)
    except UserError as error:
        print(f"cairn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cairn: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


def train(config: RecipeConfig, model_path: Path, out: Path, corpus: Path | None, shards: Path | None) -> None:
    """Called by every process that `accelerate launch` or torchrun started."""
    accelerator = join()
    world = accelerator.num_processes
    words = Tokenizer.load(model_path)
    source = open_source(config, words, run_folder(out), corpus, shards, accelerator)
    parents = {model_path.name: weights_hash(model_path)}
    inputs = {"data": source.fingerprint(), "tokenizer": words.fingerprint()}
    identity = fingerprint(["accelerate", to_dict(config), inputs, parents])
    if complete(out, identity):
        say(f"accelerate: {out} is complete")
        return
    model = load_model(model_path)
    data = make_data(config, source, model, str(accelerator.device))
    part = Part(accelerator.process_index, world)
    micro = len(data.batch(0, part))  # micro-batches a step, equally many in every process
    engine_settings(accelerator, config, micro)
    accelerator.gradient_accumulation_steps = micro
    model, optimizer = accelerator.prepare(model, make_optimizer(model, config))
    folder = run_folder(out) / "checkpoints"
    state = load_state(accelerator, folder, identity)
    start, seconds, tokens = (state["step"], state["seconds"], state["tokens"]) if state else (0, 0.0, 0)
    if state and accelerator.is_main_process:
        say(f"accelerate: going on at step {start} of {config.steps}")
    log = MetricsLog(run_folder(out) / "metrics.jsonl", resume_step=start) if accelerator.is_main_process else None
    model.train()
    last: dict[str, Any] = {}
    with Display("accelerate", config.steps if log else 0, "steps") as display, Interrupt() as interrupt:
        for done in range(start + 1, config.steps + 1):
            began = time.perf_counter()
            batches = data.batch(done - 1, part)
            mine = [sum(data.weight(b) for b in batches), sum(data.tokens(b) for b in batches), float(interrupt.asked)]
            counts = accelerator.reduce(torch.tensor(mine, device=accelerator.device, dtype=torch.float64), "sum")
            total, read, asked = counts.tolist()
            factor = rate(config.schedule, done - 1, config.steps, config.warmup, config.final)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * factor
            # Accelerate divides by the micro-batches and averages over processes; what is wanted is the sum over both,
            # divided by the step's tokens.
            loss_sum, norm = step(accelerator, model, optimizer, batches, micro * world / total, config.clip)
            loss = accelerator.reduce(loss_sum, "sum").item() / total
            if not math.isfinite(loss):
                raise UserError(f"the loss is not finite at step {done}; lower --lr or raise --warmup")
            seconds += time.perf_counter() - began
            tokens += int(read)
            if log and (done % config.log_every == 0 or done == config.steps):
                last = {"loss": loss, "rate": factor, "tokens": tokens, "seconds": round(seconds, 3)}
                last |= {"tokens_per_second": round(tokens / seconds, 1)} | _norm(norm)
                log.write({"step": done} | last)
                display.update(done, f"loss {loss:.3f}")
            if done < config.steps and (asked or done % config.checkpoint_every == 0):
                known = {"step": done, "identity": identity, "processes": world, "seconds": seconds, "tokens": tokens}
                save_state(accelerator, folder, known)
                if asked:
                    raise KeyboardInterrupt
    if log:
        log.close()
    record = {
        "stage": "accelerate",
        "identity": identity,
        "parents": parents,
        "recipe": to_dict(config),
        "inputs": inputs,
    }
    record |= {"steps": config.steps, "tokens": tokens, "seconds": round(seconds, 2), "metrics": last}
    save_model(accelerator, model, words, out, record)
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def step(
    accelerator: Any, model: Any, optimizer: Any, batches: list, scale: float, clip: float
) -> tuple[torch.Tensor, Any]:
    """One update by this process's micro-batches: the sum of their losses, a scalar, and the gradient's norm."""
    loss_sum, norm = torch.zeros((), device=accelerator.device), None
    for batch in batches:
        with accelerator.accumulate(model):
            logits_BTV = model(input_ids=batch.inputs_BT, use_cache=False).logits
            logits_NV, targets_N = logits_BTV.flatten(0, 1).float(), batch.targets_BT.flatten()
            loss = F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORED, reduction="sum")
            accelerator.backward(loss * scale)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(model.parameters(), clip or math.inf)
            optimizer.step()
            optimizer.zero_grad()
        loss_sum += loss.detach()
    return loss_sum, norm


def join() -> Any:
    """The Accelerator of this process. Without a GPU it has to be told so, or processes do not find each other."""
    try:
        from accelerate import Accelerator
    except ImportError:
        raise UserError("this recipe needs Accelerate: pip install 'cairn[accelerate]'") from None
    # DeepSpeed finds its device by itself, and is left out when Accelerate is told to use the CPU.
    engine = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    accelerator = Accelerator(cpu=not torch.cuda.is_available() and not engine)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise UserError(
            f"{started} processes were started, Accelerate counts {accelerator.num_processes}: check its config file"
        )
    return accelerator


def open_source(
    config: RecipeConfig, words: Tokenizer, run: Path, corpus: Path | None, shards: Path | None, accelerator: Any
) -> ShardSet:
    """Token shards: those of a folder, or of a corpus, which the first process encodes while the others wait."""
    if shards is not None:
        return open_shards(shards, words)
    assert corpus is not None
    texts, name = Corpus(corpus), f"{config.part}-train"
    with accelerator.main_process_first():
        return ShardSet([write_shard(run / "shards" / name, texts.texts(name), words, texts.fingerprint())])


def load_model(path: Path) -> Any:
    """The directory's model as transformers has it, in float32; mixed precision is Accelerate's matter."""
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise UserError("this recipe needs transformers: pip install 'cairn[accelerate]'") from None
    if not (path / "config.json").exists():
        raise UserError(f"{path} is not a model directory (it has no config.json)")
    try:
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    except (ValueError, OSError) as error:
        raise UserError(f"transformers cannot train {path} as a causal language model: {error}") from None


def make_data(config: RecipeConfig, source: ShardSet, model: Any, device: str) -> ShardData:
    longest = getattr(model.config, "max_position_embeddings", None) or config.context
    context = min(config.context, longest)
    rows, micro_rows = config.rows, config.micro_rows
    return ShardData([source], rows=rows, micro_rows=micro_rows, context=context, seed=config.seed, device=device)


def make_optimizer(model: Any, config: RecipeConfig) -> torch.optim.AdamW:
    """AdamW with weight decay for matrices alone, as `cairn pretrain` has it."""
    decayed = [m.parameter for m in members(model) if m.role.decays]
    others = [m.parameter for m in members(model) if not m.role.decays]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=(0.9, config.beta2))


def engine_settings(accelerator: Any, config: RecipeConfig, micro: int) -> None:
    """What DeepSpeed's file leaves to the run ("auto"); nothing to do without DeepSpeed."""
    plugin = accelerator.state.deepspeed_plugin
    if plugin is None:
        return
    rows = -(-config.rows // (accelerator.num_processes * micro))
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": micro,
        "train_batch_size": rows * micro * accelerator.num_processes,
        "gradient_clipping": config.clip,
    }


def _norm(norm: Any) -> dict[str, float]:
    """The gradient's norm for the record; in float16 a step that overflowed has none."""
    if norm is None:
        return {}
    value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    return {"grad_norm": value} if math.isfinite(value) else {}


def save_model(accelerator: Any, model: Any, words: Tokenizer, out: Path, record: dict[str, Any]) -> None:
    """Write a model directory that cairn and transformers open. Called by all processes: each may hold a part."""
    weights = accelerator.get_state_dict(model)
    if accelerator.is_main_process:
        with atomic_directory(out) as directory:
            plain = accelerator.unwrap_model(model)
            plain.save_pretrained(directory, state_dict=weights)
            words.save(directory)
            hashes = {path.name: hash_file(path) for path in sorted(directory.glob("*.safetensors"))}
            record = record | {"parameters": plain.num_parameters(), "weights": hashes, "versions": versions()}
            write_json(directory / RECORD, record)
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    sys.exit(main())
