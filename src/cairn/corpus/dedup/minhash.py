"""MinHash: texts that share most of their shingles get, with high probability, the same value of each minimum.

P(two minima are equal) is the Jaccard similarity s of the two sets of shingles (Broder 1997). The minima are cut into
bands of rows; two texts meet when all rows of one band are equal: P(meet) = 1 - (1 - s^rows)^bands. FineWeb's 14 bands
of 8 rows find a pair of similarity .7 with probability .565, .75 with .772 and .8 with .924.

The schemes differ in how a permutation k maps a hash h, and are equal bit for bit to these:
  fineweb    (a_k h + b_k) mod 2^64 mod (2^61 - 1), 64-bit hashes             datatrove's MinhashDedupSignature
  legacy     the same on 32-bit hashes, lower 32 bits of the result           datasketch's scheme "legacy" (before 2.0)
  affine32   (a_k fmix(h) + b_k) mod 2^32, a_k odd, fmix of MurmurHash3       datasketch's default since 2.0
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cairn.core.config import option
from cairn.corpus.dedup.words import Words, simplify

MERSENNE = (1 << 61) - 1


@dataclass(frozen=True)
class MinHashConfig:
    words: int = option(5, "consecutive words that make a shingle", minimum=1)
    bands: int = option(14, "bands of a signature", minimum=1)
    rows: int = option(8, "minima in a band", minimum=1)
    hash: str = option("sha1", "hash function of a shingle", choices=("sha1", "xxhash"))
    scheme: str = option("fineweb", "form of the permutations", choices=("fineweb", "legacy", "affine32"))
    seed: int = option(1, "seed of the permutations", minimum=0)

    @property
    def permutations(self) -> int:
        return self.bands * self.rows


def detection_probability(similarity: float, config: MinHashConfig) -> float:
    """The probability that two texts of this Jaccard similarity share a bucket.

    >>> round(detection_probability(0.8, MinHashConfig()), 3)
    0.924
    """
    return 1 - (1 - similarity**config.rows) ** config.bands


@functools.cache
def permutations(config: MinHashConfig) -> tuple[np.ndarray, np.ndarray]:
    """The a and b of every permutation: uint64, or uint32 for affine32. Drawn exactly as the references draw them."""
    draw = np.random.RandomState(config.seed).randint
    n = config.permutations
    if config.scheme == "fineweb":
        return draw(1, MERSENNE, n, dtype=np.uint64), draw(0, MERSENNE, n, dtype=np.uint64)
    if config.scheme == "legacy":
        pairs = [(draw(1, MERSENNE, dtype=np.uint64), draw(0, MERSENNE, dtype=np.uint64)) for _ in range(n)]
        a, b = np.array(pairs, np.uint64).T.copy()
        return a, b
    return draw(0, 1 << 31, n, dtype=np.uint32) * np.uint32(2) + np.uint32(1), draw(0, 1 << 32, n, dtype=np.uint32)


def plain_hash(shingle: str, config: MinHashConfig) -> int:
    """64 bits of a shingle's UTF-8: the first eight bytes of SHA-1, or xxHash64. Other schemes take the lower 32."""
    import xxhash

    data = shingle.encode("utf-8", "surrogatepass")
    if config.hash == "xxhash":
        return xxhash.xxh64_intdigest(data)
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "little")


def plain_shingles(text: str, words: int) -> list[str]:
    """Runs of `words` consecutive normalised words; a shorter text is one shingle, a text without words has none.

    >>> plain_shingles("The cairn marks the trail.", 3)
    ['the cairn marks', 'cairn marks the', 'marks the trail']
    """
    found = simplify(text).split()
    if not found:
        return []
    return [" ".join(found[i : i + words]) for i in range(max(len(found) - words, 0) + 1)]


def plain_signature(text: str, config: MinHashConfig) -> np.ndarray:
    """The minima [permutations] of one text, written as the formula says: what `signatures` is tested against."""
    a, b = permutations(config)
    hashes = [plain_hash(s, config) for s in plain_shingles(text, config.words)]
    if config.scheme == "affine32":
        h = np.array([x & 0xFFFFFFFF for x in hashes], np.uint32)
        h = (h ^ h >> np.uint32(16)) * np.uint32(0x85EBCA6B)
        h = (h ^ h >> np.uint32(13)) * np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
        return (h[:, None] * a + b).min(axis=0, initial=np.uint32(0xFFFFFFFF))
    mask = np.uint64(0xFFFFFFFF if config.scheme == "legacy" else 0xFFFFFFFFFFFFFFFF)
    h = np.array(hashes, np.uint64) & mask
    return ((h[:, None] * a + b) % np.uint64(MERSENNE) & mask).min(axis=0, initial=mask)


def hash_shingles(words: Words, config: MinHashConfig) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, firsts): uint64 of every shingle of every text; int64[texts + 1], where each text's begin."""
    from cairn.kernels.hashes import sha1_pieces, xxh64_pieces
    from cairn.kernels.words import shingle_spans

    starts, ends = np.empty((2, len(words.starts)), np.int64)
    firsts = np.empty(len(words.firsts), np.int64)
    count = shingle_spans(words.starts, words.firsts, config.words, starts, ends, firsts)
    hashes = np.empty(count, np.uint64)
    hash_pieces = sha1_pieces if config.hash == "sha1" else xxh64_pieces
    hash_pieces(words.data, starts[:count], ends[:count], hashes)
    return hashes, firsts


def signatures_of_hashes(hashes: np.ndarray, firsts: np.ndarray, config: MinHashConfig) -> np.ndarray:
    """Signatures [texts, permutations] from the hashes (uint64) of each text's shingles; see `hash_shingles`."""
    from cairn.kernels.minhash import affine32_signatures, mersenne_signatures

    a, b = permutations(config)
    out = np.empty((len(firsts) - 1, config.permutations), a.dtype)
    if config.scheme == "affine32":
        affine32_signatures(hashes.astype(np.uint32), firsts, a, b, out)
    else:
        mask = np.uint64(0xFFFFFFFF if config.scheme == "legacy" else 0xFFFFFFFFFFFFFFFF)
        mersenne_signatures(hashes & mask, firsts, a, b, mask, out)
    return out


def signatures(texts: Sequence[str], config: MinHashConfig) -> np.ndarray:
    """Signatures [texts, permutations] (uint64; uint32 for affine32). A text without words has the largest value.

    Temporary memory is some ten times the text, so that many texts are best given a few megabytes at a time.
    """
    return signatures_of_hashes(*hash_shingles(Words.of(texts), config), config)


def band_keys(signature: np.ndarray, without_words: np.ndarray, config: MinHashConfig) -> np.ndarray:
    """Keys uint64[bands, texts]: xxHash64 of a band's rows as 64-bit numbers; 0, in no bucket, for texts without words.

    Among 10^9 texts one band has a pair of equal keys with different rows with a probability of 0.03.
    """
    from cairn.kernels.minhash import band_keys as kernel

    wide = np.ascontiguousarray(signature, dtype="<u8")
    out = np.empty((config.bands, len(signature)), np.uint64)
    kernel(wide.view(np.uint8), 8 * config.rows, without_words, out)
    return out
