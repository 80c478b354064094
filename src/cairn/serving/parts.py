"""What requests are made of: messages, tools, and the form of an answer."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cairn.inference.constrain import Constraint
from cairn.tokenizers.chat import Message

MAX_TOOLS = 128  # of a request, and calls of a message

# A value that asks for nothing: the parameter is then as good as absent.
NEUTRAL = {"suffix": "", "modalities": ["text"], "tools": [], "response_format": {"type": "text"}}


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {k: v for k, v in values.items() if v is not None and not (k in NEUTRAL and v == NEUTRAL[k])}


def _as_text(value: Any) -> Any:
    """A message's content: text, or parts of type text, which are joined."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"only content parts of type text are supported, got {kind!r}")
    return "".join(part["text"] for part in value)


class CalledFunction(Body):
    name: str
    arguments: str


class MessageToolCall(Body):
    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Body):
    """`name`, `tool_call_id` and `type` are what clients send along; a chat template has no place for them."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_as_text)] = None
    tool_calls: list[MessageToolCall] = Field([], max_length=MAX_TOOLS)
    tool_call_id: str | None = None
    name: str | None = None
    type: Literal["text"] = "text"

    def message(self) -> Message:
        role = "system" if self.role == "developer" else self.role  # OpenAI's newer name of it
        message: Message = {"role": role, "content": self.content or ""}
        if self.tool_calls:
            calls = [{"type": "function", "function": call.function.model_dump()} for call in self.tool_calls]
            message["tool_calls"] = calls
        return message


class Function(Body):
    name: str = Field(pattern="^[a-zA-Z0-9_-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] = {"type": "object"}
    strict: bool = False


class ToolDefinition(Body):
    type: Literal["function"]
    function: Function


class FunctionName(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Body):
    """`name`, `description` and `strict` change nothing: a schema is always kept to."""

    name: str = ""
    description: str = ""
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool = False


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_with_its_type(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema and the type json_schema belong together")
        return self

    def constraint(self) -> Constraint | None:
        """UserError when the schema is too large."""
        if self.json_schema is not None:
            return Constraint.json_schema(self.json_schema.schema_, compact=True)
        return Constraint.json_object(compact=True) if self.type == "json_object" else None


def as_choice(value: Any) -> Any:
    """A named function's request, or one of the words; said in one line, which a union's errors are not."""
    if isinstance(value, dict) and value.get("type") == "function" and isinstance(value.get("function"), dict):
        if set(value) == {"type", "function"} and isinstance(value["function"].get("name"), str):
            return NamedTool.model_validate(value)
    elif isinstance(value, str) and value in ("auto", "none", "required"):
        return value
    raise ValueError('must be auto, none, required or {"type": "function", "function": {"name": ...}}')
