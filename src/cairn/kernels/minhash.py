"""MinHash signatures and the keys of their bands. Twins in plain NumPy: `cairn.corpus.dedup.minhash`."""

import numpy as np
from numba import uint32, uint64

from cairn.kernels.hashes import xxh64
from cairn.kernels.jit import kernel

MERSENNE = np.uint64((1 << 61) - 1)
NO_WORDS = np.uint64(0)  # key of a text without shingles: it has no bucket


@kernel
def mersenne_signatures(hashes, firsts, a, b, mask, out):
    """out[t, k] = min over the hashes h of text t of ((a_k h + b_k) mod 2^64 mod (2^61 - 1)) & mask, all uint64.

    firsts[t]: where text t's hashes begin, with one entry more. A text without hashes gets the mask. The permutation is
    the outer loop, so that the inner one is a reduction the compiler turns into vector instructions.
    """
    for t in range(len(firsts) - 1):
        text = hashes[firsts[t] : firsts[t + 1]]
        for k in range(len(a)):
            ak, bk = a[k], b[k]
            least = mask
            for i in range(len(text)):
                x = text[i] * ak + bk
                x = (x & MERSENNE) + (x >> uint64(61))  # congruent, and at most 7 above the modulus
                x = min(x, x - MERSENNE)  # below the modulus the difference wraps round to something larger
                least = min(least, x & mask)
            out[t, k] = least


@kernel
def affine32_signatures(hashes, firsts, a, b, out):
    """out[t, k] = min over the hashes h of text t of (a_k fmix(h) + b_k) mod 2^32, all uint32; fmix is MurmurHash3's.

    Overwrites `hashes` with their mixtures. A text without hashes gets 2^32 - 1.
    """
    for i in range(len(hashes)):
        h = hashes[i]
        h = uint32((h ^ (h >> uint32(16))) * uint32(0x85EBCA6B))
        h = uint32((h ^ (h >> uint32(13))) * uint32(0xC2B2AE35))
        hashes[i] = h ^ (h >> uint32(16))
    for t in range(len(firsts) - 1):
        text = hashes[firsts[t] : firsts[t + 1]]
        for k in range(len(a)):
            ak, bk = a[k], b[k]
            least = uint32(0xFFFFFFFF)
            for i in range(len(text)):
                least = min(least, uint32(text[i] * ak + bk))
            out[t, k] = least


@kernel
def band_keys(signature_bytes, bytes_a_band, without_words, out):
    """out[band, t] = xxHash64 of a band's values, as bytes; two texts share a bucket when they share a key.

    signature_bytes: uint8[texts, bands * bytes_a_band]. A text in `without_words` (bool) has the key NO_WORDS, and a
    real key of that value becomes 1.
    """
    for t in range(len(signature_bytes)):
        for band in range(len(out)):
            if without_words[t]:
                out[band, t] = NO_WORDS
            else:
                start = band * bytes_a_band
                key = xxh64(signature_bytes[t], start, start + bytes_a_band)
                out[band, t] = key if key != NO_WORDS else uint64(1)
