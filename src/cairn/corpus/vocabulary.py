"""The tokenizer of a corpus: trained once, on the training part alone."""

from itertools import islice
from pathlib import Path

from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, fingerprint, read_json, write_json
from cairn.corpus.build import Corpus
from cairn.tokenizers import Tokenizer, train_tokenizer

VOCAB_SIZE = 2048


def tokenizer_stage(corpus: Corpus, vocab_size: int, out: Path | str, threads: int = 1) -> Tokenizer:
    """Train on general-train, unless `out` already holds that tokenizer."""
    out = Path(out)
    identity = fingerprint([corpus.fingerprint(), vocab_size])
    marker = out / "cairn.json"
    if out.exists():
        if marker.exists() and read_json(marker).get("identity") == identity:
            return Tokenizer.load(out)
        raise UserError(f"{out} exists already and was made of something else; choose another --out, or delete it")
    tokenizer = train_tokenizer(corpus.texts("general-train"), vocab_size, threads=threads)
    with atomic_directory(out) as directory:
        tokenizer.save(directory)
        write_json(
            directory / "cairn.json", {"stage": "tokenizer", "identity": identity, "corpus": corpus.fingerprint()}
        )
    return Tokenizer.load(out)


def compression(tokenizer: Tokenizer, corpus: Corpus, documents: int = 50) -> dict[str, float]:
    """UTF-8 bytes a token on validation text."""
    out = {}
    for kind in ("general", "domain"):
        texts = list(islice(corpus.texts(f"{kind}-valid"), documents))
        tokens = sum(len(tokenizer.encode(t)) for t in texts)
        out[kind] = round(sum(len(t.encode("utf-8", "surrogatepass")) for t in texts) / max(tokens, 1), 4)
    return out
