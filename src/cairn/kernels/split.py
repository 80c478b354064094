"""The published split patterns as hand-written scanners over UTF-8 bytes.

Each scanner answers one question: the chunk that starts at byte `i`, where does it end? It follows the alternatives of
its regular expression in their order; where the expression would step back, the place it would step back to is known.
Bytes that are not UTF-8 count as one character of class OTHER each. Plain twin: `cairn.tokenizers.pretokenize.split`.
"""

from cairn.kernels.jit import inlined, kernel

# Classes of `cairn.tokenizers.unicode`, and sets of them as bit masks.
OTHER, UPPER, LOWER, LETTER, MARK, NUMBER, SPACE, NEWLINE = range(8)
LETTERS = 1 << UPPER | 1 << LOWER | 1 << LETTER
NUMBERS = 1 << NUMBER
SPACES = 1 << SPACE | 1 << NEWLINE
NEWLINES = 1 << NEWLINE
SIGNS = 1 << OTHER | 1 << MARK  # [^\s\p{L}\p{N}]
CAPITALS = 1 << UPPER | 1 << LETTER | 1 << MARK  # [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
SMALLS = 1 << LOWER | 1 << LETTER | 1 << MARK  # [\p{Ll}\p{Lm}\p{Lo}\p{M}]

GPT2, CL100K, O200K = range(3)  # scanners
APOSTROPHE = 0x27


@kernel
def wide_char(data, i, blocks, classes):
    """(class, length in bytes) of the character of several bytes at byte i."""
    b = data[i]
    left = len(data) - i
    if 0xC2 <= b < 0xE0 and left > 1 and data[i + 1] & 0xC0 == 0x80:
        code = (b & 0x1F) << 6 | (data[i + 1] & 0x3F)
        return classes[blocks[code >> 8] + (code & 0xFF)], 2
    if 0xE0 <= b < 0xF0 and left > 2 and data[i + 1] & 0xC0 == 0x80 and data[i + 2] & 0xC0 == 0x80:
        code = (b & 0x0F) << 12 | (data[i + 1] & 0x3F) << 6 | (data[i + 2] & 0x3F)
        if code >= 0x800:
            return classes[blocks[code >> 8] + (code & 0xFF)], 3
    elif 0xF0 <= b < 0xF5 and left > 3 and data[i + 1] & 0xC0 == 0x80 and data[i + 2] & 0xC0 == 0x80:
        code = (b & 0x07) << 18 | (data[i + 1] & 0x3F) << 12 | (data[i + 2] & 0x3F) << 6 | (data[i + 3] & 0x3F)
        if data[i + 3] & 0xC0 == 0x80 and 0x10000 <= code < 0x110000:
            return classes[blocks[code >> 8] + (code & 0xFF)], 4
    return classes[0], 1  # NUL is OTHER


@inlined
def char_at(data, i, blocks, classes):
    """(class, length in bytes) of the character at byte i. data: uint8 (N,); blocks, classes: `unicode.two_stage()`."""
    if data[i] < 0x80:
        return classes[data[i]], 1
    return wide_char(data, i, blocks, classes)


@inlined
def run_end(data, i, mask, blocks, classes):
    """End of the run of characters from byte i whose class is in `mask`."""
    n = len(data)
    while i < n:
        if data[i] < 0x80:  # as `char_at`, but a step of a known length does not wait for the class
            if not mask >> classes[data[i]] & 1:
                break
            i += 1
        else:
            kind, length = wide_char(data, i, blocks, classes)
            if not mask >> kind & 1:
                break
            i += length
    return i


@inlined
def contraction(data, i, ignore_case):
    """Length of 's 't 'd 'm 'll 've 're at byte i, or 0. Without case, U+017F (long s) is an s."""
    left = len(data) - i
    if left < 2 or data[i] != APOSTROPHE:
        return 0
    case = 0x20 if ignore_case else 0
    first = data[i + 1] | case
    if first == 0x73 or first == 0x74 or first == 0x64 or first == 0x6D:  # s t d m
        return 2
    if left > 2:
        second = data[i + 2] | case
        if first == 0x6C and second == 0x6C:  # ll
            return 3
        if (first == 0x76 or first == 0x72) and second == 0x65:  # ve re
            return 3
        if ignore_case and data[i + 1] == 0xC5 and data[i + 2] == 0xBF:
            return 3
    return 0


@inlined
def digits_end(data, i, most, blocks, classes):
    """`\\p{N}{1,most}` from byte i."""
    n, count = len(data), 0
    while i < n and count < most:
        kind, length = char_at(data, i, blocks, classes)
        if kind != NUMBER:
            break
        i += length
        count += 1
    return i


@inlined
def space_end(data, i, newlines, trailing, blocks, classes):
    """`\\s*[\\r\\n]+` (if newlines), then `\\s+(?!\\S)|\\s+`; with `trailing`, `\\s++$` comes before both."""
    n = len(data)
    j, last, after_newline = i, i, 0
    while j < n:
        kind, length = char_at(data, j, blocks, classes)
        if not SPACES >> kind & 1:
            break
        last = j
        j += length
        if kind == NEWLINE:
            after_newline = j
    if trailing and j == n:
        return j
    if newlines and after_newline:
        return after_newline
    # A word takes the one space before it, so the last of several is left to it.
    return j if j == n or last == i else last


@inlined
def gpt2_end(data, i, blocks, classes):
    """`'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+`"""
    if data[i] == APOSTROPHE:
        k = contraction(data, i, False)
        if k:
            return i + k
    j = i + 1 if data[i] == 0x20 else i
    if j < len(data):
        kind, length = char_at(data, j, blocks, classes)
        if LETTERS >> kind & 1:
            return run_end(data, j + length, LETTERS, blocks, classes)
        if kind == NUMBER:
            return run_end(data, j + length, NUMBERS, blocks, classes)
        if SIGNS >> kind & 1:
            return run_end(data, j + length, SIGNS, blocks, classes)
    return space_end(data, i, False, False, blocks, classes)


@inlined
def cl100k_end(data, i, most_digits, trailing, blocks, classes):
    """cl100k, Llama 3 (three digits) and Qwen 2 (one): contractions, `[^\\r\\n\\p{L}\\p{N}]?\\p{L}+`, digits, signs, spaces."""
    n = len(data)
    if data[i] == APOSTROPHE:
        k = contraction(data, i, True)
        if k:
            return i + k
    kind, length = char_at(data, i, blocks, classes)
    if LETTERS >> kind & 1:
        return run_end(data, i + length, LETTERS, blocks, classes)
    if kind == NUMBER:
        return digits_end(data, i, most_digits, blocks, classes)
    j = i + length
    if kind != NEWLINE and j < n:
        following, width = char_at(data, j, blocks, classes)
        if LETTERS >> following & 1:
            return run_end(data, j + width, LETTERS, blocks, classes)
        if data[i] == 0x20 and SIGNS >> following & 1:
            return run_end(data, run_end(data, j + width, SIGNS, blocks, classes), NEWLINES, blocks, classes)
    if SIGNS >> kind & 1:
        return run_end(data, run_end(data, j, SIGNS, blocks, classes), NEWLINES, blocks, classes)
    return space_end(data, i, True, trailing, blocks, classes)


@inlined
def cased_word_end(data, i, blocks, classes):
    """`[CAPITALS]*[SMALLS]+`, and if that fails `[CAPITALS]+[SMALLS]*`, from byte i; i itself when neither matches.

    The capitals are taken greedily. When no small letter follows, the expression gives characters back until one of them
    (a letter without case, a mark) counts as small too; if none does, capitals alone are the word.
    """
    n = len(data)
    j, last_small = i, -1
    while j < n:
        kind, length = char_at(data, j, blocks, classes)
        if not CAPITALS >> kind & 1:
            break
        j += length
        if kind != UPPER:
            last_small = j
    end = run_end(data, j, SMALLS, blocks, classes)
    if end > j:
        return end
    return last_small if last_small >= 0 else j


@inlined
def o200k_end(data, i, blocks, classes):
    """o200k: words by case with the sign before and the contraction behind them, digits by three, signs, spaces."""
    n = len(data)
    kind, length = char_at(data, i, blocks, classes)
    end = i
    if kind != NEWLINE and kind != NUMBER:
        if not LETTERS >> kind & 1 and i + length < n:
            # The sign in front may be a mark, which could also begin the word. With it in front, `[CAPITALS]*[SMALLS]+`
            # must match behind it, or the same expression is tried with the mark inside, before capitals alone.
            end = cased_word_end(data, i + length, blocks, classes)
            if end == i + length or (kind == MARK and capitals_only(data, i + length, end, blocks, classes)):
                end = i
        if end == i and (CAPITALS | SMALLS) >> kind & 1:
            end = cased_word_end(data, i, blocks, classes)
    if end > i:
        return end + contraction(data, end, True)
    if kind == NUMBER:
        return digits_end(data, i, 3, blocks, classes)
    j = i + 1 if data[i] == 0x20 else i
    if j < n:
        following, width = char_at(data, j, blocks, classes)
        if SIGNS >> following & 1:
            j = run_end(data, j + width, SIGNS, blocks, classes)
            while j < n and (data[j] == 0x0A or data[j] == 0x0D or data[j] == 0x2F):
                j += 1
            return j
    return space_end(data, i, True, False, blocks, classes)


@kernel
def capitals_only(data, i, end, blocks, classes):
    """Whether the characters from byte i to `end` are all of class UPPER."""
    while i < end:
        kind, length = char_at(data, i, blocks, classes)
        if kind != UPPER:
            return False
        i += length
    return True


@kernel
def split_ends(data, start, ends, scanner, most_digits, trailing, blocks, classes):
    """Fill `ends` (int64) with the ends of the chunks from byte `start` on; returns (how many, where to go on)."""
    n, count, i = len(data), 0, start
    while i < n and count < len(ends):
        if scanner == GPT2:
            i = gpt2_end(data, i, blocks, classes)
        elif scanner == CL100K:
            i = cl100k_end(data, i, most_digits, trailing, blocks, classes)
        else:
            i = o200k_end(data, i, blocks, classes)
        ends[count] = i
        count += 1
    return count, i
