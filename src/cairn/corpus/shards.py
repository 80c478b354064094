"""Token shards: a corpus part as one memory-mapped array of ids, with where each document ends.

NAME.bin    ids, little-endian uint16 (uint32 for vocabularies over 65,536), each document led by the bos token
NAME.json   dtype, tokens, document ends, bytes of text, fingerprints; written last
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cairn.core.errors import UserError
from cairn.core.files import atomic_file, hash_file, read_json, write_json
from cairn.tokenizers import Tokenizer


class TokenShard:
    """`shard.tokens` is the memory-mapped array (N,), `shard.ends` the positions after each document's last token."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.info = read_json(self.path.with_suffix(".json"))
        self.tokens = np.memmap(self.path.with_suffix(".bin"), dtype=self.info["dtype"], mode="r")
        if len(self.tokens) != self.info["tokens"]:
            raise UserError(
                f"{self.path}.bin holds {len(self.tokens)} tokens, {self.info['tokens']} are expected: make it again"
            )
        self.ends = np.asarray(self.info["ends"], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.tokens)


def write_shard(path: Path | str, texts: Iterable[str], tokenizer: Tokenizer, source: str) -> TokenShard:
    """Encode `texts` to `path`.bin and `path`.json. `source` is the fingerprint of the corpus they come from."""
    path = Path(path)
    wanted = {"source": source, "tokenizer": tokenizer.fingerprint()}
    index = path.with_suffix(".json")
    if index.exists():
        info = read_json(index)
        data = path.with_suffix(".bin")
        if {k: info.get(k) for k in wanted} == wanted and data.exists() and hash_file(data) == info["sha256"]:
            return TokenShard(path)
    dtype = "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"
    ends: list[int] = []
    total = size = 0
    with atomic_file(path.with_suffix(".bin")) as handle:
        for text in texts:
            ids = tokenizer.encode(text)
            if tokenizer.bos_id is not None:
                ids = [tokenizer.bos_id, *ids]
            handle.write(np.asarray(ids, dtype=dtype).tobytes())
            total += len(ids)
            size += len(text.encode("utf-8", "surrogatepass"))
            ends.append(total)
    if total < 2:
        raise UserError(f"{path}: the corpus has no text to encode")
    info = wanted | {"dtype": dtype, "tokens": total, "bytes": size, "ends": ends}
    write_json(index, info | {"sha256": hash_file(path.with_suffix(".bin"))})
    return TokenShard(path)
