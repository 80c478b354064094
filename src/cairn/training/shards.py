"""Token shards as a source of training rows: many files as one long text of which nothing is loaded.

Ids are memory-mapped: a row costs the few pages it lies on, whatever the size of the corpus.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cairn.core.errors import UserError
from cairn.core.files import fingerprint
from cairn.corpus import TokenShard
from cairn.tokenizers import Tokenizer


class ShardSet:
    """Shards laid end to end: `len` tokens, addressed as if they were one array, and `documents`.

    parts need `tokens`, `path` and, for whatever asks about documents, `ends`, as `TokenShard` has them.
    """

    def __init__(self, parts: Sequence[TokenShard], name: str = ""):
        self.parts, self.name = list(parts), name or str(parts[0].path)
        self._tokens = [np.asarray(part.tokens) for part in self.parts]  # still mapped; a memmap's own slices are slow
        self._starts = np.cumsum([0] + [len(tokens) for tokens in self._tokens])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def documents(self) -> int:
        return sum(len(part.ends) for part in self.parts)

    @property
    def bytes(self) -> int:
        """Bytes of text."""
        return sum(part.info["bytes"] for part in self.parts)

    def fingerprint(self) -> str:
        """Of what the files hold, by the checksums written with them."""
        return fingerprint([part.info["sha256"] for part in self.parts])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Ids start:stop, as int64."""
        pieces = []
        which = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            offset, end = int(self._starts[which]), min(stop, int(self._starts[which + 1]))
            pieces.append(self._tokens[which][start - offset : end - offset])
            start, which = end, which + 1
        whole = pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.int64), *pieces])
        return whole.astype(np.int64)

    def borders(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where documents `numbers` (N,) begin and end: two arrays (N,)."""
        before = np.cumsum([0] + [len(part.ends) for part in self.parts])
        which = np.searchsorted(before, numbers, side="right") - 1
        starts, stops = np.empty(len(numbers), np.int64), np.empty(len(numbers), np.int64)
        for piece, part in enumerate(self.parts):
            at = np.flatnonzero(which == piece)
            local = numbers[at] - before[piece]
            starts[at] = np.where(local > 0, part.ends[np.maximum(local - 1, 0)], 0) + self._starts[piece]
            stops[at] = part.ends[local] + self._starts[piece]
        return starts, stops

    def each_document(self) -> Iterator[np.ndarray]:
        """Ids of every document, its bos token included."""
        for part in self.parts:
            for number in range(len(part.ends)):
                yield part.document(number)


def open_shards(path: Path | str, tokenizer: Tokenizer | None = None, side: str = "train") -> ShardSet:
    """The token shards of a folder that `cairn corpus build` wrote, or of one file (its path without the ending).

    side: "train" or "valid", the beginning of the files' names. A tokenizer is compared with the one that made the shards.
    """
    path = Path(path)
    folder = path / "tokens" if (path / "tokens").is_dir() else path
    if folder.is_dir():
        files = sorted(file.with_suffix("") for file in folder.glob(f"{side}*.bin"))
        if not files:
            raise UserError(f"{path} has no token shards of the {side} side; make them with cairn corpus build")
    elif path.with_suffix(".bin").exists():
        files = [path.with_suffix("")]
    else:
        raise UserError(f"{path} does not exist, a folder of token shards is expected (see cairn corpus build)")
    shards = [TokenShard(file) for file in files]
    wanted = {tokenizer.fingerprint() if tokenizer is not None else shards[0].info["tokenizer"]}
    for shard in shards:
        if shard.info["tokenizer"] not in wanted:
            hint = f"; the one that made them is {path / 'tokenizer'}" if (path / "tokenizer").is_dir() else ""
            raise UserError(f"{shard.path} was made with another tokenizer{hint}")
    return ShardSet(shards, str(path))
