"""Causal language modelling: predict the next token, from token shards or from examples with a loss mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cairn.core.compute import pick_device
from cairn.core.errors import UserError
from cairn.corpus import TokenShard
from cairn.models.experts import auxiliary_loss
from cairn.training.losses import IGNORED, unembed_loss
from cairn.training.objective import Part

ECHO_CONTEXT = 64  # short rows: many repetitions a step, and copying appears early


@dataclass(frozen=True)
class TokenBatch:
    """inputs (B, T) and, for each position, the next token or IGNORED (B, T)."""

    inputs_BT: torch.Tensor
    targets_BT: torch.Tensor
    counted: int  # targets that carry loss
    documents_BT: torch.Tensor | None = None  # the document of each input, where a row holds several that are apart


def make_batch(
    rows: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]] | None, device: torch.device
) -> TokenBatch:
    """Rows of ids, padded on the right, to a batch. masks: which ids are to be predicted; None means all but the first."""
    width = max(len(row) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    keep = np.zeros((len(rows), width), dtype=bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        keep[i, : len(row)] = True if masks is None else masks[i]
    targets = np.where(keep[:, 1:], ids[:, 1:], IGNORED)
    return TokenBatch(
        torch.from_numpy(ids[:, :-1]).to(device),
        torch.from_numpy(targets).to(device),
        int((targets != IGNORED).sum()),
    )


def target_logprobs(model: Any, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the counted targets (N,) and the row each belongs to (N,).

    Logits are computed at counted positions alone: with a loss mask most positions need none.
    """
    hidden_BTD = hidden_states(model, batch)
    counted_BT = batch.targets_BT != IGNORED
    # Choosing rows costs a scatter in the backward pass: not where all are chosen.
    hidden_ND = hidden_BTD.flatten(0, 1) if batch.counted == counted_BT.numel() else hidden_BTD[counted_BT]
    logits_NV = model.unembed(hidden_ND).float()
    logprobs_N = -F.cross_entropy(logits_NV, batch.targets_BT[counted_BT], reduction="none")
    return logprobs_N, counted_BT.nonzero()[:, 0]


def hidden_states(model: Any, batch: TokenBatch) -> torch.Tensor:
    """The states (B, T, D) that predict the targets."""
    if batch.documents_BT is None:
        return model.hidden(batch.inputs_BT)
    return model.hidden(batch.inputs_BT, document_BT=batch.documents_BT)


class CausalLM:
    """Cross-entropy over counted targets: the sum over the batch, to be divided by their number over the whole step.

    The load-balancing loss of a mixture of experts is added for every counted target. smoothing: share of a target's
    probability that goes to all entries; "loss" in the metrics then is the smoothed one.
    """

    def __init__(self, smoothing: float = 0.0):
        self.smoothing = smoothing

    def loss(self, model: Any, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, Any]]:
        return self.loss_of_hidden(model, hidden_states(model, batch), batch)

    def loss_of_hidden(
        self, model: Any, hidden_BTD: torch.Tensor, batch: TokenBatch
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """The loss from what the last block and norm made: where a pipeline's last stage begins."""
        loss = unembed_loss(model.unembed, hidden_BTD.flatten(0, 1), batch.targets_BT.flatten(), self.smoothing)
        metrics: dict[str, Any] = {"loss": loss.detach()}
        balance = auxiliary_loss(model)
        if balance is not None:  # the routers of a mixture of experts
            metrics["balance_loss"] = balance.detach() * batch.counted
            loss = loss + balance * batch.counted
        return loss, metrics


class _Micro:
    """What the trainer asks of token batches."""

    def weight(self, batch: TokenBatch) -> float:
        return float(batch.counted)

    def tokens(self, batch: TokenBatch) -> int:
        return batch.inputs_BT.numel()


class ShardData(_Micro):
    """Rows of `context` tokens from one or several shards, each epoch in another order and cut at other places.

    shares: for each shard the share of rows drawn from it (replay of an old corpus while learning a new one).

    echo: share of rows in which a stretch of text is said again and again. Plain text rewards copying from the context
    too rarely for a model of a million parameters to learn it: 2 million tokens of documentation left the second
    saying of a text as surprising as the first (3.99 and 3.93 nats a token), also with a fifth of such rows. What does
    teach it is to begin with nothing else: for `echo_steps` steps all rows are echoes of ECHO_CONTEXT tokens, in batches
    of half the size, since it is steps that are needed, not tokens. Between step 350 and 600 the loss of the repetition
    falls from 4 to below 1 nat, and a small share of echoes later keeps the skill alive.
    """

    def __init__(
        self,
        shards: Sequence[TokenShard],
        *,
        rows: int,
        context: int,
        micro_rows: int = 0,
        shares: Sequence[float] = (1.0,),
        echo: float = 0.0,
        echo_steps: int = 0,
        seed: int = 1,
        device: str = "auto",
    ):
        if len(shares) != len(shards):
            raise UserError(f"{len(shards)} corpora need as many shares, got {len(shares)}")
        for shard in shards:
            if len(shard) < context + 2:
                raise UserError(
                    f"{shard.path} has only {len(shard)} tokens, a row needs {context + 1}: add text or lower --context"
                )
        self.shards, self.shares, self.seed = list(shards), list(shares), seed
        self.echo, self.echo_steps = echo, echo_steps
        self.rows, self.context, self.micro_rows = rows, context, micro_rows or rows
        self.device = pick_device(device)
        self._orders: dict[tuple[int, int], tuple[int, np.ndarray]] = {}

    def batch(self, step: int, part: Part = Part()) -> list[TokenBatch]:
        rng = np.random.default_rng([self.seed, 7, step])
        counts = [round(self.rows * share) for share in self.shares]
        counts[0] += self.rows - sum(counts)
        rows = [self._row(which, step * count + i) for which, count in enumerate(counts) for i in range(count)]
        if step < self.echo_steps:
            short = min(ECHO_CONTEXT, self.context)
            pieces = [row[at : at + short + 1] for row in rows for at in range(0, len(row) - short, short)]
            rows = [_echo(piece, rng, least=4) for piece in pieces[: max(1, len(pieces) // 2)]]
        else:
            rows = [_echo(row, rng, least=8) if rng.random() < self.echo else row for row in rows]
        size = max(1, self.micro_rows * len(rows) // self.rows)
        out = []
        for i in range(0, len(rows), size):
            block = torch.from_numpy(np.stack(rows[i : i + size]).astype(np.int64)).to(self.device)
            out.append(TokenBatch(block[:, :-1], block[:, 1:], block[:, 1:].numel()))
        return out

    def _row(self, which: int, index: int) -> np.ndarray:
        shard = self.shards[which]
        per_epoch = (len(shard) - 1) // self.context - 1
        epoch, place = divmod(index, max(per_epoch, 1))
        if (which, epoch) not in self._orders:
            rng = np.random.default_rng([self.seed, which, epoch])
            self._orders = {k: v for k, v in self._orders.items() if k[0] != which or k[1] >= epoch - 1}
            self._orders[which, epoch] = (int(rng.integers(self.context)), rng.permutation(max(per_epoch, 1)))
        offset, order = self._orders[which, epoch]
        start = min(offset + int(order[place]) * self.context, len(shard) - self.context - 1)
        return np.asarray(shard.tokens[start : start + self.context + 1])


def _echo(row: np.ndarray, rng: np.random.Generator, least: int) -> np.ndarray:
    """A stretch of the row, of `least` to half its tokens, said again and again over the whole length."""
    period = int(rng.integers(least, max(len(row) // 2, least + 1)))
    start = int(rng.integers(0, len(row) - period))
    return np.resize(row[start : start + period], len(row))


class ExampleData(_Micro):
    """Examples of ids with a loss mask, in batches of about `batch_tokens` tokens with similar lengths together.

    Each epoch shuffles anew; batches are formed within it, so that every example is seen once an epoch.
    """

    def __init__(
        self,
        examples: Sequence[tuple[Sequence[int], Sequence[bool]]],
        *,
        batch_tokens: int,
        context: int,
        seed: int = 1,
        device: str = "auto",
    ):
        self.examples = [e for e in examples if len(e[0]) <= context + 1 and any(e[1][1:])]
        self.dropped = len(examples) - len(self.examples)
        if not self.examples:
            raise UserError(
                f"no example fits: all {len(examples)} are longer than {context + 1} tokens or have nothing to learn from"
            )
        self.batch_tokens, self.seed = batch_tokens, seed
        self.device = pick_device(device)
        self._plans: dict[int, list[list[int]]] = {}
        self._starts = [0]  # first step of each epoch

    def batch(self, step: int, part: Part = Part()) -> list[TokenBatch]:
        epoch = 0
        while True:
            plan = self._plan(epoch)
            if len(self._starts) == epoch + 1:
                self._starts.append(self._starts[-1] + len(plan))
            if step < self._starts[epoch + 1]:
                break
            epoch += 1
        chosen = [self.examples[i] for i in plan[step - self._starts[epoch]]]
        return [make_batch([e[0] for e in chosen], [e[1] for e in chosen], self.device)]

    def steps_per_epoch(self) -> int:
        return len(self._plan(0))

    def _plan(self, epoch: int) -> list[list[int]]:
        if epoch not in self._plans:
            rng = np.random.default_rng([self.seed, 11, epoch])
            order = rng.permutation(len(self.examples))
            # Sorting a whole epoch by length would batch alike kinds together: sort within windows of 64 batches' worth.
            window = max(1, 64 * self.batch_tokens // 64)
            batches: list[list[int]] = []
            for w in range(0, len(order), window):
                batches += self._cut(sorted(order[w : w + window].tolist(), key=lambda i: len(self.examples[i][0])))
            self._plans[epoch] = [batches[i] for i in rng.permutation(len(batches))]
        return self._plans[epoch]

    def _cut(self, indices: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        for i in indices:
            width = len(self.examples[i][0])
            if batches and (len(batches[-1]) + 1) * width <= self.batch_tokens:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches
