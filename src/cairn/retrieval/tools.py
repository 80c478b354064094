"""Tools that an assistant may call. A tool takes and gives text; a mistake in the call is a ValueError it can read."""

import ast
import math
import operator
import re
from collections.abc import Callable

MAX_LENGTH = 200  # characters of an expression
MAX_DEPTH = 40  # operations inside operations
MAX_EXPONENT = 1000
MAX_BITS = 512  # of an integer, about 154 digits

_NOT_ARITHMETIC = re.compile(r"[^0-9.eE+\-*/%() ]")
_ALLOWED = "only numbers, + - * / // % ** and parentheses are understood"
_BINARY: dict[type[ast.operator], Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def calculator(expression: str) -> str:
    """The value of an arithmetic expression, with Python's meaning of the operators; nothing in it is executed.

    Integers stay exact, and a whole number is written as one. Raises ValueError with what is wrong.

    >>> calculator("12 * (3 + 4)"), calculator("7/2"), calculator("6/2"), calculator("2**-1")
    ('84', '3.5', '3', '0.5')
    """
    if not isinstance(expression, str):
        raise ValueError(f"the expression must be text, got {type(expression).__name__}")
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"the expression has {len(expression)} characters, at most {MAX_LENGTH} are taken")
    foreign = _NOT_ARITHMETIC.search(expression)
    if foreign:
        raise ValueError(f"unexpected {foreign.group()!r}: {_ALLOWED}")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, MemoryError, RecursionError):  # the latter two: how a parser refuses deep nesting
        raise ValueError(f"{expression!r} is not an arithmetic expression") from None
    try:
        value = _evaluate(tree.body, MAX_DEPTH)
    except ZeroDivisionError:
        raise ValueError("division by zero") from None
    except OverflowError:
        raise ValueError("the result is too large") from None
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return str(int(value) if whole else value)


def _evaluate(node: ast.expr, depth: int) -> int | float:
    if depth == 0:
        raise ValueError(f"more than {MAX_DEPTH} operations inside each other")
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _evaluate(node.operand, depth - 1)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _evaluate(node.left, depth - 1), _evaluate(node.right, depth - 1)
        if isinstance(node.op, ast.Pow):
            _check_power(left, right)
        return _bounded(_BINARY[type(node.op)](left, right))
    raise ValueError(_ALLOWED)


def _bounded(value: int | float | complex) -> int | float:
    if isinstance(value, complex):
        raise ValueError("the root of a negative number is not a real number")
    if value.bit_length() > MAX_BITS if isinstance(value, int) else not math.isfinite(value):
        raise ValueError("a number on the way is too large")
    return value


def _check_power(base: int | float, exponent: int | float) -> None:
    """Refuse before the work is done: 9**9**9 has 370 million digits."""
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"exponents go up to {MAX_EXPONENT}")
    if isinstance(base, int) and isinstance(exponent, int) and (base.bit_length() - 1) * exponent > MAX_BITS:
        raise ValueError("a number on the way is too large")


TOOLS: dict[str, Callable[..., str]] = {"calculator": calculator}

CALCULATOR_SCHEMA = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Exact arithmetic: + - * / // % ** and parentheses.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "for example 12 * (3 + 4)"}},
            "required": ["expression"],
            "additionalProperties": False,
        },
    },
}
