"""Exact duplicates: equal 128-bit hashes (XXH3) of the raw or of the normalised text.

With 128 bits, two different texts among 10^12 share a hash with a probability of about 10^-15.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import xxhash

from cairn.corpus.dedup.words import Words


def exact_hashes(texts: Sequence[str], words: Words | None = None) -> np.ndarray:
    """uint64[2, texts]: upper and lower half of xxh3_128 of each text's UTF-8.

    With `words` of the same texts, of the normalised text; texts without words would then all be equal, so that they
    are hashed as they are.
    """
    digests = (
        xxhash.xxh3_128_digest((words.text(i) if words else b"") or text.encode("utf-8", "surrogatepass"))
        for i, text in enumerate(texts)
    )
    return np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2).T.astype(np.uint64)


def exact_hash_of_pieces(pieces: Iterable[bytes]) -> np.ndarray:
    """uint64[2, 1]: the same of one text that comes in pieces of its bytes."""
    state = xxhash.xxh3_128()
    for piece in pieces:
        state.update(piece)
    return np.frombuffer(state.digest(), ">u8").reshape(2, 1).astype(np.uint64)
