"""What happens to a text before it is cut into pieces, and which character of the text each character of the result is from.

Two schools: SentencePiece (rules compiled into the model file, spaces kept as U+2581) and BERT (clean, space out CJK,
strip accents, lower-case). Both give a string, and on request a list with the place in the text of each character.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from cairn.tokenizers import unicode8
from cairn.tokenizers.charsmap import Charsmap, Rules, compile_rules

SPACE = "▁"  # U+2581, how SentencePiece writes a space in its pieces

# Neural machine translation's additions to NFKC in SentencePiece: what else is a space, and what is dropped. The zero-width
# joiner stays (emoji sequences are made with it), and so does the full-width tilde, which Japanese tells from the ASCII one.
NMT_SPACES = "\t\n\f\r\u061c\u1680\u200b\u200c\u200e\u200f\u2028\u2029\u2581\ufeff\ufffd"
NMT_DROPPED = "".join(map(chr, [*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F]))
SHORT = 500  # characters of texts that are worth joining
FULL_WIDTH_TILDE = "\uff5e"


def nmt_nfkc(text: str) -> str:
    """The rule by its definition. The compiled form (`nmt_nfkc_rules`) differs only where combining marks are stacked.

    >>> nmt_nfkc("ＣＡＦＥ\u0301\\t①")
    'CAFÉ 1'
    """
    table = str.maketrans(NMT_SPACES, " " * len(NMT_SPACES), NMT_DROPPED)
    kept = text.translate(table).split(FULL_WIDTH_TILDE)
    return FULL_WIDTH_TILDE.join(unicodedata.normalize("NFKC", part) for part in kept)


@functools.cache
def nmt_nfkc_rules() -> bytes:
    """nmt_nfkc compiled (`charsmap.py`), from this Python's Unicode tables.

    A key is a single character, or a sequence whose decomposition composes: "A" and an acute accent, but also a bold "A" and
    an acute accent. So characters with the same decomposition share what may follow them.
    """
    single: dict[str, str] = {}
    same: dict[str, list[str]] = {}  # a character in its NFKD form -> all that decompose to it alone
    sequences = set()
    for point in range(1, 0x110000):
        char = chr(point)
        if 0xD800 <= point < 0xE000:
            continue
        decomposed = unicodedata.normalize("NFKD", char)
        if len(decomposed) == 1:
            if decomposed != char:
                same.setdefault(decomposed, [decomposed]).append(char)
        else:
            sequences.add(decomposed)
        composed = unicodedata.normalize("NFKC", char)
        if composed != char:
            single[char] = composed
    single |= dict.fromkeys(NMT_SPACES, " ") | dict.fromkeys(NMT_DROPPED, "")
    del single[FULL_WIDTH_TILDE]

    root = Rules()
    root.edges = {char: (None, text) for char, text in single.items()}
    for sequence in sorted(sequences):
        composed = unicodedata.normalize("NFKC", sequence)
        if composed == sequence:
            continue
        node = root
        for index, char in enumerate(sequence):
            after, value = node.edges.get(char, (None, None))
            after = after or Rules()
            for variant in same.get(char, [char]):
                value = node.edges.get(variant, (None, None))[1]
                if index == len(sequence) - 1:
                    value = composed
                node.edges[variant] = (after, value)
            node = after
    return compile_rules(root)


@functools.lru_cache(maxsize=8)
def charsmap(blob: bytes) -> Charsmap:
    return Charsmap(blob)


@dataclass(frozen=True)
class SentencePieceNormalizer:
    """SentencePiece's NormalizerSpec. In the result a space stands as " ", not yet as U+2581.

    rules: the compiled character rules, empty for none. protected: user-defined symbols, which no rule touches.
    """

    rules: bytes = b""
    dummy_prefix: bool = True
    collapse_spaces: bool = True  # and trim them
    space_is_suffix: bool = False  # the dummy space goes to the end, and words end with their space
    protected: tuple[str, ...] = ()

    def __call__(self, text: str) -> str:
        return self.batch([text])[0]

    def batch(self, texts: Sequence[str]) -> list[str]:
        """Many short texts at the price of one: joined by NUL, which no rule touches, and taken apart again."""
        text = "\0".join(texts)
        if len(texts) > 1 and (len(text) > SHORT * len(texts) or text.count("\0") >= len(texts)):
            return [self(text) for text in texts]
        text = _without_surrogates(text)
        if self.protected:
            text = "".join(part for _, _, part in self._parts(text))
        elif self.rules:
            text = charsmap(self.rules).replace(text)
        text = text.replace(SPACE, " ")
        if self.collapse_spaces and "  " in text:
            simple = text.isascii() and self.rules and charsmap(self.rules).leaves_spaces_only
            text = " ".join(text.split()) if simple and not self.protected else _SPACES.sub(" ", text)
        parts = text.split("\0") if len(texts) > 1 else [text]
        if self.collapse_spaces:
            parts = [part.strip(" ") for part in parts]
        if self.dummy_prefix and self.space_is_suffix:
            return [part + " " if part else "" for part in parts]
        return [" " + part if part else "" for part in parts] if self.dummy_prefix else parts

    def aligned(self, text: str) -> tuple[str, list[int]]:
        """The same text, and for each of its characters and for its end the place in `text` it comes from."""
        chars: list[str] = []
        places: list[int] = []
        end = 0
        first = -1  # where the dummy space comes from: behind the spaces that are trimmed
        for start, stop, part in self._parts(_without_surrogates(text)):
            end = stop
            if first < 0 and not (self.collapse_spaces and part == " "):
                first = start
            for char in part.replace(SPACE, " "):
                if char == " " and self.collapse_spaces and (not chars or chars[-1] == " "):
                    continue
                chars.append(char)
                places.append(start)
        if self.collapse_spaces and chars and chars[-1] == " ":
            end = places.pop()
            chars.pop()
        if not text or (self.collapse_spaces and not chars):
            return "", [0]
        if self.dummy_prefix and self.space_is_suffix:
            chars.append(" ")
            places.append(end)
        elif self.dummy_prefix:
            chars.insert(0, " ")
            places.insert(0, first)
        return "".join(chars), [*places, end]

    def _parts(self, text: str) -> list[tuple[int, int, str]]:
        """(start, end, what stands for it) of each stretch of `text` that the rules treat as one."""
        found = []
        place = 0
        pieces = _protection(self.protected).split(text) if self.protected else [text]
        for index, piece in enumerate(pieces):
            if index % 2:
                steps = [(len(piece), piece)]
            else:
                steps = charsmap(self.rules).parts(piece) if self.rules else [(1, char) for char in piece]
            for length, part in steps:
                found.append((place, place + length, part))
                place += length
        return found


_SPACES = re.compile(" {2,}")
_SURROGATES = re.compile("[\ud800-\udfff]")


def _without_surrogates(text: str) -> str:
    """Lone surrogates are no characters; they become U+FFFD, as bytes that are not UTF-8 do in SentencePiece."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


@functools.lru_cache(maxsize=8)
def _protection(symbols: tuple[str, ...]) -> re.Pattern:
    return re.compile("(" + "|".join(re.escape(s) for s in sorted(symbols, key=len, reverse=True)) + ")")


# --- BERT

# Spaces by Unicode's White_Space property; Python's str.isspace also counts U+001C to U+001F.
WHITE_SPACE = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
)
CJK = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F))
CJK += ((0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))


@dataclass(frozen=True)
class BertNormalizer:
    """The four steps of `tokenizers.normalizers.BertNormalizer`. strip_accents None: as `lowercase` says."""

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def __call__(self, text: str) -> str:
        return "".join(char for char, _ in self.aligned(text))

    def aligned(self, text: str) -> list[tuple[str, int]]:
        """(character, place in `text` it comes from). A space that is put in has the place of the character it belongs to."""
        pairs = list(zip(text, range(len(text))))
        if self.clean_text:
            dropped = unicode8.other()  # without \t, \n and \r
            pairs = [(" " if c in WHITE_SPACE else c, i) for c, i in pairs if c not in dropped]
        if self.handle_chinese_chars:
            pairs = [(p, i) for c, i in pairs for p in (f" {c} " if _is_cjk(ord(c)) else c)]
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            marks = unicode8.marks()
            pairs = [(c, i) for c, i in _decompose(pairs) if c not in marks]
        if self.lowercase:
            pairs = [(p, i) for c, i in pairs for p in c.lower()]
        return pairs


def _is_cjk(point: int) -> bool:
    return point >= 0x3400 and any(low <= point <= high for low, high in CJK)


def _decompose(pairs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """NFD that remembers places: decompose each character, then sort each run of combining marks by its class."""
    split = [(p, i) for c, i in pairs for p in (c if c.isascii() else unicodedata.normalize("NFD", c))]
    start = 0
    while start < len(split):
        end = start
        while end < len(split) and unicodedata.combining(split[end][0]):
            end += 1
        if end - start > 1:
            split[start:end] = sorted(split[start:end], key=lambda pair: unicodedata.combining(pair[0]))
        start = max(end, start + 1)
    return split
