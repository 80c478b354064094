"""Text to normalised words in one pass over UTF-8 bytes: what near-duplicate detection compares.

The rule for every character is looked up in a table that `cairn.corpus.dedup.words` makes; its `simplify` is the twin.
"""

import numpy as np

from cairn.kernels.jit import kernel

# What the table says of a code point: the lower 21 bits are the code point to write instead, or
MANY = 1 << 24  # the lower 21 bits are a place in `extra`: a count, then so many code points
DROP = 2 << 24  # a mark: nothing is written
DIGIT = 3 << 24
KIND = 7 << 24
SEPARATOR = 1 << 28  # may stand between the digits of one number; set beside any of the others
CODE = (1 << 21) - 1
SPACE = 0x20

VARIATION_SELECTORS = (0xE0100, 0xE01EF)  # the only marks beyond the end of the table


@kernel
def _decode(data, at):
    """(code point, bytes) of the character at `at`. The bytes are UTF-8, surrogates included: Python encoded them."""
    first = np.uint32(data[at])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return (first & np.uint32(0x1F)) << np.uint32(6) | (np.uint32(data[at + 1]) & np.uint32(0x3F)), 2
    code = first & np.uint32(0x0F if first < 0xF0 else 0x07)
    length = 3 if first < 0xF0 else 4
    for k in range(1, length):
        code = code << np.uint32(6) | (np.uint32(data[at + k]) & np.uint32(0x3F))
    return code, length


@kernel
def _encode(code, out, at):
    """Write one code point as UTF-8 and return where the next one goes."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | code >> 6
        out[at + 1] = 0x80 | code & 0x3F
        return at + 2
    if code < 0x10000:
        out[at] = 0xE0 | code >> 12
        out[at + 1] = 0x80 | code >> 6 & 0x3F
        out[at + 2] = 0x80 | code & 0x3F
        return at + 3
    out[at] = 0xF0 | code >> 18
    out[at + 1] = 0x80 | code >> 12 & 0x3F
    out[at + 2] = 0x80 | code >> 6 & 0x3F
    out[at + 3] = 0x80 | code & 0x3F
    return at + 4


@kernel
def _rule(code, table):
    if code < len(table):
        return np.int64(table[code])
    return np.int64(DROP) if VARIATION_SELECTORS[0] <= code <= VARIATION_SELECTORS[1] else np.int64(code)


@kernel
def _skip_digits(data, at, end, table):
    while at < end:
        code, length = _decode(data, at)
        if _rule(code, table) & KIND != DIGIT:
            break
        at += length
    return at


@kernel
def _skip_number(data, at, end, table):
    """The end of a number that has a digit at `at`: digits, and once a separator followed by more of them."""
    at = _skip_digits(data, at, end, table)
    if at < end:
        code, length = _decode(data, at)
        if _rule(code, table) & SEPARATOR:
            after = _skip_digits(data, at + length, end, table)
            if after > at + length:
                return after
    return at


@kernel
def normalised_words(data, text_ends, table, extra, out, word_starts, first_words):
    """Write the normalised words of every text, each followed by one space.

    data, text_ends: the texts' UTF-8 one after the other, and where each ends. table, extra: see the module's text.
    out: uint8, three times as long as data and one more suffice. word_starts[i]: where word i begins, with one entry
    more for the end (so word i is out[word_starts[i]:word_starts[i + 1] - 1]); half of data's length and two suffice.
    first_words[t]: number of text t's first word, again with one entry more. Returns (words, bytes written).
    """
    words, to, at = 0, 0, 0
    for t in range(len(text_ends)):
        first_words[t] = words
        inside = False
        end = text_ends[t]
        while at < end:
            code, length = _decode(data, at)
            rule = _rule(code, table)
            kind = rule & KIND
            at += length
            if kind == DROP:
                continue
            if kind == 0 and rule & CODE == SPACE:
                if inside:
                    out[to] = SPACE
                    to += 1
                    inside = False
                continue
            if not inside:
                word_starts[words] = to
                words += 1
                inside = True
            if kind == 0:
                to = _encode(rule & CODE, out, to)
            elif kind == DIGIT:
                to = _encode(np.int64(48), out, to)
                at = _skip_number(data, at - length, end, table)
            else:
                place = rule & CODE
                for k in range(extra[place]):
                    to = _encode(np.int64(extra[place + 1 + k]), out, to)
        if inside:
            out[to] = SPACE
            to += 1
    first_words[len(text_ends)] = words
    word_starts[words] = to
    return words, to


@kernel
def shingle_spans(word_starts, first_words, size, starts, ends, first_shingles):
    """Spans of `size` consecutive words; a text of fewer words is one shingle, a text without words none.

    starts, ends: int64, room for one entry a word. first_shingles[t]: number of text t's first shingle, with one entry
    more. Returns the number of shingles.
    """
    count = 0
    for t in range(len(first_words) - 1):
        first_shingles[t] = count
        first, last = first_words[t], first_words[t + 1]
        if last > first:
            for word in range(first, max(last - size, first) + 1):
                starts[count] = word_starts[word]
                ends[count] = word_starts[min(word + size, last)] - 1
                count += 1
    first_shingles[len(first_words) - 1] = count
    return count
