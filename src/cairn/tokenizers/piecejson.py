"""The parts of a Hugging Face tokenizer.json around a SentencePiece model: normaliser, pre-tokeniser, decoder."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from cairn.core.errors import UserError
from cairn.tokenizers.modelfile import Piece, PieceType, byte_piece
from cairn.tokenizers.normalize import SPACE, SentencePieceNormalizer

# Regular expressions of Oniguruma, as `tokenizers` reads them.
TRIM = {"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""}
COLLAPSE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
PREPEND = {"type": "Prepend", "prepend": SPACE}
ESCAPE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
# transformers' converter of Unigram models: what collapses and trims, in two steps and a pre-tokeniser.
CONVERTED = [
    {"type": "Strip", "strip_left": False, "strip_right": True},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE},
]


def _metaspace(scheme: str) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": True}


def write(normalizer: SentencePieceNormalizer, fallback: bool, model: dict[str, Any], *, split: bool) -> dict[str, Any]:
    """The parts of tokenizer.json. split: words are cut before the model sees them (Unigram)."""
    if normalizer.space_is_suffix:
        raise UserError("a model with spaces as suffixes cannot be written as tokenizer.json")
    rules = base64.b64encode(normalizer.rules).decode("ascii")
    steps: list[dict[str, Any]] = [{"type": "Precompiled", "precompiled_charsmap": rules}] if rules else []
    steps += [TRIM, COLLAPSE] if normalizer.collapse_spaces else []
    steps += [PREPEND] if normalizer.dummy_prefix else []
    decoders: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    decoders += [{"type": "ByteFallback"}] if fallback else []
    decoders += [{"type": "Fuse"}]
    if normalizer.dummy_prefix or normalizer.collapse_spaces:
        decoders += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*steps, ESCAPE]},
        "pre_tokenizer": _metaspace("never") if split else None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }


def read_normalizer(data: dict[str, Any], pieces: Sequence[Piece], *, split: bool) -> SentencePieceNormalizer:
    """Back from the forms that `write` and transformers write. Anything else is refused by name, never ignored."""
    value = data.get("normalizer")
    steps = list(value["normalizers"]) if value and value["type"] == "Sequence" else [value] if value else []
    rules = b""
    if steps and steps[0]["type"] == "Precompiled":
        try:
            rules = base64.b64decode(steps.pop(0)["precompiled_charsmap"] or "", validate=True)
        except (binascii.Error, ValueError):
            raise UserError("normalizer Precompiled: its rules are not base64") from None
    before = data.get("pre_tokenizer")
    protected = tuple(piece.text for piece in pieces if piece.type == PieceType.USER_DEFINED)
    if steps == CONVERTED and split and before in (_metaspace("always"), _metaspace("first")):
        return SentencePieceNormalizer(rules, True, True, protected=protected)
    collapse = steps[:2] == [TRIM, COLLAPSE]
    steps = steps[2:] if collapse else steps
    prefix = steps[:1] == [PREPEND]
    steps = steps[1:] if prefix else steps
    if steps != [ESCAPE]:
        name = steps[0].get("type") if steps else None
        raise UserError(
            f"normalizer step {name!r} in this place is not supported; known: the forms of SentencePiece models"
        )
    if before != (_metaspace("never") if split else None):
        raise UserError(f"pre_tokenizer {before and before.get('type')!r} does not go with this normalizer")
    return SentencePieceNormalizer(rules, prefix, collapse, protected=protected)


def refuse(table: dict[str, Any], known: set[str], where: str) -> None:
    """Settings that would change the ids and that are not understood."""
    for key, value in table.items():
        if key not in known and value:
            raise UserError(f"{where}.{key} = {str(value)[:60]!r} is not supported")


def typed_pieces(
    texts: list[tuple[str, float]], unknown: int, byte_fallback: bool, added: list[dict[str, Any]]
) -> list[Piece]:
    """Pieces with their types, which tokenizer.json does not hold: from the added tokens and the names of bytes."""
    special = {token["content"]: bool(token.get("special")) for token in added}
    bytes_ = {byte_piece(b) for b in range(256)} if byte_fallback else set()
    pieces = []
    for i, (text, score) in enumerate(texts):
        kind = PieceType.NORMAL
        if i == unknown:
            kind = PieceType.UNKNOWN
        elif text in special:
            kind = PieceType.CONTROL if special[text] else PieceType.USER_DEFINED
        elif text in bytes_:
            kind = PieceType.BYTE
        pieces.append(Piece(text, score, kind))
    return pieces
