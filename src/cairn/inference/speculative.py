"""Several tokens from one pass of the model: guesses that are cheap to make, kept so that nothing changes.

Leviathan et al. 2023 (arXiv 2211.17192) and Chen et al. 2023 (arXiv 2302.01318): the model scores all guesses in one pass
and `verify` keeps some of them; what comes out has exactly the distribution of sampling one token at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from cairn.inference.sampling import Sampler, draw

# Acceptance of guesses: what is believed before the first, how much of the past counts after another pass, and how fast
# the belief goes back to the first one while nothing is guessed.
PRIOR_KEPT, PRIOR_TRIED = 1.5, 2.0
MEMORY, FORGET = 0.9, 0.02


@dataclass
class NgramDraft:
    """Guess that the text goes on as it did the last time its latest tokens occurred (prompt lookup), for one request.

    size: longest run of tokens that is looked up; shorter ones follow, down to `least`: what followed a single token is
    seldom what follows now. tokens: guesses at most. Keeps an index of all runs of the ids seen so far, so that a call costs
    only what is new; call it with the same growing list.

    >>> NgramDraft(size=2, tokens=3).propose([1, 2, 3, 4, 5, 1, 2], limit=8)
    [3, 4, 5]
    """

    size: int = 3
    tokens: int = 5
    least: int = 2
    _after: dict[tuple[int, ...], int] = field(default_factory=dict, repr=False)  # run -> where it last went on
    _indexed: int = field(default=0, repr=False)

    def propose(self, ids: list[int], limit: int) -> list[int]:
        """At most `limit` guesses of what follows `ids`; [] when its end never occurred before."""
        for end in range(max(self._indexed, 1), len(ids)):
            for n in range(self.least, min(self.size, end) + 1):
                self._after[tuple(ids[end - n : end])] = end
        self._indexed = max(self._indexed, len(ids))
        for n in range(min(self.size, len(ids) - 1), self.least - 1, -1):
            start = self._after.get(tuple(ids[len(ids) - n :]))
            if start is not None:
                return ids[start : start + max(0, min(self.tokens, limit))]
        return []


@dataclass
class DraftLength:
    """How many guesses are worth their work for one request, from how its guesses fared lately.

    most: guesses at most. cost: what a further guess adds to a pass of the model, as a part of a pass without guesses.
    If a guess is kept with probability a, k guesses bring (1 + a + ... + a^k) tokens for 1 + k cost (Leviathan et al.
    2023, theorem 3.8); `limit` is the k that brings most per work, 0 when none pays.

    >>> length = DraftLength(most=5, cost=0.2)
    >>> for _ in range(20):
    ...     length.record(guessed=5, kept=0)
    >>> length.limit
    0
    """

    most: int = 5
    cost: float = 0.1
    _kept: float = field(default=PRIOR_KEPT, repr=False)
    _tried: float = field(default=PRIOR_TRIED, repr=False)

    @property
    def limit(self) -> int:
        rate = self._kept / self._tried
        tokens = [sum(rate**i for i in range(k + 1)) for k in range(self.most + 1)]
        return max(range(self.most + 1), key=lambda k: tokens[k] / (1 + k * self.cost))

    def record(self, guessed: int, kept: int) -> None:
        """Tell how a pass went. One without guesses brings the hope back little by little, so that they are tried again."""
        if guessed == 0:
            self._kept += FORGET * (PRIOR_KEPT - self._kept)
            self._tried += FORGET * (PRIOR_TRIED - self._tried)
            return
        judged = min(kept + 1, guessed)  # nobody knows of the guesses after the first wrong one
        self._kept = MEMORY * self._kept + kept
        self._tried = MEMORY * self._tried + judged


def verify(
    drafted: Sequence[int], draft_probs: Sequence[np.ndarray] | None, logits_KV: torch.Tensor, sampler: Sampler
) -> list[int]:
    """The tokens that follow: some of the guesses, from the first on, and one more of the model's own.

    drafted: K guesses. draft_probs: the distribution (V,) each was drawn from; None where they were not drawn at random.
    logits_KV: (K + 1, V), the model's logits before each guess and after the last. Tells `sampler` of every token it
    returns; ends after a stop token and where a constraint is fulfilled.
    """
    if len(logits_KV) != len(drafted) + 1:
        raise ValueError(f"{len(drafted)} guesses need {len(drafted) + 1} rows of logits, got {len(logits_KV)}")
    tokens: list[int] = []
    for i, logits_V in enumerate(logits_KV):
        guess = drafted[i] if i < len(drafted) else None
        if guess is None or draft_probs is None:
            # q is 1 at the guess: to keep it with probability p(guess) and to draw from the rest of p otherwise is to
            # draw from p. So a seeded request gets the very tokens it would get without guesses.
            token = sampler.choose(logits_V)
        else:
            token = _keep_or_redraw(guess, draft_probs[i], sampler.probabilities(logits_V), sampler.rng)
        sampler.accept(token)
        tokens.append(token)
        if token != guess or token in sampler.stop_ids or sampler.finished:
            break
    return tokens


def _keep_or_redraw(guess: int, q: np.ndarray, p: np.ndarray, rng: np.random.Generator) -> int:
    """`guess` with probability min(1, p / q), else a token drawn from max(p - q, 0) normalised."""
    if rng.random() * q[guess] < p[guess]:
        return guess
    return draw(residual(p, q), rng.random())


def residual(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """max(p - q, 0) normalised; p itself where they are equal and rounding alone refused a guess.

    >>> residual(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    array([0., 1.])
    """
    rest = np.maximum(p - q, 0)
    total = rest.sum()
    return rest / total if total > 0 else p
