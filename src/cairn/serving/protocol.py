"""OpenAI's requests as data.

A null means the default. A parameter that cannot be honoured is refused by name, never ignored; docs/serving.md lists the
few that are accepted without effect. `top_k`, `min_p`, `min_tokens`, `repetition_penalty` and `ignore_eos` are taken beyond
OpenAI's.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cairn.inference import SamplingParams
from cairn.inference.constrain import Constraint
from cairn.serving.parts import (
    MAX_TOOLS,
    Body,
    ChatMessage,
    Function,
    NamedTool,
    ResponseFormat,
    ToolDefinition,
    as_choice,
)

MAX_CHOICES, MAX_PROMPTS, MAX_GENERATIONS = 16, 64, 256
MAX_MESSAGES = 1000
MAX_ALTERNATIVES = 20  # OpenAI's for top_logprobs
MAX_INPUTS = 2048  # OpenAI's for embeddings
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("must be a string or a list of strings")
    return value


def _by_id(value: Any) -> Any:
    """Keys of JSON objects are strings: OpenAI's clients write token ids as such."""
    if not isinstance(value, dict):
        return value
    if not all(isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10 for key in value):
        raise ValueError("the keys must be token ids")
    return {int(key): bias for key, bias in value.items()}


class StreamOptions(Body):
    include_usage: bool = False


class GenerationRequest(Body):
    """What completions and chat share."""

    model: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Annotated[dict[int, float], BeforeValidator(_by_id)] = Field(default_factory=dict)
    min_tokens: int = Field(0, ge=0)
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    stop: Annotated[list[str], BeforeValidator(_as_list)] = Field(default_factory=list)
    seed: int | None = None
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Any = None
    store: Any = None
    metadata: Any = None
    service_tier: Any = None

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> "GenerationRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed together with stream")
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(
        self,
        choice: int,
        max_tokens: int,
        *,
        logprobs: int | None,
        echo: bool = False,
        stop: tuple[str, ...] | None = None,
        used: int = 0,
        constraint: Constraint | None = None,
    ) -> SamplingParams:
        """The engine's parameters of one of the `n` choices; choice 0 is what n = 1 gives. `stop` replaces the
        request's; `used`: tokens of the answer that are there already. Raises UserError."""
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
            min_tokens=min(max(0, self.min_tokens - used), max_tokens),
            stop=tuple(self.stop) if stop is None else stop,
            # Any integer is a seed for OpenAI; NumPy's generators take none below 0.
            seed=None if self.seed is None else (self.seed + choice) % 2**64,
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
            echo=echo,
            constraint=constraint,
        )


def _as_inputs(value: Any, most: int) -> list[str | list[int]]:
    """OpenAI's four forms as a list of texts or of ids."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(i) is int for i in value):
            return [value]
        if all(isinstance(p, str) or (isinstance(p, list) and all(type(i) is int for i in p)) for p in value):
            if len(value) > most:
                raise ValueError(f"at most {most} in a request, got {len(value)}")
            return value
    raise ValueError("must be a string, a list of strings, a list of token ids, or a list of such lists")


class CompletionRequest(GenerationRequest):
    prompt: Annotated[list[Any], BeforeValidator(lambda value: _as_inputs(value, MAX_PROMPTS))]
    max_tokens: int = DEFAULT_COMPLETION_TOKENS
    echo: bool = False
    logprobs: int | None = None
    best_of: int | None = None

    @model_validator(mode="after")
    def _bounded(self) -> "CompletionRequest":
        if self.best_of not in (None, self.n):
            raise ValueError("best_of is not supported unless it equals n; ask for n choices and keep the best")
        if self.n * len(self.prompt) > MAX_GENERATIONS:
            raise ValueError(f"n x prompt is {self.n * len(self.prompt)} answers; at most {MAX_GENERATIONS} a request")
        return self


class ChatRequest(GenerationRequest):
    """Tools are not shown to the model: a cairn model calls those that it learned. It calls one a turn, so that
    `parallel_tool_calls` changes nothing."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(None, ge=0)
    max_completion_tokens: int | None = Field(None, ge=0)
    tools: list[ToolDefinition] = Field([], max_length=MAX_TOOLS)
    tool_choice: Annotated[Literal["auto", "none", "required"] | NamedTool, BeforeValidator(as_choice)] = "auto"
    parallel_tool_calls: bool = False
    response_format: ResponseFormat | None = None
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_ALTERNATIVES)

    @model_validator(mode="after")
    def _agree(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is only allowed together with logprobs")
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError("tools: two functions have the same name")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(f"tool_choice: {self.tool_choice.function.name!r} is not among the tools")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice required needs tools")
        if names and self.tool_choice != "none" and self.response_format is not None:
            raise ValueError("response_format and tools cannot be kept to at once; leave one out")
        if self.stop and self.response_format is not None and self.response_format.type != "text":
            raise ValueError("response_format and stop cannot be kept to at once: a stop string would cut the JSON")
        return self

    @property
    def limit(self) -> int | None:
        """Tokens of the answer at most; None is what fits."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def forced(self) -> list[Function]:
        """Functions of which one has to be called; empty when the model may answer."""
        functions = [tool.function for tool in self.tools]
        if isinstance(self.tool_choice, NamedTool):
            wanted = self.tool_choice.function.name
            return [function for function in functions if function.name == wanted]
        return functions if self.tool_choice == "required" else []

    @property
    def offered(self) -> list[Function]:
        """Functions that may be called."""
        return [] if self.tool_choice == "none" else self.forced or [tool.function for tool in self.tools]


class EmbeddingRequest(Body):
    model: str | None = None
    input: Annotated[list[Any], BeforeValidator(lambda value: _as_inputs(value, MAX_INPUTS))]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: Any = None


class TokenizeRequest(Body):
    """A text, or a conversation. Special tokens in `prompt` are recognised; `add_special_tokens` puts the
    beginning-of-text token in front of it."""

    model: str | None = None
    prompt: str | None = None
    add_special_tokens: bool = True
    messages: list[ChatMessage] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    add_generation_prompt: bool = True

    @model_validator(mode="after")
    def _one(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class DetokenizeRequest(Body):
    model: str | None = None
    tokens: list[int]


# What the message of a mistake may begin with.
PARAMETERS = frozenset(
    {*CompletionRequest.model_fields, *ChatRequest.model_fields, *EmbeddingRequest.model_fields, "tokens"}
)
