"""Hashes of many pieces of one byte string: xxHash64 and SHA-1, for the shingles of MinHash.

Shingles overlap and are ten a line of text, so a Python call for each costs more than the hash. Here piece i is
`data[starts[i]:ends[i]]` and all pieces are hashed in one call. Twins: `xxhash.xxh64_intdigest`, `hashlib.sha1`.

xxHash64: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md (seed 0). SHA-1: FIPS 180-4, section 6.1.
"""

import numpy as np
from numba import uint32, uint64

from cairn.kernels.jit import kernel

PRIME1 = np.uint64(0x9E3779B185EBCA87)
PRIME2 = np.uint64(0xC2B2AE3D27D4EB4F)
PRIME3 = np.uint64(0x165667B19E3779F9)
PRIME4 = np.uint64(0x85EBCA77C2B2AE63)
PRIME5 = np.uint64(0x27D4EB2F165667C5)


@kernel
def _rotate(x, bits):
    return (x << uint64(bits)) | (x >> uint64(64 - bits))


@kernel
def _read4(data, at):
    """Four bytes, the least significant first. Unsigned indices: no check for negative ones, so this is a single load."""
    i = uint64(at)
    low = uint32(data[i]) | uint32(data[i + uint64(1)]) << uint32(8)
    return uint32(low | uint32(data[i + uint64(2)]) << uint32(16) | uint32(data[i + uint64(3)]) << uint32(24))


@kernel
def _read8(data, at):
    return uint64(_read4(data, at)) | uint64(_read4(data, at + 4)) << uint64(32)


@kernel
def _round(lane, value):
    return _rotate(lane + value * PRIME2, 31) * PRIME1


@kernel
def xxh64(data, start, end):
    """xxHash64 of data[start:end] (uint8)."""
    at, length = start, uint64(end - start)
    if end - start >= 32:  # four lanes of 8 bytes
        v1, v2, v3, v4 = PRIME1 + PRIME2, PRIME2, uint64(0), uint64(0) - PRIME1
        while at <= end - 32:
            v1 = _round(v1, _read8(data, at))
            v2 = _round(v2, _read8(data, at + 8))
            v3 = _round(v3, _read8(data, at + 16))
            v4 = _round(v4, _read8(data, at + 24))
            at += 32
        h = _rotate(v1, 1) + _rotate(v2, 7) + _rotate(v3, 12) + _rotate(v4, 18)
        for v in (v1, v2, v3, v4):
            h = (h ^ _round(uint64(0), v)) * PRIME1 + PRIME4
    else:
        h = PRIME5
    h += length
    while at <= end - 8:
        h = _rotate(h ^ _round(uint64(0), _read8(data, at)), 27) * PRIME1 + PRIME4
        at += 8
    if at <= end - 4:
        h = _rotate(h ^ (uint64(_read4(data, at)) * PRIME1), 23) * PRIME2 + PRIME3
        at += 4
    while at < end:
        h = _rotate(h ^ (uint64(data[at]) * PRIME5), 11) * PRIME1
        at += 1
    h = (h ^ (h >> uint64(33))) * PRIME2
    h = (h ^ (h >> uint64(29))) * PRIME3
    return h ^ (h >> uint64(32))


@kernel
def xxh64_pieces(data, starts, ends, out):
    """out (uint64): xxHash64 of every piece."""
    for i in range(len(starts)):
        out[i] = xxh64(data, starts[i], ends[i])


START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
LANES = 64  # pieces that go through SHA-1 side by side: every loop over them compiles to the widest registers there are


@kernel
def _rotate32(x, bits):
    return uint32((x << uint32(bits)) | (x >> uint32(32 - bits)))  # numba widens to 64 bits, SHA-1 must not


@kernel
def _swap(x):
    """The four bytes in the opposite order."""
    inner = ((x & uint32(0xFF00)) << uint32(8)) | ((x >> uint32(8)) & uint32(0xFF00))
    return uint32((x << uint32(24)) | inner | (x >> uint32(24)))


@kernel
def _one_round(a, b, c, d, e, word, t):
    """Round t on rows of LANES numbers. It gives new values to e and b alone; the renaming a -> b -> ... is the caller's."""
    if t < 20:
        for i in range(LANES):
            e[i] += _rotate32(a[i], 5) + (d[i] ^ (b[i] & (c[i] ^ d[i]))) + uint32(0x5A827999) + word[i]
    elif t < 40 or t >= 60:
        constant = uint32(0x6ED9EBA1) if t < 40 else uint32(0xCA62C1D6)
        for i in range(LANES):
            e[i] += _rotate32(a[i], 5) + (b[i] ^ c[i] ^ d[i]) + constant + word[i]
    else:
        for i in range(LANES):
            e[i] += _rotate32(a[i], 5) + ((b[i] & c[i]) | (d[i] & (b[i] | c[i]))) + uint32(0x8F1BBCDC) + word[i]
    for i in range(LANES):
        b[i] = _rotate32(b[i], 30)


@kernel
def _compress(s, w):
    """The 80 rounds on s (rows a to e); after every five of them each row has its old name again."""
    for t in range(0, 80, 5):
        _one_round(s[0], s[1], s[2], s[3], s[4], w[t], t)
        _one_round(s[4], s[0], s[1], s[2], s[3], w[t + 1], t)
        _one_round(s[3], s[4], s[0], s[1], s[2], w[t + 2], t)
        _one_round(s[2], s[3], s[4], s[0], s[1], w[t + 3], t)
        _one_round(s[1], s[2], s[3], s[4], s[0], w[t + 4], t)


@kernel
def _expand(w):
    """Message words 16 to 79 from the first sixteen."""
    for t in range(16, 80):
        for i in range(LANES):
            w[t, i] = _rotate32(w[t - 3, i] ^ w[t - 8, i] ^ w[t - 14, i] ^ w[t - 16, i], 1)


@kernel
def _fill(data, start, end, block, w, lane):
    """One block of a padded message: text, then 0x80, zeros, and the length in bits. Most significant byte first."""
    size = end - start
    last = 64 * ((size + 8) // 64) + 60  # where the lower half of the length stands; the upper half is zero
    for t in range(16):
        at = 64 * block + 4 * t
        word = uint32(0)
        if at + 4 <= size:
            word = _swap(_read4(data, start + at))
        elif at == last:
            word = uint32(8 * size)
        elif at <= size:
            for k in range(4):
                byte = data[start + at + k] if at + k < size else (0x80 if at + k == size else 0)
                word = (word << uint32(8)) | uint32(byte)
        w[t, lane] = word


@kernel
def sha1_pieces(data, starts, ends, out):
    """out (uint64): the first eight bytes of the SHA-1 of every piece (under 2^29 bytes), least significant first."""
    h = np.empty((5, LANES), np.uint32)
    s = np.empty((5, LANES), np.uint32)
    w = np.zeros((80, LANES), np.uint32)
    for first in range(0, len(starts), LANES):
        count = min(LANES, len(starts) - first)
        for i in range(LANES):
            h[0, i], h[1, i], h[2, i], h[3, i], h[4, i] = START
        most = 0
        for i in range(count):
            most = max(most, (ends[first + i] - starts[first + i] + 8) // 64 + 1)
        for block in range(most):
            for i in range(count):
                _fill(data, starts[first + i], ends[first + i], block, w, i)
            _expand(w)
            for k in range(5):
                for i in range(LANES):
                    s[k, i] = h[k, i]
            _compress(s, w)
            for i in range(count):
                if block <= (ends[first + i] - starts[first + i] + 8) // 64:  # a piece that has ended keeps its hash
                    for k in range(5):
                        h[k, i] += s[k, i]
        for i in range(count):
            out[first + i] = (uint64(_swap(h[1, i])) << uint64(32)) | uint64(_swap(h[0, i]))
