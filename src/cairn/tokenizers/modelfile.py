"""SentencePiece's `.model` files: a protocol buffer, read and written by hand.

A protocol buffer is a row of fields, each a varint (number << 3 | wire type) and its value: a varint (0), eight bytes (1),
a length and that many bytes (2), or four bytes (5). Fields that are not known are skipped by these rules. Such a file comes
from somebody else: sizes are bounded, lengths stay within the file, and what does not fit is a UserError with its place.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from cairn.core.errors import UserError
from cairn.core.files import write_bytes
from cairn.tokenizers.normalize import SentencePieceNormalizer

MAX_BYTES = 256 << 20
MAX_PIECES = 2_000_000
UNIGRAM, BPE = 1, 2  # TrainerSpec.model_type
OTHER_TYPES = {3: "word", 4: "character"}
# Field numbers of sentencepiece_model.proto.
PIECES, TRAINER, NORMALIZER, DENORMALIZER = 1, 2, 3, 5
TEXT, SCORE, TYPE = 1, 2, 3
MODEL_TYPE, VOCAB_SIZE, SUFFIX, BYTE_FALLBACK, UNK_SURFACE = 3, 4, 24, 35, 44
UNK_ID, BOS_ID, EOS_ID, PAD_ID = 40, 41, 42, 43
NAME, RULES, DUMMY_PREFIX, COLLAPSE, ESCAPE = 1, 2, 3, 4, 5


class PieceType(IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    text: str
    score: float = 0.0
    type: PieceType = PieceType.NORMAL


@dataclass(frozen=True)
class ModelFile:
    """What the file says. kind: UNIGRAM or BPE. unknown_text: what an unknown token is decoded to."""

    kind: int
    pieces: tuple[Piece, ...]
    normalizer: SentencePieceNormalizer
    byte_fallback: bool = False
    unknown_text: str = " \u2047 "


# --- reading


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise UserError(f"byte {at}: a number that does not end")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(field number, wire type, value of a varint, start, end of the content) for the message in data[at:end]."""
    while at < end:
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        value, start = 0, at
        if wire == 0:
            value, at = _varint(data, at, end)
        elif wire == 1:
            at += 8
        elif wire == 2:
            length, start = _varint(data, at, end)
            at = start + length
        elif wire == 5:
            at += 4
        else:
            raise UserError(f"byte {start}: wire type {wire} is not one of a .model file")
        if number == 0 or at > end:
            raise UserError(f"byte {start}: field {number} does not fit the file")
        yield number, wire, value, start, at


def _expect(wire: int, wanted: int, name: str, at: int) -> None:
    if wire != wanted:
        raise UserError(f"byte {at}: {name} has wire type {wire}, {wanted} is expected")


def _text(data: bytes, start: int, end: int, name: str) -> str:
    try:
        return data[start:end].decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"byte {start}: {name} is not UTF-8") from None


def _piece(data: bytes, at: int, end: int) -> Piece:
    text, score, type_ = "", 0.0, 1
    for number, wire, value, start, stop in _fields(data, at, end):
        if number == TEXT:
            _expect(wire, 2, "piece", start)
            text = _text(data, start, stop, "piece")
        elif number == SCORE:
            _expect(wire, 5, "score", start)
            (score,) = struct.unpack_from("<f", data, start)
        elif number == TYPE:
            _expect(wire, 0, "type", start)
            type_ = value
    if not text:
        raise UserError(f"byte {at}: a piece without text")
    if not math.isfinite(score):
        raise UserError(f"byte {at}: piece {text!r} has the score {score}")
    if not 1 <= type_ <= 6:
        raise UserError(f"byte {at}: piece {text!r} has the unknown type {type_}")
    return Piece(text, score, PieceType(type_))


def read_model(data: bytes) -> ModelFile:
    """The model in the bytes of a `.model` file. Raises UserError on anything that sentencepiece would not load either."""
    pieces: list[Piece] = []
    flags = {DUMMY_PREFIX: 1, COLLAPSE: 1, ESCAPE: 1}
    trainer = {MODEL_TYPE: UNIGRAM, BYTE_FALLBACK: 0, SUFFIX: 0}
    rules, unknown_text = b"", " \u2047 "
    for number, wire, _, start, end in _fields(data, 0, len(data)):
        if number in (PIECES, TRAINER, NORMALIZER, DENORMALIZER):
            _expect(wire, 2, "a part of the model", start)
        if number == PIECES:
            if len(pieces) >= MAX_PIECES:
                raise UserError(f"over {MAX_PIECES:,} pieces")
            pieces.append(_piece(data, start, end))
        elif number == TRAINER:
            for field, kind, value, at, stop in _fields(data, start, end):
                if field in trainer:
                    _expect(kind, 0, "a training setting", at)
                    trainer[field] = value
                elif field == UNK_SURFACE:
                    _expect(kind, 2, "unk_surface", at)
                    unknown_text = _text(data, at, stop, "unk_surface")
        elif number == NORMALIZER:
            for field, kind, value, at, stop in _fields(data, start, end):
                if field in flags:
                    _expect(kind, 0, "a normalisation setting", at)
                    flags[field] = value
                elif field == RULES:
                    _expect(kind, 2, "precompiled_charsmap", at)
                    rules = data[at:stop]
        elif number == DENORMALIZER:
            for field, _, _, at, stop in _fields(data, start, end):
                if field == RULES and stop > at:
                    raise UserError("a model with denormalisation rules is not supported")
    if trainer[MODEL_TYPE] not in (UNIGRAM, BPE):
        name = OTHER_TYPES.get(trainer[MODEL_TYPE], str(trainer[MODEL_TYPE]))
        raise UserError(f"model type {name!r} is not supported, only unigram and bpe are")
    if not flags[ESCAPE]:
        raise UserError("escape_whitespaces = false is not supported")
    protected = tuple(p.text for p in pieces if p.type == PieceType.USER_DEFINED)
    normalizer = SentencePieceNormalizer(
        rules, bool(flags[DUMMY_PREFIX]), bool(flags[COLLAPSE]), bool(trainer[SUFFIX]), protected
    )
    model = ModelFile(trainer[MODEL_TYPE], tuple(pieces), normalizer, bool(trainer[BYTE_FALLBACK]), unknown_text)
    check(model)
    return model


def check(model: ModelFile) -> None:
    """The rules that the pieces of a model keep: no doubles, one unknown token, all 256 bytes or none."""
    if len(model.pieces) > MAX_PIECES:
        raise UserError(f"over {MAX_PIECES:,} pieces")
    ordinary, reserved, bytes_ = set(), set(), set()
    unknown = 0
    for piece in model.pieces:
        known = ordinary if piece.type in (PieceType.NORMAL, PieceType.USER_DEFINED, PieceType.UNUSED) else reserved
        if piece.text in known:
            raise UserError(f"piece {piece.text!r} is there twice")
        known.add(piece.text)
        unknown += piece.type == PieceType.UNKNOWN
        if piece.type == PieceType.BYTE:
            bytes_.add(piece.text)
    if unknown != 1:
        raise UserError(f"{unknown} unknown tokens; a model has one")
    if bytes_ != ({byte_piece(b) for b in range(256)} if model.byte_fallback else set()):
        raise UserError("byte pieces must be all of <0x00> to <0xFF>, or none without byte_fallback")


def byte_piece(byte: int) -> str:
    return f"<0x{byte:02X}>"


def read_model_file(path: Path | str) -> ModelFile:
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB; that is no tokenizer")
        return read_model(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{path} is not a SentencePiece model that cairn reads: {error}") from None


# --- writing


def _key(number: int, wire: int) -> bytes:
    return _write_varint(number << 3 | wire)


def _write_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(number: int, value: int) -> bytes:
    return _key(number, 0) + _write_varint(value % (1 << 64))  # negative ids (-1: none) are written as 64 bits


def _content(number: int, content: bytes) -> bytes:
    return _key(number, 2) + _write_varint(len(content)) + content


def write_model(model: ModelFile) -> bytes:
    """The bytes of a `.model` file that sentencepiece loads. Unwritten settings are at its defaults."""
    check(model)
    ids = {piece.text: i for i, piece in enumerate(model.pieces) if piece.type == PieceType.CONTROL}
    unknown = next(i for i, piece in enumerate(model.pieces) if piece.type == PieceType.UNKNOWN)
    out = bytearray()
    for piece in model.pieces:
        content = _content(TEXT, piece.text.encode("utf-8")) + _key(SCORE, 5) + struct.pack("<f", piece.score)
        out += _content(PIECES, content + (_number(TYPE, piece.type) if piece.type != PieceType.NORMAL else b""))
    trainer = _number(MODEL_TYPE, model.kind) + _number(VOCAB_SIZE, len(model.pieces))
    trainer += _number(SUFFIX, model.normalizer.space_is_suffix) + _number(BYTE_FALLBACK, model.byte_fallback)
    trainer += _number(UNK_ID, unknown) + _content(UNK_SURFACE, model.unknown_text.encode("utf-8"))
    for number, name in ((BOS_ID, "<s>"), (EOS_ID, "</s>"), (PAD_ID, "<pad>")):
        trainer += _number(number, ids.get(name, -1))
    rules = model.normalizer.rules
    normalizer = _content(NAME, b"compiled" if rules else b"identity") + (_content(RULES, rules) if rules else b"")
    normalizer += _number(DUMMY_PREFIX, model.normalizer.dummy_prefix)
    normalizer += _number(COLLAPSE, model.normalizer.collapse_spaces) + _number(ESCAPE, 1)
    return bytes(out) + _content(TRAINER, trainer) + _content(NORMALIZER, normalizer)


def write_model_file(model: ModelFile, path: Path | str) -> None:
    write_bytes(path, write_model(model))
