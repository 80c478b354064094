"""Which tokens the next step computes: continuous batching over pages.

Every running request wants the tokens it has not computed yet: a new one its prompt, a generating one its latest token
(and guesses of what follows). A step takes the single tokens of all first and fills what is left of its budget with
pieces of prompts, so that a long prompt neither holds up those who generate nor a short prompt behind it.
"""

from collections import deque
from dataclasses import dataclass, field

from cairn.core.errors import UserError
from cairn.inference.pages import PagePool
from cairn.inference.request import Request
from cairn.models import PAGE


@dataclass
class Work:
    """Tokens of one request in a step: `count` from position `request.computed` on. `guesses` come after its own tokens."""

    request: Request
    count: int
    guesses: list[int] = field(default_factory=list)

    @property
    def last(self) -> bool:
        """Does the step reach the end of what is known, so that a token follows?"""
        return self.request.computed + self.count == len(self.request.ids) + len(self.guesses)


class Scheduler:
    """slots: requests that run at once. budget: tokens of a step. Pages are held by running requests alone; when they run
    out, the request that came last gives its own back and waits, to be computed again."""

    def __init__(self, pool: PagePool, slots: int, budget: int, *, reuse: bool = True):
        self.pool, self.slots, self.budget, self.reuse = pool, slots, budget, reuse
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []  # in the order they came
        self.preemptions = self.cached_tokens = 0

    def add(self, request: Request) -> None:
        if self._pages_for(len(request.prompt_ids)) > self.pool.size:
            raise UserError(
                f"the prompt has {len(request.prompt_ids)} tokens, the cache holds {self.pool.size * PAGE}: shorten it"
            )
        self.waiting.append(request)

    def remove(self, request: Request) -> None:
        """Forget a request and give its pages back."""
        if request in self.running:
            self.running.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        self._release(request)

    def plan(self, guesses: dict[int, list[int]] | None = None) -> list[Work]:
        """The next step. `guesses`: by request id, what may follow its last token."""
        self._admit()
        work: list[Work] = []
        budget = self.budget
        single = [r for r in self.running if len(r.ids) - r.computed == 1]
        # Guesses take what the tokens of all and, while a prompt is being read, its share of the step leave.
        room = budget - len(single) - (budget // 4 if len(single) < len(self.running) else 0)
        for request in single:
            if request in self.running:
                guessed = (guesses or {}).get(request.id, [])[: max(0, room)]
                room -= len(guessed)
                if self._reserve(request, len(request.ids) + len(guessed), work):
                    work.append(Work(request, 1 + len(guessed), guessed))
                    budget -= 1 + len(guessed)
        prompts = [r for r in self.running if len(r.ids) - r.computed > 1]
        # The shortest rest first, so that a short question is answered while a long text is read; but the oldest has a
        # share of every step and is not overtaken for ever.
        oldest = prompts[0] if prompts else None
        prompts.sort(key=lambda r: len(r.ids) - r.computed)
        for request in prompts:
            rest = budget if request is oldest or oldest is None else budget - min(self.budget // 4, budget)
            count = min(len(request.ids) - request.computed, rest)
            if request in self.running and count > 0 and self._reserve(request, request.computed + count, work):
                work.append(Work(request, count))
                budget -= count
                oldest = None if request is oldest else oldest
        return [w for w in work if w.request in self.running]

    def done(self, request: Request, count: int) -> None:
        """`count` more tokens of a request are in the cache."""
        request.computed += count
        if self.reuse and request.generation == self.pool.generation:
            self.pool.remember(request.ids, request.pages, request.computed)

    def _pages_for(self, tokens: int) -> int:
        return -(-tokens // PAGE)

    def _admit(self) -> None:
        for request in list(self.waiting):
            if len(self.running) == self.slots:
                return
            if self._worth_waiting(request):
                continue
            found = self.pool.find(request.ids) if self._may_reuse(request) else []
            request.pages = found
            # A place for the whole prompt and the first token of the answer, or it would be turned out again at once.
            if self._pages_for(len(request.ids) + 1) - len(found) > self.pool.free and self.running:  # alone, it fits
                self._release(request)
                return
            self.waiting.remove(request)
            self.running.append(request)
            request.computed, request.generation = len(found) * PAGE, self.pool.generation
            if not request.output_ids:
                request.cached_tokens = request.computed
                self.cached_tokens += request.computed

    def _may_reuse(self, request: Request) -> bool:
        """Where logits of the whole prompt were asked for, nothing of it may be skipped."""
        return self.reuse and not request.params.echo

    def _worth_waiting(self, request: Request) -> bool:
        """Is a prompt being read now whose beginning this one has too? Several answers to one prompt read it once."""
        if not self._may_reuse(request):
            return False
        for other in self.running:
            if other.computed < len(other.prompt_ids) and other.ids[:PAGE] == request.ids[:PAGE]:
                same = 0
                last = min(len(other.prompt_ids), len(request.ids) - 1) // PAGE * PAGE
                while same < last and other.ids[same : same + PAGE] == request.ids[same : same + PAGE]:
                    same += PAGE
                if other.computed < same:
                    return True
        return False

    def _reserve(self, request: Request, tokens: int, work: list[Work]) -> bool:
        """Pages for so many tokens, taken from those that came later if need be; False when the request itself had to go."""
        while self._pages_for(tokens) > len(request.pages):
            if self.pool.free:
                request.pages.append(self.pool.take())
                continue
            victim = self.running[-1]
            self.preemptions += 1
            self.running.pop()
            self._release(victim)
            self.waiting.appendleft(victim)
            if victim is request:
                return False
        return True

    def _release(self, request: Request) -> None:
        # Backwards: of a beginning, the end is the first to be given away.
        for page in reversed(request.pages):
            self.pool.release(page)
        request.pages, request.computed = [], 0
