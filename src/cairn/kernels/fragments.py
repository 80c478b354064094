"""Counting the distinct fragments of a text: stretches that no piece may cross, between spaces, scripts and NULs.

Plain twin: `cairn.tokenizers.fragments.cut`. Text comes as code points. The table of what was seen grows as it must:
`chars` holds all distinct fragments one after the other, entry i from offsets[i] to offsets[i + 1], and `slots` their numbers.
"""

import numpy as np

from cairn.kernels.jit import kernel

ANY = 0  # script of characters that go with every other


@kernel
def count_characters(points, counts):
    for i in range(len(points)):
        counts[points[i]] += 1


@kernel
def _breaks(points, i, script, before):
    """Whether a fragment starts at i > 0. before: script of the fragment so far."""
    if points[i] == 0x20 or points[i] == 0 or points[i - 1] == 0:
        return True
    here = script[points[i]]
    return here != ANY and before != ANY and here != before


@kernel
def _hash(points, start, end):
    value = np.uint64(0xCBF29CE484222325)
    for i in range(start, end):
        value = (value ^ np.uint64(points[i])) * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(29)
    return value


@kernel
def add(points, script, weight, chars, offsets, counts, slots, entries):
    """Counts the fragments of `points`, each `weight` times. Returns the table, made anew where it was too small.

    script: for each code point, ANY or the number of its script; characters that take the script before them are ANY.
    """
    size = len(points)
    start = 0
    before = ANY
    for i in range(1, size + 1):
        if i - 1 == start:
            before = ANY if points[start] == 0x20 else script[points[start]]
        if i < size and not _breaks(points, i, script, before):
            if script[points[i]] != ANY:
                before = script[points[i]]
            continue
        if points[start] == 0:
            start = i
            continue
        slot = np.int64(_hash(points, start, i) & np.uint64(len(slots) - 1))
        entry = -1
        while slots[slot] >= 0:
            known = slots[slot]
            if offsets[known + 1] - offsets[known] == i - start:
                same = True
                for k in range(i - start):
                    if chars[offsets[known] + k] != points[start + k]:
                        same = False
                        break
                if same:
                    entry = known
                    break
            slot = (slot + 1) & (len(slots) - 1)
        if entry < 0:
            entry = entries
            entries += 1
            slots[slot] = entry
            end = offsets[entry] + i - start
            while end > len(chars):
                chars = np.concatenate((chars, np.zeros_like(chars)))
            if entry + 2 >= len(offsets):
                offsets = np.concatenate((offsets, np.zeros_like(offsets)))
                counts = np.concatenate((counts, np.zeros_like(counts)))
            chars[offsets[entry] : end] = points[start:i]
            offsets[entry + 1] = end
            counts[entry] = 0
            if 2 * entries > len(slots):
                slots = np.full(2 * len(slots), -1, np.int32)
                for known in range(entries):
                    place = _hash(chars, offsets[known], offsets[known + 1]) & np.uint64(len(slots) - 1)
                    slot = np.int64(place)
                    while slots[slot] >= 0:
                        slot = (slot + 1) & (len(slots) - 1)
                    slots[slot] = known
        counts[entry] += weight
        start = i
    return chars, offsets, counts, slots, entries
