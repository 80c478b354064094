"""Text to numbers of its words, new words entered in a table on the way. Twin: `str.split` and a dict.

The table is that of `cairn.kernels.chunks`: what is said there of its arrays holds here.
"""

import numpy as np

from cairn.kernels.chunks import chunk_key, find_chunk
from cairn.kernels.jit import inlined, kernel

END_OF_SENTENCE = -1


@inlined
def space_at(data, at, end):
    """Bytes of the white space that begins at `at`, 0 where none does: the characters at which `str.split` cuts."""
    first = data[at]
    if first < 0x80:
        return 1 if first == 0x20 or 0x09 <= first <= 0x0D or 0x1C <= first <= 0x1F else 0
    if first == 0xC2:  # next line, no-break space
        return 2 if at + 1 < end and (data[at + 1] == 0x85 or data[at + 1] == 0xA0) else 0
    if at + 2 >= end:
        return 0
    second, third = data[at + 1], data[at + 2]
    if first == 0xE1:  # Ogham space
        return 3 if second == 0x9A and third == 0x80 else 0
    if first == 0xE2 and second == 0x80:  # U+2000 to 200A, line and paragraph separator, narrow no-break space
        return 3 if third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF else 0
    if first == 0xE2:  # mathematical space
        return 3 if second == 0x81 and third == 0x9F else 0
    return 3 if first == 0xE3 and second == 0x80 and third == 0x80 else 0  # ideographic space


@kernel
def number_words(data, at, end, limit, longest, sentence, slots, entries, bytes_, starts, counts, used, ids):
    """Write the entry of every word of data[at:end] (uint8, UTF-8), and END_OF_SENTENCE after each line.

    limit: entries at most; a word beyond them gets this number. longest: words after which a sentence is ended also
    without a line end. sentence: words of the sentence so far, from an earlier call. ids: int32. Returns (ids written,
    where to go on, words of the sentence so far, words beyond the limit, bytes of the word for which the table must grow
    first). To go on before `end` without such bytes means that `ids` is full.
    """
    written = ignored = 0
    while at < end and written + 2 <= len(ids):
        width = space_at(data, at, end)
        if width:
            if data[at] == 0x0A and sentence:
                ids[written] = END_OF_SENTENCE
                written += 1
                sentence = 0
            at += width
            continue
        start = at
        while at < end:
            # Letters of ASCII first: most bytes are.
            if data[at] > 0x20 and data[at] < 0x80:
                at += 1
            elif space_at(data, at, end):
                break
            else:
                at += 1
        key = chunk_key(data, start, at)
        slot = find_chunk(data, start, at, key, slots, entries, bytes_, starts)
        entry = entries[slot] if slots[slot] != 0 else np.int64(used[0])
        if slots[slot] == 0 and entry < limit:
            first = starts[entry]
            if entry + 2 > len(starts) or 2 * (entry + 1) > len(slots) or first + at - start > len(bytes_):
                return written, start, sentence, ignored, at - start
            bytes_[first : first + at - start] = data[start:at]
            slots[slot], entries[slot] = key, entry
            starts[entry + 1] = first + at - start
            counts[entry] = 0
            used[0] = entry + 1
        if entry < limit:
            counts[entry] += 1
        else:
            ignored += 1
        ids[written] = entry
        written += 1
        sentence += 1
        if sentence == longest:
            ids[written] = END_OF_SENTENCE
            written += 1
            sentence = 0
    return written, at, sentence, ignored, 0
