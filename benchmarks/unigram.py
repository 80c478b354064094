"""Unigram and SentencePiece's BPE: training, encoding, memory, and what the learned vocabulary is worth.

    python benchmarks/unigram.py [--quick] [--json FILE]

The text is 50 MB of the Python files on this machine (4 MB when quick), the vocabulary 32,000, nmt_nfkc, byte fallback;
nine tenths are for training. Each training runs in a fresh process with warm caches, on two threads. Encoding is of the
same held-out text by the same model, on one thread; all ids are compared. ratio > 1 means better than the peer.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

from measure import Row, fresh, interleaved, main, row
from tokenizer import python_files

THREADS = 2
TRAIN_OURS = """
import json, sys, time
from cairn.tokenizers.modelfile import write_model_file
from cairn.tokenizers.unigram_training import UnigramConfig, train_unigram
texts = json.load(open(sys.argv[1]))
size, threads = int(sys.argv[2]), int(sys.argv[3])
train_unigram(["the walkers walk to the walled garden " * 9], 275)
start = time.perf_counter()
model = train_unigram(texts, size, config=UnigramConfig(size, threads=threads))
seconds = time.perf_counter() - start
write_model_file(model.file, sys.argv[4])
print(json.dumps({"seconds": seconds}))
"""
TRAIN_SENTENCEPIECE = """
import json, sys, time
import sentencepiece
texts = json.load(open(sys.argv[1]))
lines = [line for text in texts for line in text.split("\\n")]
with open(sys.argv[4], "wb") as out:
    start = time.perf_counter()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, model_type=sys.argv[5], vocab_size=int(sys.argv[2]),
        num_threads=int(sys.argv[3]), byte_fallback=True, max_sentence_length=1 << 20, minloglevel=2)
    seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds}))
"""


def value_of(path: Path, texts: list[str]) -> tuple[int, float]:
    """Tokens of the texts, and the log likelihood of the best segmentation."""
    from cairn.tokenizers.sentencepiece import read
    from cairn.tokenizers.unigram import Unigram

    model = read(path)
    assert isinstance(model, Unigram)
    ids = [token for text in texts for token in model.encode(text)]
    unwritten = {model.unknown_id, *model.byte_ids}
    return len(ids), sum(model.unknown_score if i in unwritten else model.pieces[i].score for i in ids)


def training(folder: Path, held: list[str], vocab_size: int) -> list[Row]:
    texts = folder / "train.json"
    ours = fresh(TRAIN_OURS, texts, vocab_size, THREADS, folder / "ours.model")
    theirs = fresh(TRAIN_SENTENCEPIECE, texts, vocab_size, THREADS, folder / "theirs.model", "unigram")
    name = f"unigram training, {THREADS} threads"
    tokens, likelihood = zip(*(value_of(folder / f"{who}.model", held) for who in ("ours", "theirs")))
    return [
        row(name, "sentencepiece", ours["seconds"], theirs["seconds"], "s", 3.0, less_is_better=True),
        row("its peak memory", "sentencepiece", ours["peak_mb"], theirs["peak_mb"], "MB", 1.0, less_is_better=True),
        row("tokens of unseen text", "sentencepiece", tokens[0], tokens[1], "tokens", 0.995, less_is_better=True),
        row("loss on it", "sentencepiece", -likelihood[0], -likelihood[1], "nats", 0.995, less_is_better=True),
    ]


def encoding(path: Path, texts: list[str], name: str, runs: int, goal: float) -> list[Row]:
    import sentencepiece

    from cairn.tokenizers.sentencepiece import read

    model, oracle = read(path), sentencepiece.SentencePieceProcessor(model_file=str(path))
    lines = [line for text in texts for line in text.split("\n")]
    size = sum(len(line.encode()) for line in lines) / 1e6
    assert [model.encode(line) for line in lines[:20_000]] == oracle.encode(lines[:20_000])
    assert [ids.tolist() for ids in model.encode_batch(texts)] == oracle.encode(texts)
    rows = []
    for form, parts in (("texts", texts), ("lines", lines)):
        calls = [partial(model.encode_batch, parts), partial(oracle.encode, parts, num_threads=1)]
        ours, theirs = interleaved(calls, runs)
        row_name = f"{name} encoding, {form}"
        rows.append(row(row_name, "sentencepiece", size / ours, size / theirs, "MB/s", goal, less_is_better=False))
    return rows


def measure(quick: bool) -> list[Row]:
    all_texts = list(python_files((4 if quick else 50) * 1_000_000))
    held = all_texts[::10]
    vocab_size = 4_000 if quick else 32_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.json").write_text(json.dumps([t for i, t in enumerate(all_texts) if i % 10]), encoding="utf-8")
        rows = training(folder, held, vocab_size)
        fresh(TRAIN_SENTENCEPIECE, folder / "train.json", vocab_size, THREADS, folder / "bpe.model", "bpe")
        rows += encoding(folder / "theirs.model", held, "unigram", 1 if quick else 3, 1.0)
        return rows + encoding(folder / "bpe.model", held, "SentencePiece BPE", 1 if quick else 3, 2.0)


if __name__ == "__main__":
    main(__doc__ or "", measure)
