"""OpenAI's requests, errors and log-probabilities as data.

A null means the default. A parameter that cannot be honoured is refused by name, never ignored; only those that cannot
change an answer (`HARMLESS`) are accepted without effect. `top_k`, `min_p` and `ignore_eos` are taken beyond OpenAI's.
"""

import codecs
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cairn.inference import SamplingParams, TokenLogprob
from cairn.tokenizers import Tokenizer
from cairn.tokenizers.chat import Message

MAX_CHOICES, MAX_PROMPTS = 16, 64
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's

# A value that asks for nothing: the parameter is then as good as absent.
NEUTRAL = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "best_of": 1,
    "suffix": "",
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "tools": [],
}
HARMLESS = ("user", "store", "metadata", "parallel_tool_calls", "service_tier")


# --- errors


class ApiError(Exception):
    """An answer in OpenAI's error form with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, headers

    def body(self) -> dict[str, Any]:
        kinds = {429: "rate_limit_error", 401: "authentication_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return Json(self.body(), status_code=self.status, headers=self.headers)


class Json(JSONResponse):
    """JSON in ASCII: half a surrogate pair, which a client may send and see again in an error, is no valid UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def describe(error: RequestValidationError) -> ApiError:
    """The first thing wrong with a body, in one line that names the parameter."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not valid JSON ({first['ctx']['error']})", code="invalid_json")
    if not name:
        return ApiError(400, "the body must be a JSON object")
    if first["type"] == "extra_forbidden":
        return ApiError(
            400, f"{name} is not supported by this server; leave it out", param=name, code="unsupported_parameter"
        )
    if first["type"] == "missing":
        return ApiError(400, f"{name} is required", param=name, code="missing_parameter")
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{name}: {message}", param=name, code="invalid_value")


# --- requests


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {k: v for k, v in values.items() if v is not None and not (k in NEUTRAL and v == NEUTRAL[k])}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StreamOptions(_Body):
    include_usage: bool = False


class GenerationRequest(_Body):
    """What completions and chat share."""

    model: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    stop: Annotated[list[str], BeforeValidator(_as_list)] = []
    seed: int | None = None
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Any = None
    store: Any = None
    metadata: Any = None
    parallel_tool_calls: Any = None
    service_tier: Any = None

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> "GenerationRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed together with stream")
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, choice: int, max_tokens: int, *, logprobs: int | None, echo: bool = False) -> SamplingParams:
        """The engine's parameters of one of the `n` choices; choice 0 is what n = 1 gives. Raises UserError."""
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            stop=tuple(self.stop),
            # Any integer is a seed for OpenAI; NumPy's generators take none below 0.
            seed=None if self.seed is None else (self.seed + choice) % 2**64,
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
            echo=echo,
        )


def _as_prompts(value: Any) -> list[str | list[int]]:
    """OpenAI's four forms as a list of texts or of ids."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(i) is int for i in value):
            return [value]
        if all(isinstance(p, str) or (isinstance(p, list) and all(type(i) is int for i in p)) for p in value):
            if len(value) > MAX_PROMPTS:
                raise ValueError(f"at most {MAX_PROMPTS} prompts in a request, got {len(value)}")
            return value
    raise ValueError("must be a string, a list of strings, a list of token ids, or a list of such lists")


class CompletionRequest(GenerationRequest):
    prompt: Annotated[list[Any], BeforeValidator(_as_prompts)]
    max_tokens: int = DEFAULT_COMPLETION_TOKENS
    echo: bool = False
    logprobs: int | None = None


def _as_text(value: Any) -> Any:
    """A message's content: text, or parts of type text, which are joined."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"only content parts of type text are supported, got {kind!r}")
    return "".join(part["text"] for part in value)


class CalledFunction(_Body):
    name: str
    arguments: str


class MessageToolCall(_Body):
    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(_Body):
    """`name`, `tool_call_id` and `type` are what clients send along; a chat template has no place for them."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_as_text)] = None
    tool_calls: list[MessageToolCall] = []
    tool_call_id: str | None = None
    name: str | None = None
    type: Literal["text"] = "text"

    def message(self) -> Message:
        message: Message = {"role": self.role, "content": self.content or ""}
        if self.tool_calls:
            calls = [{"type": "function", "function": call.function.model_dump()} for call in self.tool_calls]
            message["tool_calls"] = calls
        return message


class FunctionDefinition(_Body):
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: Literal[False] = False  # a schema is not enforced while generating


class ToolDefinition(_Body):
    type: Literal["function"]
    function: FunctionDefinition


class ChatRequest(GenerationRequest):
    """Tools are not shown to the model: a cairn model calls those that it learned."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[ToolDefinition] = []
    tool_choice: Literal["auto", "none"] = "auto"
    logprobs: bool = False
    top_logprobs: int = 0

    @model_validator(mode="after")
    def _agree(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is only allowed together with logprobs")
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
        return self

    @property
    def limit(self) -> int | None:
        """Tokens of the answer at most; None is what fits."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class TokenizeRequest(_Body):
    """`add_special_tokens` puts the beginning-of-text token in front. Special tokens in `prompt` are recognised."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class DetokenizeRequest(_Body):
    model: str | None = None
    tokens: list[int]


# --- log-probabilities


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """A token's text; one without whole characters is written `bytes:\\xe2\\x80`, so that no two look alike."""
    content = tokenizer.token_bytes(token)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{b:02x}" for b in content)


class CompletionLogprobs:
    """Builds `logprobs` of /v1/completions; text offsets go on from one call to the next (a stream sends parts).

    A token's own entry in `top_logprobs` is the same float as in `token_logprobs`: lm-eval compares them for equality.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def part(self, tokens: Sequence[TokenLogprob]) -> dict[str, list]:
        names = [token_text(self._tokenizer, t.id) for t in tokens]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(self._tokenizer.token_bytes(token.id)))
        top = [
            None
            if t.logprob is None
            else {token_text(self._tokenizer, i): p for i, p in t.top.items()} | {name: t.logprob}
            for name, t in zip(names, tokens)
        ]
        return {
            "tokens": names,
            "token_logprobs": [t.logprob for t in tokens],
            "top_logprobs": top,
            "text_offset": offsets,
        }


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[TokenLogprob]) -> dict[str, list]:
    """`logprobs` of /v1/chat/completions."""

    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        content = tokenizer.token_bytes(token)
        return {"token": content.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(content)}

    return {
        "content": [entry(t.id, t.logprob) | {"top_logprobs": [entry(i, p) for i, p in t.top.items()]} for t in tokens]
    }
