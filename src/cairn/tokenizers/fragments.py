"""Before training: the distinct fragments of a corpus and how often each occurs.

SentencePiece lets no piece cross a space (it stands only at a piece's start) or join two scripts: "foo_bar(1)" is "foo", "_",
"bar", "(", "1", ")". So a corpus is the same to its trainers as the list of its fragments with their counts, and that list
is small and stays in memory while the text streams by.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import regex

from cairn.core.batching import batches
from cairn.core.errors import UserError
from cairn.tokenizers.normalize import SentencePieceNormalizer

# Unicode's scripts. Hiragana and Katakana count as Han; Inherited takes the script before it.
SCRIPTS = """Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo
Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic
Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic
Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran
Hebrew Imperial_Aramaic Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Kayah_Li Kharoshthi
Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar
Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive
Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nandinagari New_Tai_Lue Newa Nko Nushu
Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian
Old_South_Arabian Old_Turkic Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi
Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese
Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta
Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square""".split()
PROLONGED_SOUND = "\u30fc"  # belongs to Katakana, but is written with Hiragana too: Common in Unicode, Han here
BATCH = 1 << 22  # characters that are counted at a time


@functools.cache
def _script_pattern() -> regex.Pattern:
    return regex.compile("|".join(rf"(\p{{Script={name}}})" for name in SCRIPTS))


@functools.cache
def script(char: str) -> int:
    """The number of its script; 0 for the space and for Inherited, which go with every other."""
    if char == " " or regex.match(r"\p{Script=Inherited}", char):
        return 0
    if char == PROLONGED_SOUND or regex.match(r"[\p{Script=Hiragana}\p{Script=Katakana}]", char):
        char = "漢"
    match = _script_pattern().match(char)
    return match.lastindex or 0 if match else SCRIPTS.index("Common") + 1


def cut(text: str) -> list[str]:
    """The fragments of a normalised text. NUL, which no piece may hold, ends one and is dropped.

    >>> cut(" Hello world2, naïve")
    [' Hello', ' world', '2,', ' naïve']
    """
    found, start, before = [], 0, 0
    for i, char in enumerate(text):
        here = script(char)
        if i > start and (char in " \0" or text[i - 1] == "\0" or (here and before and here != before)):
            found.append(text[start:i])
            start = i
        before = here or (before if i > start else 0)
    return [fragment for fragment in [*found, text[start:]] if fragment not in ("", "\0")]


@dataclass
class Fragments:
    """Distinct fragments one after the other in `points` (code points), number i from offsets[i] to offsets[i + 1]."""

    points: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray
    characters: dict[str, int]

    def __len__(self) -> int:
        return len(self.counts)

    def texts(self) -> list[str]:
        text = self.points.astype(np.uint32).tobytes().decode("utf-32-le")
        return [text[a:b] for a, b in zip(self.offsets, self.offsets[1:])]


def count_fragments(
    texts: Iterable[str], normalizer: SentencePieceNormalizer, reserved: Iterable[str] = ()
) -> Fragments:
    """Normalises the texts, one after the other, and counts their fragments. Raises UserError when there is nothing.

    reserved: names of tokens like "<unk>"; where a text holds one, it ends the fragment and is not counted.
    """
    from cairn.kernels import fragments as kernels

    scripts = np.zeros(0x110000, np.int16)
    seen = np.zeros(0x110000, np.int64)
    table = (
        np.zeros(1 << 16, np.uint32),
        np.zeros(1 << 12, np.int64),
        np.zeros(1 << 12, np.int64),
        np.full(1 << 13, -1, np.int32),
        0,
    )
    names = regex.compile("|".join(map(regex.escape, reserved)) or "(?!)")
    for text in map("\0".join, batches(map(normalizer, texts), BATCH)):  # small texts joined, with NUL between them
        text = names.sub("\0", text)
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        new = seen == 0  # whose script is still to look up
        kernels.count_characters(points, seen)
        for point in np.flatnonzero(new & (seen > 0)).tolist():
            scripts[point] = script(chr(point))
        table = kernels.add(points, scripts, 1, *table)
    seen[0] = 0
    chars, offsets, counts, _, entries = table
    if not entries:
        raise UserError("there is no text to train a tokenizer on")
    characters = {chr(point): int(seen[point]) for point in np.flatnonzero(seen).tolist()}
    return Fragments(chars[: offsets[entries]], offsets[: entries + 1], counts[:entries], characters)


def required_characters(characters: dict[str, int], coverage: float) -> dict[str, int]:
    """The most frequent characters, until they make up `coverage` of the text; of equally frequent ones the smallest."""
    total = sum(characters.values())
    kept: dict[str, int] = {}
    covered = 0
    for char, count in sorted(characters.items(), key=lambda item: (-item[1], item[0])):
        if np.float32(covered / total) >= np.float32(coverage):
            break
        covered += count
        kept[char] = count
    return kept
