"""From logits to the next token. Every operation is the one of the same name in `transformers`, in its order."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from cairn.core.errors import UserError
from cairn.inference.constrain import Constraint, Matcher

MAX_STOP_STRINGS, MAX_STOP_LENGTH = 16, 256
MAX_BIAS = 100.0  # OpenAI's bounds of logit_bias
SLICES, SLICES_PER_NAT = 4096, 64  # of the logits below the largest, in which top-p looks for its edge
BLOCK = 512  # weights summed at once before one is drawn
# Lowest and highest value of each number.
RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (0, math.inf),
    "min_tokens": (0, math.inf),
    "temperature": (0, 100),
    "top_k": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "seed": (0, math.inf),
    "logprobs": (0, 20),
}
WHOLE = frozenset({"max_tokens", "min_tokens", "top_k", "seed", "logprobs"})


@dataclass(frozen=True)
class SamplingParams:
    """How to generate. temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 leave the distribution whole.

    stop: strings that end the answer (and are cut off). logprobs: how many alternatives to report at each token, or None.
    echo: report the prompt's log-probabilities too. seed: makes a request repeatable whatever runs beside it.
    repetition_penalty divides (a negative logit: multiplies) the logits of all tokens of prompt and answer (`transformers`);
    frequency_penalty and presence_penalty (OpenAI) are taken off the logits of the answer's tokens, once for each occurrence
    and once in all. logit_bias: token id -> what is added to its logit. min_tokens: no stop token before that many tokens.
    constraint: what the answer must be, a regular expression or a JSON schema.

    >>> SamplingParams(temperature=float("nan"))
    Traceback (most recent call last):
    cairn.core.errors.UserError: temperature must be a number from 0 to 100, got nan
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    ignore_eos: bool = False
    logprobs: int | None = None
    echo: bool = False
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)  # kept as a read-only copy
    min_tokens: int = 0
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is None and name in ("seed", "logprobs"):
                continue
            whole = name in WHOLE
            if not _is_number(value, whole) or not low <= value <= high:  # type: ignore[operator]
                bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
                raise UserError(f"{name} must be a {'whole ' * whole}number {bounds}, got {value!r}")
        if self.top_p == 0:
            raise UserError("top_p must be above 0: no token would be left")
        if len(self.stop) > MAX_STOP_STRINGS:
            raise UserError(f"stop: at most {MAX_STOP_STRINGS} stop strings, got {len(self.stop)}")
        if not all(0 < len(s) <= MAX_STOP_LENGTH for s in self.stop):
            raise UserError(f"stop: a stop string has 1 to {MAX_STOP_LENGTH} characters")
        if self.min_tokens > self.max_tokens:
            raise UserError(f"min_tokens ({self.min_tokens}) is more than max_tokens ({self.max_tokens})")
        if self.ignore_eos and self.constraint is not None:
            raise UserError("ignore_eos does not go with a constraint: a fulfilled one can only end")
        for token, bias in self.logit_bias.items():
            if not (_is_number(token, whole=True) and token >= 0):
                raise UserError(f"logit_bias: a token id is a whole number from 0 on, got {token!r}")
            if not (_is_number(bias, whole=False) and abs(bias) <= MAX_BIAS):
                raise UserError(f"logit_bias: the bias of token {token} must be from -100 to 100, got {bias!r}")
        object.__setattr__(self, "logit_bias", MappingProxyType(dict(self.logit_bias)))


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | np.integer) or (
        not whole and isinstance(value, float | np.floating) and math.isfinite(value)
    )


class Sampler:
    """Chooses the tokens of one running request.

    prompt_ids and stop_ids are ids of the vocabulary. rng: the request's own; every token takes one number of it, so the
    neighbours in a batch cannot change what is drawn. matcher: the state of `params.constraint`.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        stop_ids: Collection[int],
        rng: np.random.Generator,
        matcher: Matcher | None = None,
    ):
        self.params, self.stop_ids, self.rng, self.matcher = params, frozenset(stop_ids), rng, matcher
        self._accepted = 0
        self._biased = np.fromiter(params.logit_bias.keys(), np.int64)
        self._biases = np.fromiter(params.logit_bias.values(), np.float32)
        self._stops = np.array(sorted(self.stop_ids), np.int64)
        # For the penalties: the tokens of prompt and answer, and the answer's with how often each occurred.
        self._seen = _Counts(prompt_ids if params.repetition_penalty != 1 else ())
        self._own = _Counts(())

    @property
    def plain(self) -> bool:
        """The next token is the likeliest one: nothing is drawn and nothing shapes the logits."""
        p = self.params
        shaped = p.repetition_penalty != 1 or p.frequency_penalty or p.presence_penalty or p.logit_bias
        return p.temperature == 0 and not shaped and self.matcher is None and not self._too_early

    @property
    def finished(self) -> bool:
        """The constraint is fulfilled and nothing but a stop token may follow."""
        return self.matcher is not None and self.matcher.finished

    @property
    def _too_early(self) -> bool:
        return self._accepted < self.params.min_tokens and not self.finished

    def accept(self, token: int) -> None:
        """Count a token of the answer."""
        self._accepted += 1
        if self.params.repetition_penalty != 1:
            self._seen.add(token)
        if self.params.frequency_penalty or self.params.presence_penalty:
            self._own.add(token)
        if self.matcher is not None:
            self.matcher.accept(token)

    def processed(self, logits_V: torch.Tensor) -> np.ndarray:
        """Logits after bias, penalties, min_tokens and the constraint: float32 (V,), what is not allowed is -inf."""
        p = self.params
        logits = np.array(logits_V.detach().float().cpu().numpy())
        if len(self._biased):
            logits[self._biased] += self._biases
        if len(self._seen.ids):
            seen, penalty = logits[self._seen.ids], np.float32(p.repetition_penalty)
            with np.errstate(over="ignore"):  # -inf from a huge negative logit is what it should be
                logits[self._seen.ids] = np.where(seen < 0, seen * penalty, seen / penalty)
        if len(self._own.ids):
            own = self._own
            logits[own.ids] -= own.counts * np.float32(p.frequency_penalty) + np.float32(p.presence_penalty)
        if self.matcher is not None:
            allowed = self.matcher.mask()[: len(logits)]
            logits[len(allowed) :] = -np.inf
            np.copyto(logits[: len(allowed)], -np.inf, where=~allowed)
        if self._too_early:
            logits[self._stops] = -np.inf
        return logits

    def choose(self, logits_V: torch.Tensor) -> int:
        """The next token for logits (V,). UserError when no token has a finite logit."""
        logits = self.processed(logits_V)
        best = _likeliest(logits)
        if self.params.temperature == 0:
            return best
        ids, weights = _weights(logits, logits[best], self.params)
        place = draw(weights, self.rng.random())
        return place if ids is None else int(ids[place])

    def probabilities(self, logits_V: torch.Tensor) -> np.ndarray:
        """The distribution `choose` draws from: float64 (V,); greedy has a single 1."""
        logits = self.processed(logits_V)
        best = _likeliest(logits)
        probs = np.zeros(len(logits))
        if self.params.temperature == 0:
            probs[best] = 1
            return probs
        ids, weights = _weights(logits, logits[best], self.params)
        probs[slice(None) if ids is None else ids] = weights / weights.sum()
        return probs


class _Counts:
    """Distinct ids and how often each occurred, as arrays that grow: penalties touch no other tokens."""

    def __init__(self, ids: Sequence[int]):
        self.ids, counts = np.unique(np.array(ids, np.int64), return_counts=True)
        self.counts = counts.astype(np.float32)
        self._places = {token: place for place, token in enumerate(self.ids.tolist())}

    def add(self, token: int) -> None:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self.ids):
            self.ids, self.counts = np.append(self.ids, token), np.append(self.counts, np.float32(0))
        self.counts[place] += 1


def _likeliest(logits: np.ndarray) -> int:
    best = int(logits.argmax())  # the first NaN, where there is one
    if not np.isfinite(logits[best]):
        raise UserError("no token can follow: the logits are not finite, or everything is forbidden by the parameters")
    return best


def _weights(logits: np.ndarray, top: float, params: SamplingParams) -> tuple[np.ndarray | None, np.ndarray]:
    """Temperature, top-k, top-p, min-p: ids in ascending order (None: all of them) and their unnormalised probabilities.

    `top` is the largest logit: its weight is 1. Temperature keeps the order, so top-k needs no exponentials.
    """
    ids = None
    if 0 < params.top_k < len(logits):
        kth = torch.from_numpy(logits).topk(params.top_k).values[-1].item()
        ids = np.flatnonzero(logits >= kth)
        logits = logits[ids]
    # In place: at this size fresh memory costs more than the arithmetic.
    scaled = logits.astype(np.float64)
    scaled -= top
    with np.errstate(over="ignore"):  # a temperature near 0 makes -inf of all but the largest, as it should
        scaled /= params.temperature
    weights = np.exp(scaled, out=None if params.top_p < 1 else scaled)
    if params.top_p < 1:
        kept = _nucleus(scaled, weights, params.top_p)
        ids, weights = kept if ids is None else ids[kept], weights[kept]
    if params.min_p > 0:
        kept = np.flatnonzero(weights >= params.min_p)
        ids, weights = kept if ids is None else ids[kept], weights[kept]
    return ids, weights


def _nucleus(scaled: np.ndarray, weights: np.ndarray, top_p: float) -> np.ndarray:
    """Places, ascending, of the tokens top-p keeps. In ascending order of weight, then of place, a token goes when all up to
    it hold at most 1 - top_p of the mass; the likeliest stays. `weights` are exp(`scaled`), the largest of which is 1;
    `scaled` is used up.

    Not by a sort: the masses of slices of the logits tell in which slice the edge lies, and only that one is sorted.
    """
    spare = (1 - top_p) * weights.sum()
    if len(weights) <= SLICES:
        inside, kept, below = np.arange(len(weights)), np.ones(len(weights), bool), 0.0
    else:
        scaled *= -SLICES_PER_NAT
        slices = np.minimum(scaled, SLICES - 1, out=scaled).astype(np.int64)  # 0 holds the likeliest
        masses = np.bincount(slices, weights, minlength=SLICES)
        less_likely = np.append(masses[:0:-1].cumsum()[::-1], 0.0)  # the mass of all slices after each
        edge = int((less_likely <= spare).argmax())
        inside, kept, below = np.flatnonzero(slices == edge), slices <= edge, less_likely[edge]
    ascending = inside[weights[inside].argsort(kind="stable")]
    gone = int((below + weights[ascending].cumsum()).searchsorted(spare, side="right"))
    kept[ascending[:gone]] = False
    kept[weights.argmax()] |= not kept.any()
    return np.flatnonzero(kept)


def draw(weights: np.ndarray, uniform: float) -> int:
    """The place where the running sum of `weights` passes `uniform` (0 <= uniform < 1) of the whole; its weight is not 0.

    >>> draw(np.array([1.0, 0.0, 3.0]), 0.25)
    2
    """
    # Whole blocks are summed first: a running sum over 150,000 tokens takes longer than all the rest.
    sums = np.add.reduceat(weights, np.arange(0, len(weights), BLOCK)).cumsum()
    target = uniform * sums[-1]
    block = _passes(sums, target)
    inside = weights[block * BLOCK : (block + 1) * BLOCK].cumsum()
    return block * BLOCK + _passes(inside, target - (sums[block - 1] if block else 0.0))


def _passes(cumulative: np.ndarray, target: float) -> int:
    """First place above `target`; where rounding leaves none, the last place that adds something."""
    return int(min(cumulative.searchsorted(target, side="right"), cumulative.searchsorted(cumulative[-1])))
