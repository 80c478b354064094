"""From token shards to the rows of a step: which rows, which part of them, in which micro-batches.

Every step's rows are a function of the step alone: row j of step s is number s * rows + j of an endless run, the mixture says
which source it comes from and its place there, and the source cuts it out. There is no state to save, steps may be asked for
in any order, and a part of the workers reads only its own rows.

Shapes: B rows, T tokens of a row, N rows that are asked for.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from cairn.core.compute import pick_device
from cairn.core.errors import UserError
from cairn.corpus import TokenShard
from cairn.training.losses import IGNORED
from cairn.training.mixture import Mixture
from cairn.training.objective import Part
from cairn.training.shards import ShardSet
from cairn.training.shuffle import mix, shuffled

PADDING = -1  # document of places that hold no token


class Content(NamedTuple):
    """ids (T,), the next token of each or IGNORED (T,), and which of the row's documents it belongs to or PADDING (T,)."""

    ids_T: np.ndarray
    targets_T: np.ndarray
    document_T: np.ndarray


class Row(NamedTuple):
    """A row and its number in the run, from which everything random about it is drawn; -1 for a row that is padding."""

    number: int
    content: Content


Around = tuple[Sequence[int], Sequence[int]]  # tokens before and after a text


def surrounded(ids_T: np.ndarray, targets_T: np.ndarray, document: int, around: Around) -> Content:
    """A text between other tokens, which predict nothing."""
    if any(around):
        before, after = (np.array(side, np.int64) for side in around)
        ids_T = np.concatenate([before, ids_T, after])
        targets_T = np.concatenate([np.full(len(before), IGNORED), targets_T, np.full(len(after), IGNORED)])
    return Content(ids_T, targets_T, np.full(len(ids_T), document, np.int64))


def padded(content: Content, context: int) -> Content:
    """Filled up to `context` places."""
    room = (0, context - len(content.ids_T))
    return Content(
        np.pad(content.ids_T, room),
        np.pad(content.targets_T, room, constant_values=IGNORED),
        np.pad(content.document_T, room, constant_values=PADDING),
    )


class RowSource(Protocol):
    """An endless run of rows, epoch after epoch."""

    def take(self, indices: np.ndarray) -> list[Content]: ...


class CutRows:
    """A text cut every `context` tokens without regard to documents, each epoch at other places and in another order.

    How GPT-2 was trained: no padding and plain causal attention. A row sees the end of one document before the beginning of
    the next; the bos token between them is what tells the model to forget.
    """

    def __init__(self, source: ShardSet, context: int, *, seed: int = 1, salt: int = 0, around: Around = ((), ())):
        if len(source) < context + 2:
            raise UserError(
                f"{source.name} has only {len(source)} tokens, a row needs {context + 1}: add text or lower --context"
            )
        self.source, self.around, self.keys = source, around, (seed, salt)
        self.cut = context - len(around[0]) - len(around[1])
        # The offset costs a row; the last token is a target alone.
        self.per_epoch = max((len(source) - 1) // self.cut - 1, 1)

    def take(self, indices: np.ndarray) -> list[Content]:
        epoch, place = np.divmod(indices, self.per_epoch)
        keys = mix(*self.keys, epoch)
        offsets = (mix(keys, 1) % np.uint64(self.cut)).astype(np.int64)
        starts = offsets + shuffled(place, self.per_epoch, keys) * self.cut
        starts = np.minimum(starts, len(self.source) - self.cut - 1)
        texts = [self.source.read(start, start + self.cut + 1) for start in starts.tolist()]
        return [surrounded(text[:-1], text[1:], 0, self.around) for text in texts]


class RowData(ABC):
    """Rows of several sources in their shares, dealt to the parts of a step; what a batch holds is said by `collate`.

    rows: a step's, of all parts together. micro_rows: rows that go through a model at once; 0 means all of a part. context:
    tokens of a row as the model reads it; `width` as the sources cut it, where that is another number.
    """

    def __init__(
        self,
        sources: Sequence[RowSource],
        *,
        rows: int,
        context: int,
        micro_rows: int = 0,
        shares: Sequence[float] = (1.0,),
        width: int = 0,
        seed: int = 1,
        device: str = "auto",
    ):
        if len(shares) != len(sources):
            raise UserError(f"{len(sources)} corpora need as many shares, got {len(shares)}")
        self.sources, self.mixture = list(sources), Mixture(shares)
        self.rows, self.context, self.width = rows, context, width or context
        self.micro_rows, self.seed = micro_rows or rows, seed
        self.device = pick_device(device)

    @abstractmethod
    def collate(self, rows: Sequence[Row]) -> Any:
        """A micro-batch."""

    @abstractmethod
    def weight(self, batch: Any) -> float: ...

    @abstractmethod
    def tokens(self, batch: Any) -> int: ...

    def batch(self, step: int, part: Part = Part()) -> list[Any]:
        rows = self.numbered(step * self.rows + dealt(self.rows, part))
        return [self.collate(group) for group in self.groups(rows, self.rows, self.micro_rows, part)]

    def numbered(self, numbers: np.ndarray) -> list[Row]:
        """The rows of these numbers of the run."""
        which, index = self.mixture.at(numbers)
        contents: dict[int, Content] = {}
        for source in np.unique(which).tolist():
            at = np.flatnonzero(which == source)
            contents |= zip(at.tolist(), self.sources[source].take(index[at]))
        return [Row(int(number), contents[i]) for i, number in enumerate(numbers)]

    def groups(self, rows: list[Row], total: int, micro_rows: int, part: Part, width: int = 0) -> list[list[Row]]:
        """A part's rows in as many groups as every part has; one that has no row for a group gets a row of padding."""
        count = math.ceil(math.ceil(total / part.count) / micro_rows)
        cuts = [len(rows) * i // count for i in range(count + 1)]
        return [rows[a:b] or [nothing(width or self.width)] for a, b in itertools.pairwise(cuts)]


def nothing(context: int) -> Row:
    """A row of padding."""
    empty = np.zeros(0, np.int64)
    return Row(-1, padded(Content(empty, empty, empty), context))


def dealt(total: int, part: Part) -> np.ndarray:
    """Which of a step's rows are a part's: every count-th."""
    return np.arange(part.index, total, part.count)


def documents_of(rows: Sequence[Row], device: torch.device) -> torch.Tensor | None:
    """document_BT for the model, or None where no row holds two documents, and plain attention says the same.

    Padding stands behind all documents: what is before it never sees it in a causal model, and it has nothing to predict.
    """
    document_BT = np.stack([row.content.document_T for row in rows])
    return torch.from_numpy(document_BT).to(device) if document_BT.max() > 0 else None


def as_set(shard: TokenShard | ShardSet) -> ShardSet:
    return shard if isinstance(shard, ShardSet) else ShardSet([shard])
