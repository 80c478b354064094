"""Chat templates: messages to ids, and which of those ids the assistant itself wrote.

A template is Jinja, as in every Hugging Face model directory, and always runs in a sandbox (`templates`). Text that a person
types can hold the letters of a special token; it must not become one. So each special token's text inside a message is
broken by a private-use character before rendering, and mended after the special tokens of the template have been found.
"""

from collections.abc import Sequence
from typing import Any

from cairn.core.errors import UserError
from cairn.tokenizers.templates import TemplateError, render_apart, render_here

Message = dict[str, Any]

END_OF_TEXT = "<|endoftext|>"
CALL = "<|call|>"
END_OF_TURN = "<|end|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    CALL,
    END_OF_TURN,
)

# A tool call is <|call|> and then the JSON object that OpenAI's clients know: {"name": ..., "arguments": {...}}.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}
{{- raise_exception('role must be system, user, assistant or tool, got ' + message['role']) -}}
{%- endif -%}
{{- '<|' + message['role'] + '|>' -}}
{%- if message['content'] -%}{{- message['content'] -}}{%- endif -%}
{%- for call in message['tool_calls'] or [] -%}
{{- '<|call|>{"name": "' + call['function']['name'] + '", "arguments": ' -}}
{%- if call['function']['arguments'] is string -%}{{- call['function']['arguments'] -}}
{%- else -%}{{- call['function']['arguments'] | tojson -}}{%- endif -%}
{{- '}' -}}
{%- endfor -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""

BREAK = "\ue0ca"  # private use; removed again before encoding


def check_messages(messages: Sequence[Message]) -> None:
    if not isinstance(messages, (list, tuple)) or not messages:
        raise UserError("messages must be a non-empty list")
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise UserError(f"message {i} must be an object with a role, got {message!r}")
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise UserError(f"message {i}: content must be a string, got {type(content).__name__}")


def render(template: str, messages: Sequence[Message], *, add_generation_prompt: bool = False, **variables: Any) -> str:
    """The text of a conversation, the same as `transformers`' `apply_chat_template(tokenize=False)`."""
    check_messages(messages)
    # As for transformers, there are always these names; tools and documents are not shown to the model.
    given = {"messages": list(messages), "tools": None, "documents": None} | variables
    run = render_here if template == CHAT_TEMPLATE else render_apart
    try:
        return run(template, given | {"add_generation_prompt": add_generation_prompt})
    except TemplateError as error:
        raise UserError(f"the chat template failed: {error}") from None


def break_special(value: Any, special: Sequence[str]) -> Any:
    """`value` (a message, or a part of one) with every special token's text broken by `BREAK`."""
    if isinstance(value, str):
        value = value.replace(BREAK, "")
        for token in special:
            value = value.replace(token, token[:1] + BREAK + token[1:])
        return value
    if isinstance(value, dict):
        return {key: break_special(inner, special) if key != "role" else inner for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [break_special(inner, special) for inner in value]
    return value
