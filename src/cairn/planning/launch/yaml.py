"""Plain values as YAML, enough for manifests and configuration files: nothing has to be installed to write a job.

A string that could be read as anything else than itself stands in JSON's quotes, which YAML has as well; one of several
lines, such as a script, as a literal block.
"""

import json
import re
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
# What YAML 1.1 reads as a truth value or as nothing (yaml.org/type/bool.html).
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def to_yaml(*documents: Any) -> str:
    """One or several documents of dicts, lists, strings, numbers, booleans and None.

    >>> print(to_yaml({"kind": "Job", "spec": {"args": ["a", "no", 3], "empty": []}}), end="")
    kind: Job
    spec:
      args:
        - a
        - "no"
        - 3
      empty: []
    """
    return "---\n".join("\n".join(_lines(document)) + "\n" for document in documents)


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _entry(f"{_scalar(key)}:", item)]
    if isinstance(value, (list, tuple)) and value:
        return [line for item in value for line in _entry("-", item)]
    return [_scalar(value)]


def _entry(lead: str, value: Any) -> list[str]:
    """A key or a dash with what belongs to it."""
    if isinstance(value, str) and _is_block(value):
        # The 2 says how deep the block stands: its first line may begin with spaces itself.
        return [f"{lead} |2", *(f"  {line}" if line else "" for line in value[:-1].split("\n"))]
    inner = _lines(value)
    if not isinstance(value, (dict, list, tuple)) or not value:
        return [f"{lead} {inner[0]}"]
    if lead == "-":  # the first line of what is inside follows the dash
        return [f"- {inner[0]}", *(f"  {line}" if line else "" for line in inner[1:])]
    return [lead, *(f"  {line}" if line else "" for line in inner)]


def _is_block(text: str) -> bool:
    """Several lines of ordinary characters with one end: what a literal block says exactly."""
    if "\n" not in text[:-1] or not text.endswith("\n") or text.endswith("\n\n"):
        return False
    return all(c == "\n" or " " <= c <= "~" for c in text) and any(line.strip() for line in text.split("\n"))


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, float):
        # YAML 1.1 takes 1e-05 for a string: it wants a point in a number.
        text = json.dumps(value, allow_nan=False)
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    if isinstance(value, str):
        # JSON escapes what lies beyond 16 bits as two characters, which YAML does not join again.
        return '"' + "".join(c if c > "\uffff" else json.dumps(c)[1:-1] for c in value) + '"'
    if value is None or isinstance(value, int):
        return json.dumps(value)
    if value not in ({}, [], ()):
        raise TypeError(f"no YAML for {value!r}")
    return "{}" if isinstance(value, dict) else "[]"
