"""Make the small runs of a scaling law: those of `planning.scaling.design`, each measured on the same held-out text.

OUT/shards/                                       the text as tokens
OUT/runs/NAME/metrics.jsonl  result.json          result.json is written last: the run is finished
OUT/runs.jsonl                                    a row a run, what `cairn scaling fit OUT` reads
OUT/sweep.json                                    settings, measured costs, time spent
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cairn.core.compute import pick_device
from cairn.core.config import to_dict
from cairn.core.errors import UserError
from cairn.core.files import fingerprint, read_json, write_json
from cairn.core.progress import say
from cairn.core.record import read_metrics
from cairn.corpus import Corpus, TokenShard, write_shard
from cairn.models import Transformer
from cairn.planning.scaling.design import Cost, Planned, SweepConfig, all_runs, shape_of, within
from cairn.planning.scaling.runs import SUMMARY, write_rows
from cairn.tokenizers import Tokenizer
from cairn.training import CausalLM, ShardData, TokenBatch, mup, target_logprobs
from cairn.training.initial import initialize
from cairn.training.trainer import TrainConfig, TrainResult, remove_checkpoints, train

ROWS_OF_CURVE = 100  # rows of metrics a run
PROBE = (2, 10)  # steps of the two runs whose difference is the cost of a step


class Sweep:
    """The runs of a configuration in a folder: `plan()` says which and what they cost, `run()` makes those that fit."""

    def __init__(self, config: SweepConfig, corpus: Corpus, tokenizer: Tokenizer, out: Path | str):
        self.config, self.out = config, Path(out)
        self.device = pick_device(config.device)
        # On a CPU its own seconds count, whatever else the machine does meanwhile.
        self.clock: Callable[[], float] = time.process_time if self.device.type == "cpu" else time.perf_counter
        self._began = self.clock()
        source = corpus.fingerprint()
        self.text, held_out = (
            write_shard(self.out / "shards" / part, corpus.texts(f"general-{part}"), tokenizer, source)
            for part in ("train", "valid")
        )
        self.inputs = {"corpus": source, "tokenizer": tokenizer.fingerprint()}
        self.valid = held_out_rows(held_out, config.context, config.valid_tokens)
        self.vocab_size = -(-tokenizer.vocab_size // 8) * 8
        free = (
            "widths",
            "flops",
            "tokens",
            "least",
            "most",
            "minutes",
            "device",
        )  # runs of one law may differ in these
        same = {key: value for key, value in to_dict(config).items() if key not in free}
        self.conditions = fingerprint([same, self.inputs])
        self.rows()  # refuses runs made under other conditions
        before = read_json(self.out / "sweep.json") if (self.out / "sweep.json").exists() else {}
        self._costs = {int(width): Cost(*pair) for width, pair in before.get("costs", {}).items()}
        self._earlier = before.get("preparation", 0.0)  # seconds of processes before this one

    def plan(self) -> list[Planned]:
        """All runs, cheapest first, with those refused that do not fit. Measures each width's cost once."""
        unknown = [width for width in sorted(set(self.config.widths)) if width not in self._costs]
        if unknown:
            self._measure(unknown[0])  # the first steps of a process load what later ones find ready
        for width in unknown:
            self._costs[width] = self._measure(width)
        # A row begins at a random offset, so the last one does not fit.
        available = ((len(self.text) - 1) // self.config.context - 1) * self.config.context
        runs = all_runs(self.config, self.vocab_size, available, self._costs)
        spent = {row["name"]: row["spent"] for row in self.rows()}
        self._preparation = self._earlier + self.clock() - self._began
        return within(runs, self.config.minutes * 60 - self._preparation, spent)

    def run(self, plan: list[Planned]) -> list[dict[str, Any]]:
        """Make the planned runs that are not finished; the rows of all that are. Stops where they cost more than estimated."""
        wanted = [planned for planned in plan if not planned.refused]
        done = {row["name"]: row["spent"] for row in self.rows()}
        limit, spent, expected = self.config.minutes * 60, self._preparation, 0.0
        self._write()
        for number, planned in enumerate(wanted, 1):
            if planned.name not in done:
                slower = max(1.0, (spent - self._preparation) / expected) if expected else 1.0
                if spent + planned.estimate * slower > limit:
                    say(f"{planned.name}: left out, since the runs before took {slower:.2f} times as long as measured")
                    continue
                place = f"run {number} of {len(wanted)}"
                say(
                    f"{place}: {planned.name}, {planned.parameters:,} parameters, about {planned.estimate * slower:.0f} s; "
                    f"{spent / 60:.1f} of {self.config.minutes:g} minutes spent"
                )
                row = self.make(planned)
                done[planned.name] = row["spent"]
                say(
                    f"{place}: loss {row['loss']:.4f}, standard error {row['standard_error']:.4f}, {row['spent']:.0f} s"
                )
                self._write()
            spent, expected = spent + done[planned.name], expected + planned.estimate
        return self.rows()

    def rows(self) -> list[dict[str, Any]]:
        """The finished runs of the folder, of least FLOPs first. Raises UserError where one was made under other conditions."""
        rows = []
        for path in sorted((self.out / "runs").glob("*/result.json")):
            row = read_json(path)
            if row.get("conditions") != self.conditions:
                raise UserError(
                    f"{path.parent} was made with other settings or other text; choose another --out, or delete it"
                )
            rows.append(row)
        return sorted(rows, key=lambda row: row["flops"])

    def make(self, planned: Planned) -> dict[str, Any]:
        """Train and measure one run; its row."""
        folder = self.out / "runs" / planned.name
        began, wall = self.clock(), time.perf_counter()
        model, result = self._train(planned.width, planned.steps, folder, planned.name)
        # Of a run that goes on after an interruption the processes before spent their part.
        share = max(1.0, result.seconds / (time.perf_counter() - wall))
        trained = (self.clock() - began) * share
        began = self.clock()
        loss, error = held_out_loss(model, self.valid, self.device)
        row = {
            "name": planned.name,
            "conditions": self.conditions,
            "parameters": planned.parameters,
            "embedding_parameters": model.embed.weight.numel(),
            "tokens": planned.tokens,
            "loss": loss,
            "standard_error": error,
            "flops": planned.flops,
            "width": planned.width,
            "layers": model.config.layers,
            "steps": planned.steps,
            "spent": round(trained + self.clock() - began, 3),
            "seconds": round(result.seconds, 3),
            "curve": curve(read_metrics(folder / "metrics.jsonl")),
        }
        remove_checkpoints(folder)
        write_json(folder / "result.json", row)
        return row

    def _train(self, width: int, steps: int, run: Path, title: str) -> tuple[Transformer, TrainResult]:
        config, setting = self.config, self._setting(steps)
        model = Transformer(shape_of(width, self.vocab_size, config.context))
        if setting.mup_width:
            mup.scale(model, setting.mup_width)
        initialize(model, "gpt2", config.seed, mup_width=setting.mup_width)
        data = ShardData([self.text], rows=config.rows, context=config.context, seed=config.seed, device=config.device)
        return model, train(model, CausalLM(), data, setting, run, title=title, inputs=self.inputs)

    def _setting(self, steps: int) -> TrainConfig:
        config, every = self.config, max(1, steps // ROWS_OF_CURVE)
        return TrainConfig(
            steps=steps,
            optimizer=config.optimizer,
            lr=config.lr,
            matrix_lr=config.matrix_lr,
            mup_width=0 if config.optimizer == "muon" else config.base_width,
            schedule=config.schedule,
            warmup=round(config.warmup * steps),
            seed=config.seed,
            log_every=every,
            checkpoint_every=max(1000, every),
            device=config.device,
        )

    def _measure(self, width: int) -> Cost:
        spent, model = [], None
        for steps in PROBE:
            began = self.clock()
            model, _ = self._train(width, steps, self.out / "probe", f"speed at width {width}")
            spent.append(self.clock() - began)
            shutil.rmtree(self.out / "probe")
        assert model is not None
        part = self.valid[: max(1, len(self.valid) // 8)]
        began = self.clock()
        held_out_loss(model, part, self.device)
        measurement = (self.clock() - began) * len(self.valid) / len(part)
        return Cost(max(spent[1] - spent[0], 1e-6) / (PROBE[1] - PROBE[0]), measurement)

    def spent(self) -> float:
        """Seconds of all finished runs, with the preparation: encoding the text and measuring costs."""
        return round(self._preparation + sum(row["spent"] for row in self.rows()), 3)

    def _write(self) -> None:
        rows = self.rows()
        if rows:
            write_rows(self.out / SUMMARY, rows)
        write_json(
            self.out / "sweep.json",
            {
                "config": to_dict(self.config),
                "inputs": self.inputs,
                "costs": {str(width): [cost.step, cost.measurement] for width, cost in self._costs.items()},
                "clock": "cpu" if self.device.type == "cpu" else "wall",
                "threads": torch.get_num_threads(),
                "runs": len(rows),
                "preparation": round(self._preparation, 3),
                "spent": self.spent(),
            },
        )


def curve(rows: list[dict[str, Any]]) -> list[list[float]]:
    """[tokens, loss] of each row of metrics. A row's loss is the mean since the row before: it belongs to the middle."""
    before, out = 0, []
    for row in rows:
        out.append([(before + row["tokens"]) / 2, row["loss"]])
        before = row["tokens"]
    return out


def held_out_rows(shard: TokenShard, context: int, tokens: int) -> np.ndarray:
    """(R, context + 1) ids: rows that do not overlap, spread over the whole shard when it holds more than asked for."""
    count = (len(shard) - 1) // context
    if count < 2:
        raise UserError(f"{shard.path} has only {len(shard)} tokens to measure on: give more text")
    chosen = np.linspace(0, count - 1, min(count, max(2, tokens // context))).astype(np.int64)
    return np.stack([shard.tokens[i * context : (i + 1) * context + 1] for i in chosen]).astype(np.int64)


@torch.inference_mode()
def held_out_loss(model: Transformer, rows: np.ndarray, device: torch.device, batch: int = 64) -> tuple[float, float]:
    """Nats a token over all rows (R, context + 1), and its standard error by the scatter of the rows' means.

    The runs of a sweep share the rows, so that what makes these hard or easy moves all losses together and no law: between
    runs the error is smaller than this one.
    """
    model.eval()
    means = []
    for i in range(0, len(rows), batch):
        block = torch.from_numpy(rows[i : i + batch]).to(device)
        logprobs, _ = target_logprobs(model, TokenBatch(block[:, :-1], block[:, 1:], block[:, 1:].numel()))
        means.append(-logprobs.view(len(block), -1).double().mean(1).cpu())
    values = torch.cat(means)
    return float(values.mean()), float(values.std() / len(values) ** 0.5)
