"""Deduplication against datasketch (signatures, LSH) and datatrove (words, shingles, signatures, the whole pipeline)."""

import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

import datatrove.utils.hashes.xxhash
import numpy as np
import pytest
import xxhash
from datasketch import MinHash, MinHashLSH
from datatrove.data import Document
from datatrove.pipeline.dedup import minhash as reference
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import simplify_text

from cairn.corpus.dedup import DedupConfig, MinHashConfig, deduplicate, find_pairs, signatures
from cairn.corpus.dedup.files import write_array
from cairn.corpus.dedup.minhash import band_keys, hash_shingles, plain_shingles
from cairn.corpus.dedup.union_find import plain_roots
from cairn.corpus.dedup.words import Words

TEXT = Path(__file__).parents[3] / "shared" / "data" / "text"


@pytest.fixture(scope="module")
def texts(corpus):
    """Real text in pieces that overlap by 0 to 95 %, so that pairs of every similarity are among them."""
    found = ["Élan naïve, 1.5 % 数字 of words: two three", "four words are there", "", "..."]
    whole = "\n".join(corpus.texts("general-train"))[:60_000]
    if TEXT.exists():
        whole += (TEXT / "wikitext2-valid.txt").read_text(encoding="utf-8")[:60_000]
    draw = np.random.default_rng(0)
    at = 0
    while at < len(whole):
        found.append(whole[at : at + 2000])
        at += int(2000 * draw.choice([0.05, 0.1, 0.2, 1.0]))
    return found


@pytest.mark.parametrize("hash", ["sha1", "xxhash"])
@pytest.mark.parametrize("scheme", ["legacy", "affine32"])
def test_signatures_equal_datasketch(texts, scheme, hash):
    config = MinHashConfig(scheme=scheme, hash=hash, bands=16, seed=3)
    hashfunc = None if hash == "sha1" else lambda data: xxhash.xxh64_intdigest(data) & 0xFFFFFFFF
    ours = signatures(texts, config)
    for text, signature in zip(texts, ours):
        oracle = MinHash(num_perm=128, seed=3, scheme=scheme, hashfunc=hashfunc)
        oracle.update_batch(shingle.encode() for shingle in plain_shingles(text, 5))
        assert np.array_equal(oracle.hashvalues, signature)


def test_words_equal_datatrove(texts):
    words = Words.of(texts)
    for i, text in enumerate(texts):
        assert words.text(i).decode() == " ".join(simplify_text(text).split())


class Whitespace:
    """datatrove's word tokenizers are language models of their own; after normalisation words stand between spaces."""

    def word_tokenize(self, text):
        return text.split()


@pytest.fixture(params=["sha1", "xxhash"])
def hash(request, monkeypatch):
    monkeypatch.setattr(reference, "load_word_tokenizer", lambda language: Whitespace())
    # datatrove 0.10 gives xxhash a str, which it took until its version 4.
    monkeypatch.setattr(datatrove.utils.hashes.xxhash, "xxhash64", lambda text: xxhash.xxh64_intdigest(text.encode()))
    return request.param


def datatrove_config(hash):
    return reference.MinhashConfig(seed=2, hash_config=HashConfig(precision=64, hash_fc=hash))


def test_shingles_and_signatures_equal_datatrove(texts, hash, tmp_path):
    oracle = reference.MinhashDedupSignature(str(tmp_path), config=datatrove_config(hash))
    config = MinHashConfig(hash=hash, seed=2)
    hashes, firsts = hash_shingles(Words.of(texts), config)
    ours = signatures(texts, config)
    compared = 0
    for i, text in enumerate(texts):
        shingles = oracle.get_shingles(text)
        if len(shingles):  # datatrove leaves texts of fewer than five words out
            assert shingles.ravel().tolist() == hashes[firsts[i] : firsts[i + 1]].tolist()
            assert np.concatenate(oracle.get_signature(shingles)).tolist() == ours[i].tolist()
            compared += 1
    assert compared == len(texts) - 3


def clusters(roots):
    members = defaultdict(set)
    for document, root in enumerate(roots):
        members[root].add(document)
    return {frozenset(found) for found in members.values() if len(found) > 1}


def our_clusters(path, documents):
    roots = list(range(documents))
    for removed, kept in np.load(path).T.tolist():
        roots[removed] = kept
    return clusters(roots)


def test_clusters_equal_datatrove(texts, hash, tmp_path):
    texts = [text for text in texts if len(text.split()) > 20]
    shards = [texts[:25], texts[25:60], texts[60:]]
    config = datatrove_config(hash)
    signed, paired, removed = (str(tmp_path / name) for name in ("signatures", "pairs", "removed"))
    first = reference.MinhashDedupSignature(signed, config=config)
    for rank, shard in enumerate(shards):
        first.run([Document(text, str(i)) for i, text in enumerate(shard)], rank, len(shards))
    for band in range(config.num_buckets):
        reference.MinhashDedupBuckets(signed, paired, config=config).run(None, band, config.num_buckets)
    reference.MinhashDedupCluster(paired, removed, config=config, save_cluster_id=True).run(None, 0, 1)
    members = defaultdict(set)
    for rank in range(len(shards)):
        data = (tmp_path / "removed" / f"{rank:06d}.clusters").read_bytes()
        for document, number in struct.iter_unpack("<2I", data):
            members[number].add(document + sum(map(len, shards[:rank])))
    path, documents = deduplicate(shards, tmp_path / "ours", DedupConfig(minhash=MinHashConfig(hash=hash, seed=2)))
    assert our_clusters(path, documents) == {frozenset(found) for found in members.values()}
    assert len(members) > 3


def test_clusters_equal_datasketch(texts, tmp_path):
    config = MinHashConfig(scheme="affine32", bands=14, rows=8)
    index = MinHashLSH(num_perm=112, params=(14, 8))
    ours = signatures(texts, config)
    sketches = [MinHash(hashvalues=signature, scheme="affine32") for signature in ours]
    for i, sketch in enumerate(sketches):
        index.insert(i, sketch)
    with_words = np.array([bool(plain_shingles(text, 5)) for text in texts])
    # An empty MinHash meets every other empty one in datasketch; ours is in no bucket.
    met: list[list[Any]] = [list(index.query(sketch)) for sketch in sketches]
    edges = [(i, j) for i, others in enumerate(met) for j in others if with_words[i] and with_words[j]]
    keys = np.concatenate([band_keys(ours, ~with_words, config), np.zeros((2, len(texts)), np.uint64)])
    write_array(tmp_path / "keys", keys)
    found = []
    for band in range(14):
        find_pairs([tmp_path / "keys"], [0], band, tmp_path / "edges")
        found += np.load(tmp_path / "edges").tolist()
    assert plain_roots(len(texts), found) == plain_roots(len(texts), edges)
    assert len(clusters(plain_roots(len(texts), edges))) > 3
