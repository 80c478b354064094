"""Tool calls that have to be right: what the model may write after the call token.

A call is `<|call|>` and then {"name": ..., "arguments": {...}} (`cairn.tokenizers.chat`). A constraint cannot ask for a
special token, so the token is put at the end of the prompt and the object after it is constrained.
"""

from collections.abc import Sequence
from typing import Any

from cairn.core.errors import UserError
from cairn.inference.constrain import Constraint
from cairn.serving.parts import Function
from cairn.tokenizers import Tokenizer
from cairn.tokenizers.chat import CALL

LITERAL = ("const", "enum", "default", "examples")  # keywords whose values are data and no schemas
NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")  # keys are a person's words
MAX_NESTING = 64


def call_ids(tokenizer: Tokenizer) -> list[int]:
    """How a call begins."""
    return [tokenizer.special[CALL]] if CALL in tokenizer.special else tokenizer.encode(CALL)


def call_constraint(functions: Sequence[Function]) -> Constraint:
    """A call of one of `functions` with arguments that are valid for its parameters. UserError for a schema that
    cannot be used."""
    forms, schemas = [], {}
    for number, function in enumerate(functions):
        if function.parameters.get("type", "object") != "object":
            raise UserError(f"the parameters of the tool {function.name} must be a schema of type object")
        # Each schema lives under a name of its own, with its references to itself led there.
        schemas[str(number)] = _moved({"type": "object"} | function.parameters, f"#/$defs/{number}")
        properties = {"name": {"const": function.name}, "arguments": {"$ref": f"#/$defs/{number}"}}
        form = {"type": "object", "properties": properties, "required": ["name", "arguments"]}
        forms.append(form | {"additionalProperties": False})
    # White space as in the calls that a model has learned from, and nowhere else: a small model would go on with it.
    return Constraint.json_schema({"anyOf": forms, "$defs": schemas}, compact=True)


def _moved(schema: Any, root: str, depth: int = 0, *, names: bool = False) -> Any:
    """`schema` with references that begin at its root (#) beginning at `root`. names: its keys are no keywords."""
    if depth > MAX_NESTING:
        raise UserError(f"a tool's parameters are more than {MAX_NESTING} levels deep: make them simpler")
    if isinstance(schema, list):
        return [_moved(inner, root, depth + 1) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if not names and "$id" in schema:
        if depth:
            raise UserError("a tool's parameters have $id in an inner schema, which is not supported: leave it out")
        # References with # lead to the same place without it; those that spell the name out find nothing and are refused.
        schema = {key: value for key, value in schema.items() if key != "$id"}
    moved = {}
    for key, value in schema.items():
        if not names and key == "$ref" and isinstance(value, str) and value.startswith("#"):
            moved[key] = root + value[1:]
        elif not names and key in LITERAL:
            moved[key] = value
        else:
            moved[key] = _moved(value, root, depth + 1, names=not names and key in NAMES)
    return moved
