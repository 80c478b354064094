"""Beam search: the likeliest whole answer among many that grow side by side.

Beams share the pages of what they have in common; one that branches off inside a page copies that page alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cairn.core.errors import UserError
from cairn.inference.engine import Engine
from cairn.models import PAGE, Segment

MAX_BEAMS = 64


@dataclass(frozen=True)
class Beam:
    """An answer and its score: the sum of its tokens' log-probabilities / length ** length_penalty."""

    output_ids: list[int]
    text: str
    score: float


@dataclass
class _Branch:
    ids: list[int]  # of the answer
    logprob: float
    pages: list[int]


@torch.inference_mode()
def beam_search(
    engine: Engine,
    prompt: str | Sequence[int],
    *,
    beams: int = 4,
    max_tokens: int = 128,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
) -> list[Beam]:
    """The best `beams` answers to `prompt`, best first, with the rules and the results of `transformers`' beam search.

    length_penalty above 0 favours long answers. early_stopping: end when there are enough finished answers, however good
    those could become that still grow. Raises UserError when the cache has no room for all beams.
    """
    ids = engine.prompt_ids(prompt)
    longest = min(max_tokens, engine.positions - len(ids))
    if not 1 <= beams <= MAX_BEAMS:
        raise UserError(f"beams must be from 1 to {MAX_BEAMS}, got {beams}")
    if longest < 1:
        raise UserError(f"the prompt has {len(ids)} tokens and leaves no room for an answer: shorten it")
    # In the worst case, and while new beams replace old ones, each has the pages of its answer for itself, twice.
    needed = -(-len(ids) // PAGE) + 2 * beams * (longest // PAGE + 2)
    if needed > engine.pool.free:
        raise UserError(f"{beams} beams need {needed} pages, {engine.pool.free} are free: fewer beams or tokens")
    search = _Search(engine, ids, beams, longest, length_penalty, early_stopping)
    try:
        return search.run()
    finally:
        search.release()


class _Search:
    def __init__(self, engine: Engine, prompt: list[int], beams: int, longest: int, penalty: float, early: bool):
        self.engine, self.prompt, self.beams, self.longest = engine, prompt, beams, longest
        self.penalty, self.early = penalty, early
        self.stops = engine.tokenizer.stop_ids
        self.running = [_Branch([], 0.0, [])]
        self.finished: list[tuple[float, list[int]]] = []

    def run(self) -> list[Beam]:
        # Enough candidates that `beams` of them go on, should all others be ends.
        keep = max(2, 1 + len(self.stops)) * self.beams
        for length in range(1, self.longest + 1):
            logprobs_BV = self._logits(length - 1).log_softmax(-1)
            scores_BV = logprobs_BV + torch.tensor([b.logprob for b in self.running])[:, None]
            vocabulary = scores_BV.shape[1]
            best, places = scores_BV.flatten().topk(min(keep, scores_BV.numel()))
            grown = [
                (score, self.running[place // vocabulary], place % vocabulary)
                for score, place in zip(best.tolist(), places.tolist())
            ]
            ended = [token in self.stops or length == self.longest for _, _, token in grown]
            # Only the first `beams` candidates may become answers: the others are there to go on.
            for (score, branch, token), end in list(zip(grown, ended))[: self.beams]:
                if end:
                    self.finished.append((score / length**self.penalty, [*branch.ids, token]))
            self.finished.sort(key=lambda f: -f[0])
            del self.finished[self.beams :]
            self._branch([g for g, end in zip(grown, ended) if not end][: self.beams])
            if not self.running or not self._can_improve(length):
                break
        text = self.engine.tokenizer.decode
        return [Beam(ids, text([i for i in ids if i not in self.stops]), score) for score, ids in self.finished]

    def _can_improve(self, length: int) -> bool:
        """Could a beam that still grows become better than the worst answer? Judged by its present length, as
        `transformers` does, which is exact for a penalty of 0 only."""
        if len(self.finished) < self.beams:
            return True
        return not self.early and self.running[0].logprob / length**self.penalty > self.finished[-1][0]

    def _logits(self, length: int) -> torch.Tensor:
        """Logits (beams, V) after the answers so far, `length` tokens each; the first time, after the prompt."""
        engine = self.engine
        if length == 0:
            branch = self.running[0]
            branch.pages = [engine.pool.take() for _ in range(-(-len(self.prompt) // PAGE))]
            for start in range(0, len(self.prompt), engine.scheduler.budget):
                part = self.prompt[start : start + engine.scheduler.budget]
                segment = Segment(branch.pages, start, len(part))
                hidden_ND = engine.hidden(part, [segment])
            return engine.model.unembed(hidden_ND[-1:]).float().cpu()
        position = len(self.prompt) + length - 1
        for branch in self.running:
            self._own_page(branch, position // PAGE)
        segments = [Segment(branch.pages, position, 1) for branch in self.running]
        hidden_ND = engine.hidden([branch.ids[-1] for branch in self.running], segments)
        return engine.model.unembed(hidden_ND).float().cpu()

    def _own_page(self, branch: _Branch, index: int) -> None:
        """Make the page that will be written the branch's alone."""
        pool = self.engine.pool
        if index == len(branch.pages):
            branch.pages.append(pool.take())
        elif not pool.alone(branch.pages[index]):
            copy = pool.take()
            self.engine.cache.copy_page(branch.pages[index], copy)
            pool.release(branch.pages[index])
            branch.pages[index] = copy

    def _branch(self, grown: list[tuple[float, _Branch, int]]) -> None:
        pool = self.engine.pool
        before = self.running
        self.running = [
            _Branch([*branch.ids, token], score, [pool.share(p) for p in branch.pages])
            for score, branch, token in grown
        ]
        self._give_back(before)

    def release(self) -> None:
        self._give_back(self.running)
        self.running = []

    def _give_back(self, branches: list[_Branch]) -> None:
        for branch in branches:
            for page in branch.pages:
                self.engine.pool.release(page)
