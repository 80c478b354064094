"""SentencePiece's compiled normalisation rules: "replace the longest key that starts here", as a double array.

The blob is `<size of the trie in bytes: uint32> <trie: uint32 units> <replacements, each ended by NUL>`. A unit of the trie
(darts-clone's layout) holds the byte that leads to it, a flag "a rule ends here", and the XOR distance to its block of
children: the child for byte c of a node with block b is unit b ^ c, and the value of a rule is unit b ^ 0. Blocks are
shared by nodes that continue alike, so that the 225,000 rules of nmt_nfkc need 45,000 units.
"""

import functools
import re
import struct
from collections.abc import Mapping

from cairn.core.errors import UserError

LEAF = 1 << 31  # set in a unit that holds a value, and in unused ones: no byte matches it
HAS_VALUE = 1 << 8
MAX_CHARACTERS = 64  # of a key that is read; nmt_nfkc's longest has four
MAX_STEPS = 4_000_000  # of a walk through the whole trie; nmt_nfkc takes 60,000

_FOREIGN = re.compile("[^\x00-\x7f]+")


def _block(index: int, unit: int) -> int:
    """The block of children of the node at `index`; bit 9 says that the distance is stored shifted by eight."""
    return index ^ (unit >> 10) << ((unit & 1 << 9) >> 6)


class Charsmap:
    """Rules read from `blob`. Every reference in it is checked, so a hostile blob is a UserError and nothing worse."""

    def __init__(self, blob: bytes):
        size = struct.unpack_from("<I", blob)[0] if len(blob) >= 4 else 0
        if size == 0 or size % 4 or 4 + size >= len(blob):
            raise UserError("normalisation rules: the size of the trie does not fit the data")
        self.blob = blob
        self.units = struct.unpack_from(f"<{size // 4}I", blob, 4)
        self.replacements = blob[4 + size :]
        self._values: dict[int, str] = {}
        singles, firsts, later = self._characters()
        stretches = [f"{_set(firsts)}{_set(later)}+"] if firsts and later else []
        alone = [_set(singles)] if singles else []
        self._pattern = re.compile("|".join(stretches + alone) or "(?!)")  # finds all places where a rule may apply
        self._replaced: dict[str, str] = {}
        # In ASCII text no rule of two characters can apply (unless there is one): a table does, at the speed of C.
        self._ascii: dict[int, str | None] | None = None
        if not any(char.isascii() for char in later):
            self._ascii = {ord(char): self.parts(char)[0][1] or None for char in singles if char.isascii()}
        # Whether ASCII text has no white space but " " afterwards.
        self.leaves_spaces_only = all(ord(c) in (self._ascii or ()) for c in "\t\n\v\f\r\x1c\x1d\x1e\x1f")

    def replace(self, text: str) -> str:
        """`text` with every rule applied, left to right."""
        if self._ascii is None:
            return self._pattern.sub(self._replacement, text)
        out, end = [], 0
        for match in _FOREIGN.finditer(text) if not text.isascii() else ():
            start = max(end, match.start() - 1)  # a letter and the accent that follows it
            out.append(text[end:start].translate(self._ascii))
            out.append(self._pattern.sub(self._replacement, text[start : match.end()]))
            end = match.end()
        return "".join(out) + text[end:].translate(self._ascii)

    def _replacement(self, match: re.Match) -> str:
        found = match.group()
        if found not in self._replaced:
            replaced = "".join(part for _, part in self.parts(found))
            if len(found) > 8:
                return replaced
            self._replaced[found] = replaced
        return self._replaced[found]

    def parts(self, text: str) -> list[tuple[int, str]]:
        """The same one step at a time: (characters consumed, what stands for them)."""
        found, start = [], 0
        while start < len(text):
            length, replacement = self._longest(text, start)
            found.append((length, replacement))
            start += length
        return found

    def _longest(self, text: str, start: int) -> tuple[int, str]:
        best = (1, text[start])
        block = _block(0, self.units[0])
        for length, char in enumerate(text[start : start + MAX_CHARACTERS], 1):
            step = self._step(block, char)
            if step is None:
                break
            block, value = step
            if value is not None:
                best = (length, value)
        return best

    def _step(self, block: int, char: str) -> tuple[int, str | None] | None:
        """The block after `char` and the replacement when a rule ends there; None when no rule goes on with it."""
        unit = 0
        for byte in char.encode("utf-8", "surrogatepass"):
            index = block ^ byte
            if byte == 0 or index >= len(self.units):
                return None
            unit = self.units[index]
            if unit & (LEAF | 0xFF) != byte:
                return None
            block = _block(index, unit)
        return block, self._value(block) if unit & HAS_VALUE else None

    def _value(self, block: int) -> str:
        start = self.units[block] & ~LEAF if block < len(self.units) else len(self.replacements)
        if start not in self._values:
            end = self.replacements.find(b"\0", start)
            if start >= len(self.replacements) or end < 0:
                raise UserError("normalisation rules: a replacement lies outside the data")
            try:
                self._values[start] = self.replacements[start:end].decode("utf-8")
            except UnicodeDecodeError:
                raise UserError("normalisation rules: a replacement is not UTF-8") from None
        return self._values[start]

    def _characters(self) -> tuple[set[str], set[str], set[str]]:
        """Characters that are a key alone; those that begin a longer key; those that go on in one."""
        children: dict[int, list[int]] = {}
        for index, unit in enumerate(self.units[1:], 1):
            if not unit & LEAF and unit & 0xFF:
                children.setdefault(index ^ (unit & 0xFF), []).append(index)

        steps = 0

        @functools.cache
        def characters(block: int) -> list[tuple[str, int, bool]]:
            """(character, block after it, whether a rule ends there) for all that may follow in `block`."""
            nonlocal steps
            found = []
            stack = [(block, b"")]
            while stack:
                block, prefix = stack.pop()
                for index in children.get(block, ()):
                    steps += 1
                    if steps > MAX_STEPS:
                        raise UserError("normalisation rules: the trie does not end")
                    unit = self.units[index]
                    data = prefix + bytes([unit & 0xFF])
                    after = _block(index, unit)
                    if unit & HAS_VALUE:
                        self._value(after)
                    try:
                        found.append((data.decode("utf-8"), after, bool(unit & HAS_VALUE)))
                    except UnicodeDecodeError:
                        if unit & HAS_VALUE or len(data) > 3:
                            raise UserError("normalisation rules: a key is not UTF-8") from None
                        stack.append((after, data))
            return found

        singles, firsts, later = set(), set(), set()
        seen: set[int] = set()
        for char, block, ends in characters(_block(0, self.units[0])):
            if ends:
                singles.add(char)
            if children.get(block):
                firsts.add(char)
                stack = [block]
                while stack:
                    block = stack.pop()
                    if block not in seen:
                        seen.add(block)
                        for char, after, _ in characters(block):
                            later.add(char)
                            stack.append(after)
        return singles, firsts, later


def _set(characters: set[str]) -> str:
    """A character class. Beyond U+FFFF it takes in everything: `re` would walk a list of ranges at every character."""
    basic = "".join(re.escape(char) for char in sorted(characters) if ord(char) < 0x10000)
    beyond = "\U00010000-\U0010ffff" if any(ord(char) >= 0x10000 for char in characters) else ""
    return f"[{basic}{beyond}]"


class Rules:
    """A set of rules to compile: a graph over characters whose nodes may be shared by several keys.

    edges: character -> (node with what may follow, or None, and the replacement when a rule ends there, or None).
    """

    def __init__(self) -> None:
        self.edges: dict[str, tuple[Rules | None, str | None]] = {}


def compile_rules(root: Rules) -> bytes:
    """The blob that `Charsmap` and sentencepiece read."""
    texts: dict[str, int] = {}
    replacements = bytearray()

    def position(text: str) -> int:
        if text not in texts:
            texts[text] = len(replacements)
            replacements.extend(text.encode("utf-8") + b"\0")
        return texts[text]

    # A state is what a block holds: its bytes, each with the state it leads to, and the value of a rule that ends there.
    states: list[tuple[dict[int, int], str | None]] = []

    def byte_edges(edges: Mapping[bytes, tuple[Rules | None, str | None]]) -> dict[int, int]:
        by_byte: dict[int, dict[bytes, tuple[Rules | None, str | None]]] = {}
        for rest, target in edges.items():
            by_byte.setdefault(rest[0], {})[rest[1:]] = target
        found = {}
        for byte, rests in by_byte.items():
            if b"" in rests:  # UTF-8 is prefix-free: a character that ends here is the only one
                found[byte] = state(*rests[b""])
            else:
                states.append((byte_edges(rests), None))
                found[byte] = len(states) - 1
        return found

    made: dict[tuple[int, str | None], int] = {}

    def state(rules: Rules | None, value: str | None) -> int:
        key = (id(rules), value)
        if key not in made:
            children = byte_edges({c.encode("utf-8"): t for c, t in rules.edges.items()}) if rules else {}
            states.append((children, value))
            made[key] = len(states) - 1
        return made[key]

    start = state(root, None)
    blocks = _place([[*children, *([0] if value is not None else [])] for children, value in states])
    units = [LEAF] * (-(-(max(blocks) + 256) // 256) * 256)
    for (children, value), block in zip(states, blocks):
        if value is not None:
            units[block] = LEAF | position(value)
        for byte, child in children.items():
            index = block ^ byte
            ends = HAS_VALUE if states[child][1] is not None else 0
            units[index] = (index ^ blocks[child]) << 10 | ends | byte
    units[0] = blocks[start] << 10
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + bytes(replacements)


def _place(wanted: list[list[int]]) -> list[int]:
    """A block for every state such that no two blocks, nor two of their children, share a unit.

    First fit for states with many bytes first; the many with one or two then fill the gaps.
    """
    taken = bytearray(1 << 18)
    taken[0] = 1  # the root
    used_blocks = {0}
    blocks = [0] * len(wanted)
    start: dict[int, int] = {}  # for each number of bytes, where the search goes on: before it, all was tried
    for state in sorted(range(len(wanted)), key=lambda s: -len(wanted[s])):
        labels = wanted[state] or [0]
        slot = start.get(len(labels), 0)
        while True:
            slot = taken.find(0, slot + 1)
            if slot < 0 or slot + 512 >= len(taken):
                raise ValueError("too many rules for one double array")
            block = slot ^ labels[0]
            if block not in used_blocks and not any(taken[block ^ byte] for byte in labels):
                break
        used_blocks.add(block)
        blocks[state] = block
        start[len(labels)] = slot - 1 if len(labels) > 4 else slot
        for byte in labels:
            taken[block ^ byte] = 1
    return blocks
