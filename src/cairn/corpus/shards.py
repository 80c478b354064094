"""Token shards: documents as one memory-mapped array of ids, with where each document ends.

NAME.bin    ids, little-endian uint16 (uint32 for vocabularies over 65,536), each document led by the bos token
NAME.ends   little-endian int64: the position after each document's last token
NAME.json   dtype, tokens, documents, bytes of text, checksums, fingerprints of tokenizer and data; written last
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cairn.core.batching import batches
from cairn.core.errors import UserError
from cairn.core.files import atomic_file, hash_file, read_json, write_json
from cairn.tokenizers import Tokenizer


class TokenShard:
    """`shard.tokens` is the memory-mapped array (N,), `shard.ends` (documents,) the positions after each document."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.info = read_json(self.path.with_suffix(".json"))
        self.tokens = self._mapped(".bin", self.info["dtype"], self.info["tokens"])
        self.ends = self._mapped(".ends", "<i8", self.info["documents"])

    def _mapped(self, suffix: str, dtype: str, count: int) -> np.ndarray:
        path = self.path.with_suffix(suffix)
        expected = count * np.dtype(dtype).itemsize
        found = path.stat().st_size if path.exists() else 0
        if found != expected:
            raise UserError(f"{path} holds {found} bytes, {expected} are expected: make it again")
        return np.memmap(path, dtype=dtype, mode="r")

    def __len__(self) -> int:
        return len(self.tokens)

    def document(self, number: int) -> np.ndarray:
        """Ids of one document, its bos token included."""
        return self.tokens[self.ends[number - 1] if number else 0 : self.ends[number]]

    def is_whole(self) -> bool:
        """Whether the files are still what was written, by their checksums."""
        return all(hash_file(self.path.with_suffix(s)) == self.info["sha256"][s] for s in (".bin", ".ends"))


def write_shard(
    path: Path | str, texts: Iterable[str], tokenizer: Tokenizer, source: str, threads: int = 1
) -> TokenShard:
    """Encode `texts` to `path`.bin, .ends and .json. `source` is the fingerprint of the corpus they come from.

    Texts are streamed. A shard that is there already, made of the same source by the same tokenizer, is left alone.
    """
    path = Path(path)
    wanted = {"source": source, "tokenizer": tokenizer.fingerprint()}
    index = path.with_suffix(".json")
    if index.exists() and {k: read_json(index).get(k) for k in wanted} == wanted:
        with contextlib.suppress(UserError):  # damaged: made again below
            shard = TokenShard(path)
            if shard.is_whole():
                return shard
    dtype = "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"
    bos = np.array([] if tokenizer.bos_id is None else [tokenizer.bos_id], dtype)
    total = size = documents = 0
    with atomic_file(path.with_suffix(".bin")) as tokens, atomic_file(path.with_suffix(".ends")) as ends:
        for batch in batches(texts):
            parts = [part for ids in tokenizer.encode_batch(batch, threads) for part in (bos, ids.astype(dtype))]
            tokens.write(np.concatenate(parts).tobytes())
            lengths = [len(bos) + len(ids) for ids in parts[1::2]]
            ends.write((total + np.cumsum(lengths)).astype("<i8").tobytes())
            total += sum(lengths)
            documents += len(batch)
            size += sum(len(text.encode("utf-8", "surrogatepass")) for text in batch)
    if not documents:
        raise UserError(f"{path}: the corpus has no text to encode")
    info = wanted | {"dtype": dtype, "tokens": total, "documents": documents, "bytes": size}
    write_json(index, info | {"sha256": {s: hash_file(path.with_suffix(s)) for s in (".bin", ".ends")}})
    return TokenShard(path)
