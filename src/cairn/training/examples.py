"""Examples with a loss mask (conversations) in batches of similar lengths."""

from collections.abc import Sequence

import numpy as np

from cairn.core.compute import pick_device
from cairn.core.errors import UserError
from cairn.training.causal import TokenBatch, make_batch
from cairn.training.objective import Part
from cairn.training.rows import dealt

AVERAGE = 64  # tokens an example has about, as far as the size of a window goes


class ExampleData:
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
        self.batch_tokens, self.context, self.seed = batch_tokens, context, seed
        self.device = pick_device(device)
        self._plans: dict[int, list[list[int]]] = {}
        self._starts = [0]  # first step of each epoch

    def batch(self, step: int, part: Part = Part()) -> list[TokenBatch]:
        epoch = int(np.searchsorted(self._starts, step, side="right")) - 1
        while step >= self._starts[-1]:
            epoch = len(self._starts) - 1
            self._starts.append(self._starts[-1] + len(self._plan(epoch)))
        whole = self._plan(epoch)[step - self._starts[epoch]]
        chosen = [self.examples[whole[i]] for i in dealt(len(whole), part)]
        # A part without an example still takes its turn, with a row that has nothing to predict.
        chosen = chosen or [([0, 0], [False, False])]
        return [make_batch([e[0] for e in chosen], [e[1] for e in chosen], self.device)]

    def weight(self, batch: TokenBatch) -> float:
        return float(batch.counted)

    def tokens(self, batch: TokenBatch) -> int:
        return batch.inputs_BT.numel()

    def steps_per_epoch(self) -> int:
        return len(self._plan(0))

    def _plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, as numbers of examples."""
        if epoch not in self._plans:
            self._plans = {kept: plan for kept, plan in self._plans.items() if kept == epoch - 1}
            rng = np.random.default_rng([self.seed, 11, epoch])
            order = rng.permutation(len(self.examples))
            # Sorting a whole epoch by length would batch alike kinds together: sort within windows of 64 batches' worth.
            window = max(1, 64 * self.batch_tokens // AVERAGE)
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
