"""Answers that are what they must be: a regular expression or a JSON schema as a mask over the vocabulary at every token.

The automata are those of `llguidance`; here are the limits, the vocabulary it sees, and the state of one request.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cairn.core.errors import UserError

if TYPE_CHECKING:
    from cairn.tokenizers import Tokenizer

MAX_PATTERN = 4096  # characters of a regular expression
MAX_SCHEMA = 65536  # characters of a schema as JSON
MAX_DEPTH = 32  # objects and lists inside one another
# A model that never gets out of white space would fill the answer with it: a line break and an indentation are enough.
WHITE_SPACE = r"[ \t\r\n]{1,32}"
CACHED_GRAMMARS = 64
LEXER_STATES = 20_000  # of one answer's automaton, 1 to 2 kB each
LEXER_FUEL = 200_000  # work to start one, about 5 ms by the documentation, half a second at worst by the clock
MAX_JOINED = 12  # patterns and formats of a schema whose parts are joined
MAX_MULTIPLE = 10_000
# Keywords that may stand beside a $ref without making it an intersection.
BESIDE_REF = frozenset(
    {"$ref", "$defs", "definitions", "$schema", "$id", "$comment", "title", "description", "default"}
)


@dataclass(frozen=True)
class Constraint:
    """What an answer must be. Make one with `regex`, `json_schema` or `json_object`; UserError when it is too large.

    >>> Constraint.regex("yes|no")
    Constraint(kind='regex', text='yes|no', compact=False)
    >>> Constraint.json_schema({"type": "integer"})
    Constraint(kind='json', text='{"type": "integer"}', compact=False)
    """

    kind: Literal["regex", "json"]
    text: str  # the pattern, or the schema as JSON
    compact: bool = False  # of JSON: white space as json.dumps writes it, and nowhere else

    @classmethod
    def regex(cls, pattern: str) -> "Constraint":
        """The whole answer matches `pattern` (Rust's syntax: no look-around, no back references; a digit is one of 0 to 9)."""
        if not isinstance(pattern, str):
            raise UserError(f"a regular expression is a text, got {type(pattern).__name__}")
        if len(pattern) > MAX_PATTERN:
            raise UserError(f"the regular expression has {len(pattern)} characters, at most {MAX_PATTERN} are allowed")
        if any("\ud800" <= char <= "\udfff" for char in pattern):
            raise UserError("the regular expression has half a character (a lone surrogate)")
        # Half an escape would take the end of the grammar's own quotation with it; Rust has no escape of a line break.
        if re.search(r"(?<!\\)(?:\\\\)*\\(?:\n|$)", pattern):
            raise UserError("the regular expression has a backslash at the end of a line: escape it or take it away")
        return cls("regex", pattern)

    @classmethod
    def json_schema(cls, schema: dict[str, Any], *, compact: bool = False) -> "Constraint":
        """The answer is JSON that is valid under `schema`; properties come in the schema's order.

        compact: no white space but ", " and ": ". A small model that has begun with spaces may go on with them.
        """
        if not isinstance(schema, dict):
            raise UserError(f"a JSON schema is an object, got {type(schema).__name__}")
        if "x-guidance" in schema:
            raise UserError("the JSON schema has x-guidance, which would change what is enforced: leave it out")
        parts = _parts(schema)
        try:
            text = json.dumps(schema, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(f"the JSON schema is not JSON: {error}") from None
        if len(text) > MAX_SCHEMA:
            raise UserError(f"the JSON schema has {len(text)} characters, at most {MAX_SCHEMA} are allowed")
        _check_work(parts)
        return cls("json", text, compact)

    @classmethod
    def json_object(cls, *, compact: bool = False) -> "Constraint":
        """The answer is any JSON object."""
        return cls.json_schema({"type": "object"}, compact=compact)


def _parts(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """All objects in a schema. Without recursion: a hostile one may be deeper than Python's stack, or contain itself."""
    found, level = [], [schema]
    for _ in range(MAX_DEPTH):
        found += [value for value in level if isinstance(value, dict)]
        level = [child for value in level if isinstance(value, dict | list | tuple) for child in _children(value)]
        if len(found) + len(level) > MAX_SCHEMA:
            raise UserError(f"the JSON schema has more than {MAX_SCHEMA} values: make it smaller")
    if any(isinstance(value, dict | list | tuple) for value in level):
        raise UserError(f"the JSON schema is more than {MAX_DEPTH} levels deep: make it flatter")
    return found


def _children(value: Any) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value


def _check_work(parts: list[dict[str, Any]]) -> None:
    """Refuse what `llguidance`'s own limits do not stop: intersections of patterns, and remainders of large numbers.

    Measured: 20 patterns in one `allOf` took 17 s, doubling with each; one multipleOf of 7 digits 200 s and 5 GB.
    """
    joined = any(
        (isinstance(part.get("allOf"), list) and len(part["allOf"]) > 1) or ("$ref" in part and set(part) - BESIDE_REF)
        for part in parts
    )
    patterns = sum(isinstance(part.get(key), str) for part in parts for key in ("pattern", "format"))
    if joined and patterns > MAX_JOINED:
        raise UserError(f"the JSON schema joins parts (allOf, $ref) and has {patterns} patterns: at most {MAX_JOINED}")
    work = 1
    for value in {str(part["multipleOf"]) for part in parts if type(part.get("multipleOf")) in (int, float)}:
        digits = int("".join(filter(str.isdigit, format(Decimal(value), "f"))) or 1)
        work = work * digits if joined else max(work, digits)
    if work > MAX_MULTIPLE:
        raise UserError(
            f"multipleOf in the JSON schema: at most {MAX_MULTIPLE} (without the decimal point) is enforced"
        )


class Grammars:
    """Compiles constraints for one tokenizer and keeps the latest ones. Safe to use from several threads.

    stop_ids: tokens that end an answer; they are allowed where the constraint is fulfilled. Other special tokens never are.
    """

    def __init__(self, tokenizer: "Tokenizer", stop_ids: Collection[int]):
        self.tokenizer, self.stop_ids = tokenizer, frozenset(stop_ids)
        self.size = tokenizer.vocab_size
        self._vocabulary: Any = None  # made at the first constraint: a large one takes a second
        self._compiled: OrderedDict[Constraint, Any] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, constraint: Constraint) -> "Matcher":
        """The state of a new answer under `constraint`. UserError when it cannot be enforced or is too complex."""
        with self._lock:
            if constraint not in self._compiled:
                self._compiled[constraint] = self._compile(constraint)
                if len(self._compiled) > CACHED_GRAMMARS:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(constraint)
            return Matcher(self._compiled[constraint].deep_copy(), self.size, self.stop_ids)

    def _compile(self, constraint: Constraint) -> Any:
        import llguidance

        if self._vocabulary is None:
            self._vocabulary = _vocabulary(self.tokenizer, self.stop_ids)
        # Tokenizers with a dummy prefix lose the first space of an answer when it is decoded: there must be one more.
        space = '" " ' if self.tokenizer.model.strips_first_space else ""
        if constraint.kind == "regex":
            pattern = llguidance.regex_to_lark(constraint.text, "d")  # Python may not know Unicode's newest digits
            name, rule = "regular expression", f"start: TEXT\nTEXT: {space}/{pattern}/"
        else:
            name, rule = "JSON schema", f"start: {space}json\njson: %json {_with_options(constraint)}"
        limits = llguidance.LLParserLimits(
            max_lexer_states=LEXER_STATES, initial_lexer_fuel=LEXER_FUEL, verbose_errors=False
        )
        compiled = llguidance.LLMatcher(self._vocabulary, rule, log_level=0, limits=limits)
        if compiled.is_error():
            raise UserError(f"the {name} cannot be enforced: {_reason(compiled)}")
        trial = Matcher(compiled.deep_copy(), self.size, self.stop_ids)
        try:  # some errors show only at the first tokens; the last id is a long token where ids are in order of merges
            likely = np.flatnonzero(trial.mask())
            if len(likely) and not trial.finished:
                trial.accept(int(likely[-1]))
                trial.mask()
        except UserError:
            raise UserError(f"the {name} cannot be enforced: {_reason(trial._state)}") from None
        return compiled


class Matcher:
    """How far one answer has come under its constraint."""

    def __init__(self, state: Any, size: int, stop_ids: frozenset[int]):
        self._state, self._size, self._stop_ids = state, size, stop_ids
        self._stops = np.array([i for i in stop_ids if i < size], np.int64)
        self._mask: np.ndarray | None = None

    def mask(self) -> np.ndarray:
        """Which tokens may come next: bool (V,), V the tokenizer's vocabulary. UserError when it takes too much work."""
        if self._mask is None:
            bits = np.frombuffer(self._state.compute_bitmask(), np.uint8)
            if self._state.is_error():
                raise UserError(f"the constraint cannot go on: {_reason(self._state)}")
            self._mask = np.unpackbits(bits, count=self._size, bitorder="little").view(bool)
        return self._mask

    def accept(self, token: int) -> None:
        """Go on by one token. UserError when `mask` did not allow it."""
        if token in self._stop_ids and self.finished:
            return
        if not self._state.consume_token(token):
            raise UserError(f"the constraint cannot go on with token {token}: {_reason(self._state)}")
        self._mask = None

    @property
    def finished(self) -> bool:
        """Nothing but a stop token may follow."""
        if self._state.is_stopped():
            return True
        # `llguidance` notices some ends only when it makes the next mask.
        return self._state.is_accepting() and not np.delete(self.mask(), self._stops).any()


def _with_options(constraint: Constraint) -> str:
    """The schema with what `llguidance` needs to know: unknown keywords are errors, white space is bounded."""
    spaces: dict[str, Any] = {"whitespace_pattern": WHITE_SPACE}
    if constraint.compact:
        spaces = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    options = {"lenient": False, "coerce_one_of": False} | spaces
    return json.dumps({"x-guidance": options, **json.loads(constraint.text)})


def _vocabulary(tokenizer: "Tokenizer", stop_ids: frozenset[int]) -> Any:
    import llguidance

    return llguidance.LLTokenizer(
        llguidance.TokenizerWrapper(_Vocabulary(tokenizer, stop_ids)), eos_token=sorted(stop_ids) or None
    )


class _Vocabulary:
    """A tokenizer as `llguidance` wants it."""

    bos_token_id = None

    def __init__(self, tokenizer: "Tokenizer", stop_ids: frozenset[int]):
        self._tokenizer = tokenizer
        self.tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_ids | stop_ids)
        special = set(self.special_token_ids)
        self._ids = {data: i for i, data in enumerate(self.tokens) if data and i not in special}
        self._longest = max(map(len, self._ids), default=0)
        if stop_ids:
            self.eos_token_id = min(stop_ids)
        else:  # one id beyond the vocabulary, so that the end of the grammar has a name
            self.eos_token_id = len(self.tokens)
            self.tokens.append(b"<end>")
            self.special_token_ids.append(self.eos_token_id)

    def __call__(self, data: bytes) -> list[int]:
        """How a stretch that the grammar forces is written: as the tokenizer writes it, or, where that is not the very
        bytes (a dummy prefix, unknown characters), by the longest token at each place, as far as tokens reach."""
        ids = self._tokenizer.encode(data.decode("utf-8", "replace"))
        if b"".join(map(self._tokenizer.token_bytes, ids)) == data:
            return ids
        ids, start = [], 0
        while start < len(data):
            ends = range(min(len(data), start + self._longest), start, -1)
            end = next((end for end in ends if data[start:end] in self._ids), None)
            if end is None:
                break
            ids.append(self._ids[data[start:end]])
            start = end
        return ids


def _reason(state: Any) -> str:
    message = state.get_error().replace("<non-verbose/>", "").strip()
    if message.startswith("NoExtension"):
        return "nothing that this vocabulary can write fulfils it"
    # A place in the grammar, "at 2(7): failed to compile JSON schema: ", says nothing to a person.
    message = re.sub(r"^at \d+\(\d+\): (failed to compile JSON schema: )?", "", message)
    message = re.sub(r"(?m)^ *\d+ \|.*|^ *\^$", "", message)  # nor does the grammar around the place
    return " ".join(message.split())[:300]
