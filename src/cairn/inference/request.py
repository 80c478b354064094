"""One running generation: its tokens, and the text that is certain so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cairn.core.errors import UserError
from cairn.inference.sampling import Sampler, SamplingParams
from cairn.inference.speculative import DraftLength
from cairn.tokenizers import StreamDecoder


@dataclass
class TokenLogprob:
    """A token, its log-probability under the model (before temperature), and the likeliest alternatives."""

    id: int
    logprob: float | None  # None for the first token of a prompt: nothing predicts it
    top: dict[int, float] = field(default_factory=dict)


@dataclass
class Delta:
    """What a step added to a request: text that is certain (no half character, no half stop string) and tokens."""

    request: "Request"
    text: str
    tokens: list[int]
    finish_reason: str | None = None


@dataclass(eq=False)
class Request:
    """A running generation. `text` grows; `finish_reason` is None until it is `stop`, `length`, `cancelled` or `error`.

    error: why no token could follow (a constraint that cannot be kept, logits that are no numbers).
    cached_tokens: how many tokens of the prompt were taken over from earlier requests.
    """

    id: int
    prompt_ids: list[int]
    params: SamplingParams
    sampler: Sampler
    decoder: StreamDecoder
    on_delta: Callable[[Delta], None] | None = None
    output_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    error: UserError | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    cached_tokens: int = 0
    guessing: DraftLength | None = None  # how many guesses are worth their work
    # Where it stands in the cache: tokens computed, and the pages that hold them.
    computed: int = 0
    pages: list[int] = field(default_factory=list)
    generation: int = 0  # of the model that computed them
    _held: str = ""

    def __post_init__(self) -> None:
        self.ids = list(self.prompt_ids)  # prompt and answer

    def extend(self, tokens: Sequence[int], positions: int, stop_ids: frozenset[int]) -> Delta:
        """Add tokens to the answer; those after an end are dropped. `positions`: tokens that prompt and answer may have."""
        taken: list[int] = []
        for i, token in enumerate(tokens):
            taken.append(token)
            self.output_ids.append(token)
            self.ids.append(token)
            ended = token in stop_ids and not self.params.ignore_eos
            if not ended:
                self._held += self.decoder.push(token)
            full = len(self.output_ids) >= self.params.max_tokens or len(self.ids) >= positions
            ended = ended or (i == len(tokens) - 1 and self.sampler.finished)  # the sampler has seen all of them
            if ended or full:
                self._held += self.decoder.finish()
            cut, found = find_stop(self._held, self.params.stop)
            self.finish_reason = "stop" if ended or found else "length" if full else None
            if found:
                self._held = self._held[:cut]
            if self.finish_reason is not None:
                break
        certain = len(self._held)
        if self.finish_reason is None:
            certain -= partial_stop(self._held, self.params.stop)
        text, self._held = self._held[:certain], self._held[certain:]
        self.text += text
        return Delta(self, text, taken, self.finish_reason)


Output = Request  # what `generate` returns: a finished request


def find_stop(text: str, stops: Sequence[str]) -> tuple[int, bool]:
    """Where the first stop string begins, else the length of the text."""
    places = [p for p in (text.find(s) for s in stops) if p >= 0]
    return (min(places), True) if places else (len(text), False)


def partial_stop(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that could still become a stop string.

    >>> partial_stop("answer\\n#", ["\\n##"])
    2
    """
    longest = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:size]):
                longest = size
                break
    return longest
