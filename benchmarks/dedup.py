"""What deduplication gives: documents a second, union-find, memory and cold start, each against a peer in the same run.

    python benchmarks/dedup.py [--quick] [--json FILE]

Documents are 2,000 characters of Python's documentation, shingles five words, signatures 128 permutations (112 for the
rows of FineWeb). One thread; speeds are medians of interleaved runs. ratio > 1 means better than the peer. In the rows
"text to signature" the peer only splits at spaces and lowers the case, while ours normalises the text in full; against
datatrove both do. Memory and cold start are those of a whole new process.
"""

import itertools
import random
import statistics
import tempfile
from pathlib import Path

import numpy as np
from measure import Row, fresh, interleaved, main, row

from cairn.corpus import library
from cairn.corpus.dedup import DedupConfig, MinHashConfig, deduplicate, signatures
from cairn.corpus.dedup.minhash import hash_shingles, signatures_of_hashes
from cairn.corpus.dedup.words import Words

LENGTH = 2000  # characters of a document


def documents(count: int) -> list[str]:
    """Different ones: when the documentation ends it begins again with its words in another order."""
    text = "\n".join(document.text for document in library.documentation())
    found = [text[i : i + LENGTH] for i in range(0, len(text) - LENGTH, LENGTH)]
    for i in range(len(found), count):
        words = found[i % len(found)].split(" ")
        random.Random(i).shuffle(words)
        found.append(" ".join(words))
    return found[:count]


def plain_shingles(text: str) -> list[bytes]:
    words = text.lower().split()
    return [" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)]


def minhash(texts: list[str], runs: int) -> list[Row]:
    import xxhash
    from datasketch import MinHash

    def xxh64_low(data: bytes) -> int:
        return xxhash.xxh64_intdigest(data) & 0xFFFFFFFF

    rows = []
    for scheme in ("affine32", "legacy"):
        config = MinHashConfig(scheme=scheme, bands=16)
        hashes, firsts = hash_shingles(Words.of(texts), config)
        lists = [(hashes[a:b] & np.uint64(0xFFFFFFFF)).tolist() for a, b in itertools.pairwise(firsts)]
        seconds = interleaved(
            [
                lambda: signatures_of_hashes(hashes, firsts, config),  # noqa: B023 (called at once)
                lambda: MinHash.bulk(lists, num_perm=128, scheme=scheme, hashfunc=int),  # noqa: B023
            ],
            runs,
        )
        value, peer_value = [len(texts) / s for s in seconds]
        rows.append(
            row(f"hashes to signature, {scheme}", "datasketch", value, peer_value, "docs/s", 5, less_is_better=False)
        )
    for scheme, hash in (("affine32", "sha1"), ("affine32", "xxhash"), ("legacy", "sha1")):
        config = MinHashConfig(scheme=scheme, hash=hash, bands=16)
        function = None if hash == "sha1" else xxh64_low
        seconds = interleaved(
            [
                lambda: signatures(texts, config),  # noqa: B023
                lambda: MinHash.bulk(map(plain_shingles, texts), num_perm=128, scheme=scheme, hashfunc=function),  # noqa: B023
            ],
            runs,
        )
        value, peer_value = [len(texts) / s for s in seconds]
        name = f"text to signature, {scheme}, {hash}"
        rows.append(row(name, "datasketch", value, peer_value, "docs/s", 5, less_is_better=False))
    return rows


def fineweb(texts: list[str], runs: int) -> list[Row]:
    """datatrove's own normalisation, shingles and signature; its word tokenizer replaced by a split at spaces."""
    from datatrove.pipeline.dedup import minhash as datatrove
    from datatrove.utils.hashing import HashConfig

    class Spaces:
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

    datatrove.load_word_tokenizer = lambda language: Spaces()  # type: ignore[assignment]
    peer = datatrove.MinhashDedupSignature(
        tempfile.gettempdir(), datatrove.MinhashConfig(hash_config=HashConfig(64, "sha1"))
    )
    seconds = interleaved(
        [
            lambda: signatures(texts, MinHashConfig()),
            lambda: [peer.get_signature(peer.get_shingles(text)) for text in texts],
        ],
        runs,
    )
    value, peer_value = [len(texts) / s for s in seconds]
    return [row("text to signature, FineWeb, sha1", "datatrove", value, peer_value, "docs/s", 5, less_is_better=False)]


def clusters(texts: list[str]) -> list[Row]:
    """A corpus in which every tenth document is the one before it less its first words, from text to what is removed."""
    from datasketch import MinHash, MinHashLSH

    corpus = [texts[i - 1][100:] if i % 10 == 9 else text for i, text in enumerate(texts)]
    config = DedupConfig(minhash=MinHashConfig(scheme="affine32"))

    def ours() -> int:
        with tempfile.TemporaryDirectory() as folder:
            return np.load(deduplicate([corpus], folder, config)[0]).shape[1]

    def peer() -> int:
        index = MinHashLSH(num_perm=112, params=(14, 8))
        removed = 0
        for i, sketch in enumerate(MinHash.generator(map(plain_shingles, corpus), num_perm=112)):
            removed += bool(index.query(sketch))
            index.insert(i, sketch)
        return removed

    value, peer_value = [len(corpus) / s for s in interleaved([ours, peer], 1)]
    return [
        row("text to removed, 14 x 8, sha1", "datasketch LSH", value, peer_value, "docs/s", 5, less_is_better=False)
    ]


def union_find(size: int, runs: int) -> list[Row]:
    """Random edges, half as many as documents: clusters of every size, just below the point where one swallows all."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from cairn.kernels.union_find import flatten, unite

    edges = np.random.default_rng(0).integers(0, size, (size // 2, 2))

    def ours() -> int:
        parents = np.arange(size)
        unite(parents, edges)
        return size - flatten(parents)

    def peer() -> int:
        graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(size, size))
        return connected_components(graph.tocsr(), directed=False)[0]

    assert ours() == peer()
    value, peer_value = [len(edges) / s / 1e6 for s in interleaved([ours, peer], runs)]
    return [row(f"union-find, {size:,} nodes", "scipy", value, peer_value, "M edges/s", 1, less_is_better=False)]


OURS = """
from cairn.corpus.dedup import DedupConfig, MinHashConfig, write_keys
config = DedupConfig(minhash=MinHashConfig(scheme="affine32"))
write_keys((open(file).read() for file in files), folder + "/keys.npy", config)
"""
PEER = """
from datasketch import MinHash
def shingles(text):
    words = text.lower().split()
    return [" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)]
kept = list(MinHash.generator((shingles(open(file).read()) for file in files), num_perm=112))
"""
PROCESS = """
import glob, json, sys, time
start = time.perf_counter()
folder = sys.argv[1]
files = sorted(glob.glob(folder + "/*.txt"))[: int(sys.argv[2])]
{work}
print(json.dumps({{"seconds": time.perf_counter() - start}}))
"""


def process(work: str, folder: str, count: int, cache: Path) -> tuple[float, float]:
    """(seconds, peak MB) of a new Python that computes the signatures of `count` files."""
    out = fresh(PROCESS.format(work=work), folder, count, environment={"NUMBA_CACHE_DIR": str(cache)})
    return out["seconds"], out["peak_mb"]


def processes(texts: list[str]) -> list[Row]:
    """Peak memory of a shard, and the time to the first key with compiled kernels on disk and without."""
    with tempfile.TemporaryDirectory() as folder:
        for i, text in enumerate(texts):
            (Path(folder) / f"{i:06d}.txt").write_text(text)
        cache = Path(folder) / "cache"
        empty, _ = process(OURS, folder, 1, cache)
        full, peer = (statistics.median(process(work, folder, 1, cache)[0] for _ in range(3)) for work in (OURS, PEER))
        memory, peer_memory = (process(work, folder, len(texts), cache)[1] for work in (OURS, PEER))
    return [
        row(
            f"peak memory, {len(texts):,} documents", "datasketch", memory, peer_memory, "MB", 0.4, less_is_better=True
        ),
        row("first key, kernels compiled before", "datasketch", full, peer, "s", 0.3, less_is_better=True),
        row("first key, nothing compiled yet", "datasketch", empty, peer, "s", 0.02, less_is_better=True),
    ]


def measure(quick: bool) -> list[Row]:
    texts = documents(300 if quick else 2000)
    runs = 3 if quick else 5
    rows = minhash(texts, runs) + fineweb(texts, runs) + clusters(documents(3000 if quick else 20_000))
    rows += union_find(200_000 if quick else 2_000_000, runs)
    return rows + processes(documents(300 if quick else 10_000))


if __name__ == "__main__":
    main(__doc__ or "", measure)
