"""Token shards for causal language modelling: rows of running text or of whole documents, some of them echoes."""

from collections.abc import Sequence

import numpy as np
import torch

from cairn.core.errors import UserError
from cairn.corpus import TokenShard
from cairn.training.causal import TokenBatch
from cairn.training.losses import IGNORED
from cairn.training.objective import Part
from cairn.training.packing import PackedRows
from cairn.training.rows import Content, CutRows, Row, RowData, as_set, dealt, documents_of
from cairn.training.shards import ShardSet

ECHO_CONTEXT = 64  # short rows: many repetitions a step, and copying appears early


class ShardData(RowData):
    """Rows of `context` tokens from one or several shards, each epoch in another order (see `RowData`).

    packed: whole documents that do not see each other, instead of running text cut into rows (see `packing`); end_id is then
    what the last token of a document predicts.

    echo: share of rows in which a stretch of text is said again and again. Plain text rewards copying from the context
    too rarely for a model of a million parameters to learn it: 2 million tokens of documentation left the second
    saying of a text as surprising as the first (3.99 and 3.93 nats a token), also with a fifth of such rows. What does
    teach it is to begin with nothing else: for `echo_steps` steps all rows are echoes of ECHO_CONTEXT tokens, in batches
    of half the size, since it is steps that are needed, not tokens. Between step 350 and 600 the loss of the repetition
    falls from 4 to below 1 nat, and a small share of echoes later keeps the skill alive.
    """

    def __init__(
        self,
        shards: Sequence[TokenShard | ShardSet],
        *,
        rows: int,
        context: int,
        micro_rows: int = 0,
        shares: Sequence[float] = (1.0,),
        packed: bool = False,
        end_id: int | None = None,
        echo: float = 0.0,
        echo_steps: int = 0,
        seed: int = 1,
        device: str = "auto",
    ):
        if packed and (echo or echo_steps):
            raise UserError("echoes are made of running text: give echo 0 and echo_steps 0 with packed documents")
        self.packed = [PackedRows(as_set(s), context, seed=seed, end_id=end_id) for s in shards] if packed else []
        cut = [] if packed else [CutRows(as_set(s), context, seed=seed, salt=i) for i, s in enumerate(shards)]
        super().__init__(
            [*self.packed, *cut],
            rows=rows,
            context=context,
            micro_rows=micro_rows,
            shares=shares,
            seed=seed,
            device=device,
        )
        self.echo, self.echo_steps = echo, echo_steps

    def batch(self, step: int, part: Part = Part()) -> list[TokenBatch]:
        if step >= self.echo_steps:
            return super().batch(step, part)
        short = min(ECHO_CONTEXT, self.context)
        a_row = self.context // short  # pieces of a row
        total = max(1, self.rows * a_row // 2)
        pieces = dealt(total, part)
        rows = []
        for piece, row in zip(pieces.tolist(), super().numbered(step * self.rows + pieces // a_row)):
            at = piece % a_row * short
            text = _text(row)[at : at + short + 1]
            rows.append(_content(row.number, _echo(text, np.random.default_rng([self.seed, 8, step, piece]), least=4)))
        micro_rows = max(1, self.micro_rows * total // self.rows)
        return [self.collate(group) for group in self.groups(rows, total, micro_rows, part, short)]

    def numbered(self, numbers: np.ndarray) -> list[Row]:
        rows = super().numbered(numbers)
        if not self.echo:
            return rows
        out = []
        for row in rows:
            rng = np.random.default_rng([self.seed, 7, row.number])
            out.append(_content(row.number, _echo(_text(row), rng, least=8)) if rng.random() < self.echo else row)
        return out

    def collate(self, rows: Sequence[Row]) -> TokenBatch:
        targets_BT = np.stack([row.content.targets_T for row in rows])
        return TokenBatch(
            torch.from_numpy(np.stack([row.content.ids_T for row in rows])).to(self.device),
            torch.from_numpy(targets_BT).to(self.device),
            int((targets_BT != IGNORED).sum()),
            documents_of(rows, self.device),
        )

    def weight(self, batch: TokenBatch) -> float:
        return float(batch.counted)

    def tokens(self, batch: TokenBatch) -> int:
        return batch.inputs_BT.numel()


def _text(row: Row) -> np.ndarray:
    """Ids of a cut row and the one after it (T + 1,)."""
    return np.append(row.content.ids_T, row.content.targets_T[-1])


def _content(number: int, text: np.ndarray) -> Row:
    return Row(number, Content(text[:-1], text[1:], np.zeros(len(text) - 1, np.int64)))


def _echo(row: np.ndarray, rng: np.random.Generator, least: int) -> np.ndarray:
    """A stretch of the row, of `least` to half its tokens, said again and again over the whole length."""
    period = int(rng.integers(least, max(len(row) // 2, least + 1)))
    start = int(rng.integers(0, len(row) - period))
    return np.resize(row[start : start + period], len(row))
