"""Byte-level BPE: training, encoding, memory and cold start, each against a peer in the same run.

    python benchmarks/tokenizer.py [--quick] [--json FILE]

The text is 50 MB of the Python files on this machine, the vocabulary 32,768, the split pattern GPT-2's. Training runs each
time in a fresh process with warm caches, so that threads and peak memory are its own; the merges of ours and of
`tokenizers` are compared, and so are all ids of ours and of tiktoken. Encoding runs interleaved. ratio > 1 means better.
"""

import json
import os
import statistics
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import Row, fresh, interleaved, main, row

VOCABULARY = 32_768

TRAIN_OURS = """
import json, sys, time
from cairn.tokenizers import pretokenize, train_tokenizer
texts = json.load(open(sys.argv[1]))
train_tokenizer(texts[:2], 300, pattern=pretokenize.GPT2, special=())
start = time.perf_counter()
tokenizer = train_tokenizer(texts, int(sys.argv[2]), pattern=pretokenize.GPT2, special=(), threads=int(sys.argv[3]))
seconds = time.perf_counter() - start
tokenizer.save(sys.argv[4])
print(json.dumps({"seconds": seconds}))
"""
TRAIN_TOKENIZERS = """
import json, sys, time
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from cairn.tokenizers import pretokenize
texts = json.load(open(sys.argv[1]))
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
trainer = trainers.BpeTrainer(vocab_size=int(sys.argv[2]), show_progress=False,
                              initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
start = time.perf_counter()
tokenizer.train_from_iterator(texts, trainer)
seconds = time.perf_counter() - start
json.dump(json.loads(tokenizer.to_str())["model"]["merges"], open(sys.argv[4], "w"))
print(json.dumps({"seconds": seconds}))
"""
TRAIN_RUSTBPE = """
import json, sys, time
import rustbpe
from cairn.tokenizers import pretokenize
texts = json.load(open(sys.argv[1]))
start = time.perf_counter()
rustbpe.Tokenizer().train_from_iterator(iter(texts), int(sys.argv[2]), pattern=pretokenize.GPT2)
print(json.dumps({"seconds": time.perf_counter() - start}))
"""
START = """
import sys, time
start = time.perf_counter()
from cairn.tokenizers import Tokenizer
imported = time.perf_counter() - start
assert "numba" not in sys.modules
tokenizer = Tokenizer.load(sys.argv[1])
loaded = time.perf_counter() - start
tokenizer.encode("The cairn marks the trail.")
plain = time.perf_counter() - start
assert "numba" not in sys.modules
tokenizer.model.encode_bytes(b"The cairn marks the trail.")
import json
print(json.dumps({"imported": imported, "plain": plain, "compiled": time.perf_counter() - start}))
"""


def python_files(size: int) -> Iterator[str]:
    """Texts of the Python files on this machine, up to `size` bytes."""
    roots = [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib")]
    total = 0
    for file in sorted({f for root in roots for f in root.rglob("*.py")}):
        try:
            text = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        total += len(text.encode())
        yield text
        if total >= size:
            return


def training(texts: Path, size: float, folder: Path, quick: bool) -> list[Row]:
    vocabulary = 2000 if quick else VOCABULARY
    runs = 1 if quick else 3
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(runs):
        for name, code, threads in (
            ("ours", TRAIN_OURS, 1),
            ("tokenizers", TRAIN_TOKENIZERS, 1),
            ("rustbpe", TRAIN_RUSTBPE, 1),
            ("ours", TRAIN_OURS, 2),
            ("tokenizers", TRAIN_TOKENIZERS, 2),
            ("rustbpe", TRAIN_RUSTBPE, 2),
        ):
            environment = {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true", "OMP_NUM_THREADS": "1"}
            out = fresh(code, texts, vocabulary, threads, folder / name, environment=environment)
            found.setdefault((name, threads), []).append(out)
    ours = json.loads((folder / "ours" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    assert ours == json.loads((folder / "tokenizers").read_text(encoding="utf-8")), "merges differ"

    def middle(name: str, threads: int, key: str) -> float:
        return statistics.median(out[key] for out in found[name, threads])

    rows = []
    for threads in (1, 2):
        for peer, goal in (("tokenizers", 5.0 if threads == 1 else 2.0), ("rustbpe", 1.0)):
            rows.append(
                row(
                    f"train {size / 1e6:.0f} MB, {vocabulary} ids, {threads} thread(s)",
                    peer,
                    middle("ours", threads, "seconds"),
                    middle(peer, threads, "seconds"),
                    "s",
                    goal,
                    less_is_better=True,
                )
            )
    for peer in ("tokenizers", "rustbpe"):
        memory = middle("ours", 1, "peak_mb"), middle(peer, 1, "peak_mb")
        rows.append(row("train: peak memory, texts included", peer, *memory, "MB", 0.5, less_is_better=True))
    return rows


def encoding(texts: list[str], folder: Path, quick: bool) -> list[Row]:
    import rs_bpe
    import tiktoken
    import tiktoken.load
    import tokenizers

    from cairn.tokenizers import Tokenizer
    from cairn.tokenizers import tiktoken as ranks

    size = sum(len(text.encode()) for text in texts) / 1e6
    ours = Tokenizer.load(folder / "ours")
    ranks.save(ours, folder / "ours.tiktoken")
    table = tiktoken.load.load_tiktoken_bpe(str(folder / "ours.tiktoken"))
    theirs = tiktoken.Encoding("ours", pat_str=ours.model.pattern, mergeable_ranks=table, special_tokens={})
    implied = ranks.load(folder / "ours.tiktoken", pattern=ours.model.pattern, special={})
    for text in texts[:200]:
        assert implied.encode(text) == theirs.encode_ordinary(text), "ids differ from tiktoken's"
    hugging = tokenizers.Tokenizer.from_file(str(folder / "ours" / "tokenizer.json"))
    for text in texts[:50]:
        assert ours.encode(text) == hugging.encode(text, add_special_tokens=False).ids, "ids differ from tokenizers'"
    cl100k = rs_bpe.openai.cl100k_base()  # it has its own vocabularies alone
    few = texts[: max(1, len(texts) // 8)]
    small = sum(len(text.encode()) for text in few) / 1e6
    runs = 1 if quick else 5
    one, two, tik, rs, hug = interleaved(
        [
            lambda: ours.encode_batch(texts),
            lambda: ours.encode_batch(texts, threads=2),
            lambda: [theirs.encode_ordinary(text) for text in texts],
            lambda: [cl100k.encode(text) for text in few],
            lambda: [hugging.encode(text, add_special_tokens=False).ids for text in few],
        ],
        runs,
    )
    return [
        row("encode, 1 thread", "tiktoken", size / one, size / tik, "MB/s", 2.0, less_is_better=False),
        row("encode, 1 thread", "tokenizers", size / one, small / hug, "MB/s", 5.0, less_is_better=False),
        row("encode, 1 thread", "rs-bpe (cl100k)", size / one, small / rs, "MB/s", 1.0, less_is_better=False),
        row("encode, 2 threads", "ours, 1 thread", size / two, size / one, "MB/s", 1.7, less_is_better=False),
    ]


def cold_start(folder: Path) -> list[Row]:
    """A new process until the first ids: with compiled code on disk, and without any."""
    peer = "import json, time; start = time.perf_counter(); import tokenizers, sys\n"
    peer += (
        "t = tokenizers.Tokenizer.from_file(sys.argv[1] + '/tokenizer.json'); t.encode('The cairn marks the trail.')\n"
    )
    peer += "print(json.dumps({'encoded': time.perf_counter() - start}))"
    theirs = fresh(peer, folder / "ours")["encoded"]
    fresh(START, folder / "ours")
    warm = fresh(START, folder / "ours")
    with tempfile.TemporaryDirectory() as empty:
        cold = fresh(START, folder / "ours", environment={"NUMBA_CACHE_DIR": empty})
    rows = [
        ("import cairn.tokenizers", warm["imported"]),
        ("first ids (plain Python)", warm["plain"]),
        ("first ids by kernels, compiled before", warm["compiled"]),
        ("first ids by kernels, not compiled", cold["compiled"]),
    ]
    return [row(name, "tokenizers", value, theirs, "s", 0.0, less_is_better=True) for name, value in rows]


def measure(quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        texts = list(python_files(2_000_000 if quick else 50_000_000))
        size = sum(len(text.encode()) for text in texts)
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        rows = training(folder / "texts.json", size, folder, quick)
        rows += encoding(texts[:200] if quick else texts[: len(texts) // 3], folder, quick)
        rows += cold_start(folder)
    return rows


if __name__ == "__main__":
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    main(__doc__ or "", measure)
