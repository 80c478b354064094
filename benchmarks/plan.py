"""Memory that `cairn plan` predicts for a training run against what the run takes, in the same configuration.

    python benchmarks/plan.py [--quick] [--json FILE]

Each configuration is trained for three steps in a fresh process by the trainer itself; what counts is the peak of the
process's resident memory less what it was before the model was built (libraries are loaded by then: a tiny model has been
trained). value is the measured peak, peer_value the predicted one; ratio is the smaller over the larger, 1 where they agree.

On a CPU malloc gives each large tensor its own mapping for this, so that resident memory is what tensors hold. The trainer
asks malloc to keep what is freed, which is faster and leaves holes: rows "with holes" measure that, against the prediction
with the planner's share for them. With a GPU the runs are made there, and torch's own count of tensors is what is measured.
"""

import json
from dataclasses import asdict, replace
from typing import Any

import torch
from measure import Row, fresh, main

from cairn.models import ModelConfig, preset
from cairn.planning import Layout, count_parameters, training_memory

GOAL, GOAL_WITH_HOLES = 0.9, 0.75
MIB = 2**20

LLAMA = ModelConfig(vocab_size=8192, dim=512, layers=8, heads=8, kv_heads=4, ffn_dim=1408, max_positions=1024)
GPT2 = replace(preset("gpt2-124m"), dim=512, layers=6, heads=8, kv_heads=8, ffn_dim=2048)

# model, rows, micro rows, context, optimizer, precision, recompute
CONFIGURATIONS: dict[str, tuple[ModelConfig, int, int, int, str, str, str]] = {
    "Llama 26M, Muon": (LLAMA, 8, 8, 256, "muon", "fp32", "none"),
    "Llama 26M, AdamW, 4 micro-batches, full": (LLAMA, 16, 4, 512, "adamw", "fp32", "full"),
    "Llama 12M, vocabulary 2k, SGD, selective": (
        replace(LLAMA, vocab_size=2048, dim=384, heads=6, kv_heads=2, ffn_dim=1024), 8, 8, 512, "sgd", "fp32", "selective",
    ),
    "GPT-2 45M, vocabulary 50k, AdamW": (GPT2, 4, 4, 256, "adamw", "fp32", "none"),
    "GPT-2 45M, vocabulary 50k, Adafactor": (GPT2, 8, 4, 256, "adafactor", "fp32", "none"),
    "Llama 26M, AdamW, bfloat16": (LLAMA, 8, 4, 512, "adamw", "bf16", "none"),
    "GPT-2 45M, 8-bit AdamW, average": (GPT2, 2, 2, 512, "adamw8bit", "fp32", "none"),
}  # fmt: skip

RUN = """
import json, sys, tempfile
from dataclasses import replace
from pathlib import Path

import torch
import cairn.training.trainer
from cairn.core.config import from_dict
from cairn.models import ModelConfig, Transformer, preset
from cairn.training.causal import CausalLM, TokenBatch
from cairn.training.trainer import TrainConfig, train

torch.set_num_threads(1)
asked = json.loads(sys.argv[1])
device = asked["device"]
if not asked["holes"]:
    cairn.training.trainer.keep_freed_memory = lambda: None  # the environment sets malloc's rule

class RandomTokens:
    def __init__(self, config, rows, micro_rows, context):
        self.config, self.rows, self.micro_rows, self.context = config, rows, micro_rows, context
    def batch(self, step, part=None):
        ids = torch.randint(self.config.vocab_size, (self.rows, self.context + 1)).to(device)
        pieces = ids.split(self.micro_rows)
        return [TokenBatch(p[:, :-1], p[:, 1:], p[:, 1:].numel()) for p in pieces]
    def weight(self, batch):
        return float(batch.counted)
    def tokens(self, batch):
        return batch.inputs_BT.numel()

def resident(name):
    with open("/proc/self/status") as handle:
        return next(int(line.split()[1]) * 1024 for line in handle if line.startswith(name))

def run(config, rows, micro_rows, context):
    settings = TrainConfig(
        steps=3, warmup=0, lr=1e-4, matrix_lr=1e-3, optimizer=asked["optimizer"], precision=asked["precision"],
        recompute=asked["recompute"], ema=0.9 if asked["average"] else 0.0, device=device, checkpoint_every=1000,
    )
    model = Transformer(config).initialize(1)
    with tempfile.TemporaryDirectory() as folder:
        train(model, CausalLM(), RandomTokens(config, rows, micro_rows, context), settings, Path(folder), title="", inputs=0)

config = from_dict(ModelConfig, asked["config"])
small = replace(
    config, vocab_size=64, dim=64, layers=1, heads=4, kv_heads=4 if config.heads == config.kv_heads else 2, head_dim=16,
    ffn_dim=64,
)
run(small, 2, 1, 32)
if device == "cuda":
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
else:
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
run(config, asked["rows"], asked["micro_rows"], asked["context"])
peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")
print(json.dumps({"bytes": peak - before}))
"""


def compare(name: str, device: str, *, holes: bool = False) -> Row:
    config, rows, micro_rows, context, optimizer, precision, recompute = CONFIGURATIONS[name]
    average = "average" in name
    asked: dict[str, Any] = {
        "config": asdict(config), "rows": rows, "micro_rows": micro_rows, "context": context, "optimizer": optimizer,
        "precision": precision, "recompute": recompute, "average": average, "device": device, "holes": holes,
    }  # fmt: skip
    environment = {"OMP_NUM_THREADS": "1"} | ({} if holes else {"MALLOC_MMAP_THRESHOLD_": "65536"})
    measured = fresh(RUN, json.dumps(asked), environment=environment)["bytes"]
    planned = training_memory(
        count_parameters(config), Layout(), micro_rows=micro_rows, context=context, micro_batches=rows // micro_rows,
        precision=precision, optimizer=optimizer, recompute=recompute, average=average, kind=device,
    )  # fmt: skip
    predicted = planned.tensors + (planned.fragments if holes else 0.0)
    return {
        "name": f"{device}{', with holes' if holes else ''}: {name}",
        "peer": "cairn plan",
        "value": measured / MIB,
        "peer_value": predicted / MIB,
        "unit": "MiB",
        "ratio": min(measured, predicted) / max(measured, predicted),
        "goal": GOAL_WITH_HOLES if holes else GOAL,
    }


def measure(quick: bool) -> list[Row]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = list(CONFIGURATIONS)[: 2 if quick else None]
    rows = [compare(name, device) for name in names]
    if device == "cpu":
        rows += [compare(name, device, holes=True) for name in names[:: 1 if quick else 3]]
    return rows


if __name__ == "__main__":
    main(__doc__ or "", measure)
