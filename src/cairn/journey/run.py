"""The journey: every stage once, in order, each from the directory of the one before.

    runs/journey/
      corpus/ tokenizer/                            text, and how it is cut
      pretrain/ continue/ sft/ dpo/                 model directories, one a stage
      pretrain.run/ ...                             metrics.jsonl of each training
      int8/ int4/                                   the final model in fewer bits
      evaluation/ understand/                       what was measured and drawn
      summary.json report.html                      every figure, and the page to show

Run again after an interruption, complete steps are skipped and the interrupted one goes on where it was.
"""

import lzma
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cairn.alignment import dpo, sft, skills_of
from cairn.core.compute import pick_device, set_threads
from cairn.core.config import to_dict
from cairn.core.errors import UserError
from cairn.core.files import read_json, write_json
from cairn.core.progress import say
from cairn.corpus import Corpus, build_corpus
from cairn.corpus.build import complete_corpus
from cairn.corpus.skills import Skills
from cairn.corpus.vocabulary import compression, tokenizer_stage
from cairn.evaluation import bits_per_byte
from cairn.evaluation.stage import evaluate_model
from cairn.inference import Engine
from cairn.interpretability import TEXT, inspect_models
from cairn.journey.recipe import Recipe
from cairn.journey.report import write_report
from cairn.models import load, weights_hash
from cairn.models.directory import versions
from cairn.quantization import measure_precision, quantize_directory
from cairn.retrieval.rag import Retriever, compare
from cairn.retrieval.tools import TOOLS
from cairn.training.pretrain import pretrain

STAGES = {
    "pretrain": "Base model",
    "continue": "Continued on the domain",
    "sft": "Fine-tuned to answer",
    "dpo": "Preference-optimised",
}
FINAL = "dpo"
CHANCE_BITS_PER_BYTE = 8.0
TEST_SEED = 2  # of the held-out questions; they are disjoint from all training questions whatever the seed


class Journey:
    """One run of a recipe in the directory `out`."""

    def __init__(self, recipe: Recipe, out: Path | str, threads: int = 0):
        self.recipe, self.out = recipe, Path(out)
        self.began = time.perf_counter()
        state = self._open(threads)
        self.threads: int = state["threads"]
        self.seconds_before: float = state["seconds"]
        torch.set_num_threads(self.threads)

    def _open(self, threads: int) -> dict[str, Any]:
        """Start a run, or go on with one of the same recipe: with its thread count, for sums depend on it bit by bit."""
        marker = self.out / "journey.json"
        wanted = to_dict(self.recipe)
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{self.out} is a file; choose another --out")
        if marker.exists():
            state = read_json(marker)
            begun = (self.out / "corpus").exists()  # before, there is nothing to lose: a mistyped --data, say
            if state["recipe"] != wanted and not begun:
                state = {"recipe": wanted, "threads": threads or state["threads"], "seconds": 0.0}
                write_json(marker, state)
            if state["recipe"] != wanted:
                changed = ", ".join(_differences(state["recipe"], wanted))
                raise UserError(
                    f"{self.out} holds a journey with other settings ({changed}); choose another --out, or delete it"
                )
            if threads and threads != state["threads"]:
                raise UserError(
                    f"{self.out} was begun with {state['threads']} threads and goes on with them; leave --threads out"
                )
            say(f"journey: going on in {self.out}")
            return state
        if self.out.exists() and any(self.out.iterdir()):
            raise UserError(f"{self.out} is not empty and holds no journey; choose another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        state = {"recipe": wanted, "threads": set_threads(threads), "seconds": 0.0}
        write_json(marker, state)
        return state

    def run(self) -> dict[str, Any]:
        """All stages; returns the summary, which also stands in summary.json."""
        recipe, out = self.recipe, self.out
        say(f"journey to {out} with {self.threads} thread{'s' * (self.threads > 1)} on {pick_device(recipe.device)}")
        corpus = self._corpus()
        tokenizer = self._tokenizer(corpus)
        skills = skills_of(corpus)
        tests = skills.test(recipe.per_skill, TEST_SEED)
        records = {}
        for name in STAGES:
            self._title(name, STAGES[name])
            records[name] = self._train(name)
            self._cached(
                f"evaluation/{name}", weights_hash(out / name), lambda name=name: self._evaluate(name, corpus, tests)
            )
        self._title("quantize", "8 and 4 bits")
        precisions = self._precisions(corpus)
        self._title("ground", "with and without retrieval")
        retrieval = self._cached(
            "evaluation/retrieval", weights_hash(out / FINAL), lambda: self._ground(corpus, skills)
        )
        self._title("understand", "what happens inside, what each stage changed")
        understand = self._cached("understand/understand", weights_hash(out / FINAL), self._understand)
        self._title("report", "")
        summary = {
            "versions": versions(),
            "recipe": to_dict(recipe),
            "seed": recipe.seed,
            "threads": self.threads,
            "device": str(pick_device(recipe.device)),
            "seconds": self._elapsed(),
            "corpus": corpus_summary(corpus),
            "tokenizer": tokenizer,
            "chance_bits_per_byte": CHANCE_BITS_PER_BYTE,
            "xz": self._cached("evaluation/xz", corpus.fingerprint(), lambda: xz(corpus)),
            "stages": [self._stage_summary(name, records[name]) for name in STAGES],
            "dpo": dpo_summary(records["dpo"]),
            "precisions": precisions,
            "retrieval": retrieval,
            "understand": understand,
        }
        summary = {"cairn": summary["versions"]["cairn"], **summary}
        write_json(out / "summary.json", summary)
        write_report(out)
        return summary

    # --- steps

    def _corpus(self) -> Corpus:
        self._title("corpus", self.recipe.corpus.data or "Python's documentation and source code")
        began = time.perf_counter()
        found = complete_corpus(self.recipe.corpus, self.out / "corpus")
        corpus = found or build_corpus(self.recipe.corpus, self.out / "corpus")
        self._cached(
            "evaluation/corpus", corpus.fingerprint(), lambda: {"seconds": round(time.perf_counter() - began, 2)}
        )
        counts = corpus.info["counts"]
        say("  " + ", ".join(f"{part} {c['documents']} documents {c['bytes']:,} bytes" for part, c in counts.items()))
        if corpus.info["quarantine"]["counts"]:
            say(f"  left out: {', '.join(f'{n} x {r}' for r, n in corpus.info['quarantine']['counts'].items())}")
        return corpus

    def _tokenizer(self, corpus: Corpus) -> dict[str, Any]:
        self._title("tokenizer", f"byte-level BPE, {self.recipe.vocab_size} ids")

        def train() -> dict[str, Any]:
            began = time.perf_counter()
            tokenizer = tokenizer_stage(corpus, self.recipe.vocab_size, self.out / "tokenizer")
            seconds = round(time.perf_counter() - began, 2)
            size = {"vocab_size": tokenizer.vocab_size, "bytes_per_token": compression(tokenizer, corpus)}
            return {"directory": "tokenizer", "seconds": seconds} | size

        return self._cached("evaluation/tokenizer", corpus.fingerprint(), train)

    def _train(self, name: str) -> dict[str, Any]:
        recipe, out = self.recipe, self.out
        if name == "pretrain":
            return pretrain(recipe.pretrain, out / "corpus", out / name, tokenizer=out / "tokenizer")
        if name == "continue":
            return pretrain(recipe.continued, out / "corpus", out / name, model=out / "pretrain")
        if name == "sft":
            return sft(recipe.sft, out / "continue", out / "corpus", out / name)
        return dpo(recipe.dpo, out / "sft", out / "corpus", out / name)

    def _evaluate(self, name: str, corpus: Corpus, tests: dict) -> dict[str, Any]:
        model, tokenizer = load(self.out / name)
        return evaluate_model(model, tokenizer, corpus, tests, TOOLS)

    def _precisions(self, corpus: Corpus) -> list[dict[str, Any]]:
        source = self.out / FINAL
        if self.recipe.pretrain.preset == "gpt2-124m":
            say("  left out: the quantized format holds Llama models, not GPT-2")
            return []
        texts = list(corpus.texts("general-valid"))
        rows: list[dict[str, Any]] = []
        for name, bits in (("float32", 32), ("INT8", 8), ("INT4", 4)):
            directory = self.out / (FINAL if bits == 32 else name.lower())
            if bits < 32 and not directory.exists():
                quantize_directory(source, directory, bits)
            identity = weights_hash(directory)
            measured = self._cached(
                f"evaluation/{name.lower()}", identity, lambda d=directory: measure_precision(d, texts, bits_per_byte)
            )
            rows.append({"name": name, "bits": bits, "directory": directory.name} | measured)
        for row in rows:
            row["cost"] = row["bits_per_byte"] - rows[0]["bits_per_byte"]
            row["ratio"] = row["tokens_per_second"] / rows[0]["tokens_per_second"]
        return rows

    def _ground(self, corpus: Corpus, skills: Skills) -> dict[str, Any]:
        documents = [d for part in ("general-train", "general-valid") for d in corpus.documents(part)]
        questions = skills.test(self.recipe.grounded, TEST_SEED + 1)["module"]
        if not questions:
            say("  left out: the questions are about Python's library, whose documentation this corpus does not hold")
            return {}
        model, tokenizer = load(self.out / FINAL)
        return compare(Engine(model, tokenizer), Retriever.of(documents), questions).to_dict()

    def _understand(self) -> dict[str, Any]:
        return inspect_models([self.out / name for name in STAGES], TEXT, self.out / "understand")

    # --- the frame around a step

    def _title(self, name: str, what: str) -> None:
        self._save_seconds()
        say(f"\n[{self._elapsed():5.0f} s] {name}{': ' if what else ''}{what}")

    def _elapsed(self) -> float:
        return round(self.seconds_before + time.perf_counter() - self.began, 1)

    def _save_seconds(self) -> None:
        marker = self.out / "journey.json"
        write_json(marker, read_json(marker) | {"seconds": self._elapsed()})

    def _cached(self, name: str, identity: str, compute: Callable[[], Any]) -> Any:
        """The result of an earlier run for the same input, or a new one."""
        path = self.out / f"{name}.json"
        if path.exists():
            found = read_json(path)
            if found.get("identity") == identity:
                return found["result"]
        result = compute()
        write_json(path, {"identity": identity, "result": result})
        return result

    def _stage_summary(self, name: str, record: dict[str, Any]) -> dict[str, Any]:
        measured = read_json(self.out / "evaluation" / f"{name}.json")["result"]
        head = {"name": name, "title": STAGES[name], "directory": name}
        return head | {k: record[k] for k in ("seconds", "parameters", "tokens", "steps")} | measured


def corpus_summary(corpus: Corpus) -> dict[str, Any]:
    config = corpus.info["config"]
    source = config["data"] or f"documentation of Python {corpus.info['python']}"
    seconds = read_json(corpus.path.parent / "evaluation" / "corpus.json")["result"]["seconds"]
    kept = {k: corpus.info[k] for k in ("counts", "quarantine", "fingerprint")}
    return {"directory": corpus.path.name, "seconds": seconds, "source": source} | kept


def dpo_summary(record: dict[str, Any]) -> dict[str, Any]:
    metrics = record["metrics"]
    return {k: metrics[k] for k in ("pairs", "held_out_pairs")} | {"accuracy": metrics["preference_accuracy"]}


def xz(corpus: Corpus) -> dict[str, Any]:
    """What `xz -9` needs for the validation text: a compressor that sees nothing else is the model's plainest peer."""
    data = {k: "".join(corpus.texts(f"{k}-valid")).encode("utf-8", "surrogatepass") for k in ("general", "domain")}
    bits = {k: 8 * len(lzma.compress(v, preset=9)) / len(v) for k, v in data.items()}
    return {"bits_per_byte": bits["general"], "bytes": len(data["general"]), "domain_bits_per_byte": bits["domain"]}


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{name}.{k}" if name else k)]
    return [] if old == new else [f"{name}: {old} -> {new}"]
