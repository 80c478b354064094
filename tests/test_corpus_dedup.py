"""Deduplication: words, hashes, signatures, buckets, clusters and lines, each against something simpler."""

import hashlib
import itertools
import random
import subprocess
import sys
import unicodedata
from collections import defaultdict

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.corpus.dedup import (
    EXACT,
    DedupConfig,
    LineConfig,
    MinHashConfig,
    buckets,
    cluster,
    deduplicate,
    describe_clusters,
    detection_probability,
    dropped_lines,
    find_lines,
    find_pairs,
    removed_in,
    signatures,
    without_lines,
    write_keys,
    write_lines,
)
from cairn.corpus.dedup.minhash import (
    band_keys,
    permutations,
    plain_hash,
    plain_shingles,
    plain_signature,
    signatures_of_hashes,
)
from cairn.corpus.dedup.union_find import plain_roots
from cairn.corpus.dedup.words import TABLE_SIZE, Words, simplify

EXACT_ONLY = DedupConfig(near=False)


def prose(seed, words=300):
    """Text of random words: two seeds share hardly any shingle."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghij", k=5)) for _ in range(words))


def edited(text, seed, share=0.01):
    draw = random.Random(seed)
    return " ".join("changed" if draw.random() < share else word for word in text.split())


def removed_documents(path):
    return dict(zip(*np.load(path).tolist()))


def test_importing_does_not_pay_for_numba():
    code = "import sys, cairn.corpus.dedup; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- words ----------------------------------------------------------------------------------------------------------


def normalised(texts):
    words = Words.of(texts)
    return [words.text(i).decode("utf-8", "surrogatepass") for i in range(len(texts))]


def test_every_character_is_normalised_as_by_plain_python():
    texts = [f"x{chr(c)}y 1{chr(c)}2 {chr(c)}" for c in itertools.chain(range(TABLE_SIZE), range(0xE0000, 0xE0200))]
    assert normalised(texts) == [simplify(text) for text in texts]


def test_nothing_beyond_the_table_changes():
    changing = {
        code
        for code in range(TABLE_SIZE, 0x110000)
        if unicodedata.category(chr(code)) in ("Mn", "Nd", "Zs", "Lu") or unicodedata.decomposition(chr(code))
    }
    assert changing == set(range(0xE0100, 0xE01F0))


# Marks that canonical decomposition would sort although they are not dropped: see words.py.
SORTED_MARKS = [c for c in map(chr, range(0x110000)) if unicodedata.combining(c) and unicodedata.category(c) != "Mn"]


@given(st.lists(st.text(st.sampled_from("aZ09.,!\n\t\u03a3\u00c9\u0301\u0130\uac01\u0663\u066b \u2028\u4e2d") | st.characters(
    exclude_characters=SORTED_MARKS, exclude_categories=())), max_size=5))  # fmt: skip
@settings(deadline=None)
def test_words_equal_plain_python(texts):
    assert normalised(texts) == [simplify(text) for text in texts]
    firsts = Words.of(texts).firsts
    assert np.diff(firsts).tolist() == [len(simplify(text).split()) for text in texts]


def test_numbers_punctuation_marks_and_spacing():
    assert normalised(["Crème  BRÛLÉE,\n1.250.75 of\u00a0\u0663\u0664\u066b\u0665!", "\u0301 -- ", "ΟΔΟΣ"]) == [
        "creme brulee 0 0 of 0",
        "",
        "οδος",
    ]


# -- hashes and signatures ------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=70))
@settings(max_examples=50, deadline=None)  # the first call compiles
def test_hashes_equal_the_libraries(pieces):
    from cairn.kernels.hashes import sha1_pieces, xxh64_pieces

    data = np.frombuffer(b"".join(pieces), np.uint8)
    ends = np.cumsum([0, *map(len, pieces)])
    out = np.empty(len(pieces), np.uint64)
    xxh64_pieces(data, ends[:-1], ends[1:], out)
    assert out.tolist() == [xxhash.xxh64_intdigest(piece) for piece in pieces]
    sha1_pieces(data, ends[:-1], ends[1:], out)
    assert out.tolist() == [int.from_bytes(hashlib.sha1(piece).digest()[:8], "little") for piece in pieces]


@pytest.mark.parametrize("hash", ["sha1", "xxhash"])
@pytest.mark.parametrize("scheme", ["fineweb", "legacy", "affine32"])
def test_signatures_equal_the_formula(scheme, hash, text):
    config = MinHashConfig(scheme=scheme, hash=hash, bands=5, rows=7, words=3, seed=4)
    texts = [text, "", "one", "one two", "one two three", "!!", prose(1), text[:700], "Ünï cödé " * 9, "w" * 500]
    assert np.array_equal(signatures(texts, config), [plain_signature(t, config) for t in texts])


def test_seed_changes_the_permutations():
    one, other = (permutations(MinHashConfig(seed=seed)) for seed in (1, 2))
    assert not np.array_equal(one[0], other[0])


def test_band_keys_are_hashes_of_the_rows():
    config = MinHashConfig(bands=3, rows=4)
    signature = signatures([prose(1), prose(2)], config)
    keys = band_keys(signature, np.array([False, True]), config)
    assert keys[:, 0].tolist() == [xxhash.xxh64_intdigest(signature[0, 4 * i : 4 * i + 4].tobytes()) for i in range(3)]
    assert keys[:, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("scheme", ["fineweb", "affine32"])
@pytest.mark.parametrize(("similarity", "stated"), [(0.5, 0.053), (0.7, 0.565), (0.75, 0.772), (0.8, 0.924)])
def test_pairs_are_found_as_often_as_the_theory_says(scheme, similarity, stated):
    config, pairs, union = MinHashConfig(scheme=scheme), 2000, 200
    shared = round(similarity * union)
    draw = np.random.default_rng(7)
    sets = []
    for _ in range(pairs):  # what is not shared is split between the two
        hashes = draw.integers(0, 1 << 64, union, dtype=np.uint64)
        half = (union - shared) // 2
        sets += [hashes[: shared + half], np.concatenate([hashes[:shared], hashes[shared + half :]])]
    firsts = np.cumsum([0, *map(len, sets)])
    keys = band_keys(signatures_of_hashes(np.concatenate(sets), firsts, config), np.zeros(2 * pairs, bool), config)
    found = float((keys[:, ::2] == keys[:, 1::2]).any(axis=0).mean())
    expected = detection_probability(similarity, config)
    assert expected == pytest.approx(stated, abs=1e-3)
    assert abs(found - expected) < 4 * (expected * (1 - expected) / pairs) ** 0.5


def test_similarity_of_texts_is_that_of_their_shingles():
    config = MinHashConfig(bands=64, rows=8)
    one = prose(1)
    other = edited(one, 2)
    a, b = (set(plain_shingles(text, 5)) for text in (one, other))
    estimate = float(np.equal(*signatures([one, other], config)).mean())
    exact = len(a & b) / len(a | b)
    assert 0.3 < exact < 0.99
    assert abs(estimate - exact) < 4 * (exact * (1 - exact) / config.permutations) ** 0.5
    assert len({plain_hash(shingle, config) for shingle in a}) == len(a)


# -- buckets and clusters -------------------------------------------------------------------------------------------


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60))
    )
)
@settings(deadline=None)
def test_union_find_equals_searching_the_graph(graph):
    from cairn.kernels.union_find import flatten, list_removed, unite

    documents, edges = graph
    neighbours = defaultdict(set)
    for a, b in edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    smallest = {}
    for start in range(documents):  # ascending, so that the first to reach a node is the smallest
        todo = [] if start in smallest else [start]
        while todo:
            node = todo.pop()
            if smallest.setdefault(node, start) == start:
                todo += [n for n in neighbours[node] if n not in smallest]
    expected = [smallest[x] for x in range(documents)]
    assert plain_roots(documents, edges) == expected
    parents = np.arange(documents)
    unite(parents, np.array(edges, np.int64).reshape(-1, 2))
    removed = np.empty((2, flatten(parents)), np.int64)
    list_removed(parents, removed)
    assert parents.tolist() == expected
    assert removed.T.tolist() == [[x, root] for x, root in enumerate(expected) if x != root]


texts_with_repetition = st.lists(st.sampled_from([prose(0, 8), "a", "A ", "", "--", "!!"]) | st.text("ab ", max_size=4))


@given(st.lists(texts_with_repetition, max_size=4), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_exact_duplicates_are_always_found_and_then_none_are_left(tmp_path_factory, shards, partitions):
    path, documents = deduplicate(shards, tmp_path_factory.mktemp("d"), EXACT_ONLY, partitions=partitions)
    texts = [text for shard in shards for text in shard]
    assert documents == len(texts)
    assert removed_documents(path) == {i: texts.index(t) for i, t in enumerate(texts) if t in texts[:i]}
    first, kept = 0, []
    for shard in shards:
        gone = removed_in(path, first, len(shard)).tolist()
        kept.append([text for i, text in enumerate(shard) if i not in gone])
        first += len(shard)
    assert sorted(t for shard in kept for t in shard) == sorted(set(texts))
    again, _ = deduplicate(kept, tmp_path_factory.mktemp("d"), EXACT_ONLY)
    assert removed_documents(again) == {}


def test_normalised_text_finds_more_and_texts_without_words_are_compared_as_they_are(tmp_path):
    texts = ["Hello, world 12", "hello world 99!", "--", "!!", "", "--", ""]
    path, _ = deduplicate([texts], tmp_path, DedupConfig(exact="normalised", near=False))
    assert removed_documents(path) == {1: 0, 5: 2, 6: 4}


def collection():
    """Shards in which 0-4-7 are near-duplicates in a chain, 3 and 9 are exact ones, and short texts stand between."""
    a, b = prose(1), prose(2)
    shards = [
        [a, prose(3), "Too short", b, edited(a, 5)],
        ["", "--", edited(edited(a, 5), 6), "too SHORT!"],
        [b, "Another short", ""],
    ]
    return shards, {4: 0, 7: 0, 8: 2, 9: 3, 11: 5}


def test_near_duplicates_are_found_and_unrelated_and_short_texts_stay(tmp_path):
    shards, expected = collection()
    path, documents = deduplicate(shards, tmp_path, DedupConfig())
    assert documents == 12
    assert removed_documents(path) == expected
    assert [removed_in(path, first, count).tolist() for first, count in ((0, 5), (5, 4), (9, 3))] == [
        [4],
        [2, 3],
        [0, 2],
    ]


def test_output_does_not_depend_on_order_or_partitions(tmp_path):
    shards, _ = collection()
    config = DedupConfig(minhash=MinHashConfig(bands=6, rows=3, scheme="affine32", hash="xxhash"))
    first_ids = [0, 5, 9]
    keys = [tmp_path / f"{i}.npy" for i in range(3)]
    outputs = set()
    for order in itertools.permutations(range(3)):
        for i in order:
            assert write_keys(shards[i], keys[i], config) == len(shards[i])
        for partitions in (1, 2, 5):
            edges = []
            for band in config.key_bands():
                for part in range(partitions):
                    edges.append(tmp_path / f"{band}-{part}")
                    files, ids = [keys[i] for i in order], [first_ids[i] for i in order]
                    find_pairs(files, ids, band, edges[-1], partition=part, partitions=partitions)
            random.Random(partitions).shuffle(edges)
            cluster(edges, 12, tmp_path / "removed")
            outputs.add((tmp_path / "removed").read_bytes())
    assert len(outputs) == 1


def test_edges_lead_to_the_smallest_of_the_bucket_whatever_the_partitions(tmp_path):
    draw = np.random.default_rng(0)
    keys = draw.integers(0, 300, (3, 1000)).astype(np.uint64) << np.uint64(55)  # both halves of the exact hash count
    np.save(tmp_path / "a.npy", keys[:, :600])
    np.save(tmp_path / "b.npy", keys[:, 600:])
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for band, columns in ((0, keys[:1]), (EXACT, keys[1:])):
        seen, expected = {}, []
        for i, key in enumerate(zip(*columns.tolist())):
            if i != seen.setdefault(key, i) and (band == EXACT or key != (0,)):
                expected.append([seen[key], i])
        for partitions in (1, 7):
            found = []
            for part in range(partitions):
                find_pairs(files, [0, 600], band, tmp_path / "out", partition=part, partitions=partitions)
                found += np.load(tmp_path / "out").tolist()
            assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("exact", ["raw", "normalised"])
@pytest.mark.parametrize("near", [True, False])
def test_long_texts_in_pieces_have_the_keys_of_the_whole(tmp_path, monkeypatch, exact, near):
    config = DedupConfig(exact=exact, near=near, minhash=MinHashConfig(words=1))  # no shingle lies across a cut
    texts = ["short one", prose(1, 2000) + " Ünd 1.5", "." * 3000, "x" * 5000, prose(2, 50)]
    write_keys(texts, tmp_path / "whole", config)
    monkeypatch.setattr(buckets, "PIECE", 1000)
    monkeypatch.setattr(buckets, "BATCH", 500)
    write_keys(texts, tmp_path / "pieces", config)
    whole, pieces = np.load(tmp_path / "whole"), np.load(tmp_path / "pieces")
    without_space = 3  # has no place to cut at, so that its words differ
    for i in range(len(texts)):
        if i != without_space or (exact == "raw" and not near):
            assert np.array_equal(whole[:, i], pieces[:, i])


def test_lone_surrogates_and_control_characters_are_text_like_any_other(tmp_path):
    texts = ["\ud800 broken \x00 text", "\ud800 broken \x00 text", "\udfff"]
    path, _ = deduplicate([texts], tmp_path, DedupConfig(exact="normalised"))
    assert removed_documents(path) == {1: 0}


def test_empty_corpus(tmp_path):
    for shards in ([], [[]], [[], []]):
        path, documents = deduplicate(shards, tmp_path, DedupConfig())
        assert documents == 0
        assert describe_clusters(path, 0)["removed"] == 0


def test_report_counts_clusters_by_size(tmp_path):
    shards = [["a"] * 2 + ["b"] * 3 + ["c"] * 4 + ["d"] * 9 + ["e"]]
    path, documents = deduplicate(shards, tmp_path, EXACT_ONLY)
    report = describe_clusters(path, documents, samples=3)
    assert report == {
        "documents": 19,
        "removed": 14,
        "clusters": 4,
        "largest": 9,
        "sizes": {"2": 1, "3-4": 2, "5-8": 0, "9-16": 1},
        "pairs": [[0, 1], [9, 10], [9, 17]],
    }


def test_damaged_and_mismatched_files_are_one_line_errors(tmp_path):
    write_keys([prose(1)], tmp_path / "good", DedupConfig())
    write_keys([prose(1)], tmp_path / "other", DedupConfig(minhash=MinHashConfig(bands=3)))
    (tmp_path / "cut").write_bytes((tmp_path / "good").read_bytes()[:-9])
    (tmp_path / "empty").write_bytes(b"")
    for files, first_ids, band, message in (
        (["missing"], [0], 0, "does not exist"),
        (["cut"], [0], 0, "damaged"),
        (["empty"], [0], 0, "damaged"),
        (["good", "other"], [0, 1], 0, "other settings"),
        (["good"], [0], 14, "other settings"),
        (["good", "good"], [0, 0], 0, "overlaps"),
        (["good"], [0, 1], 0, "as many first ids"),
    ):
        with pytest.raises(UserError, match=message):
            find_pairs([tmp_path / file for file in files], first_ids, band, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    np.save(tmp_path / "edges.npy", np.array([[0, 5]]))
    with pytest.raises(UserError, match="names document 5"):
        cluster([tmp_path / "edges.npy"], 5, tmp_path / "out")
    with pytest.raises(UserError, match="partition"):
        find_pairs([tmp_path / "good"], [0], 0, tmp_path / "out", partition=2, partitions=2)


# -- lines ----------------------------------------------------------------------------------------------------------


def plain_drop(texts, config):
    """Line by line, from the words of the rule."""
    where = defaultdict(list)
    for document, text in enumerate(texts):
        for number, line in enumerate(text.split("\n")):
            if len(line.strip()) >= config.characters:
                where[line.strip()].append((document, number))
    gone = set()
    for places in where.values():
        if len({document for document, _ in places}) > config.documents:
            gone.update(places[1:])
    return ["\n".join(x for n, x in enumerate(t.split("\n")) if (d, n) not in gone) for d, t in enumerate(texts)]


def drop_lines(shards, folder, config, partitions):
    files, first_ids, dropped, out, first = [], [], [], [], 0
    for number, shard in enumerate(shards):
        files.append(folder / f"lines-{number}")
        first_ids.append(first)
        first += write_lines(shard, files[-1], config)
    for part in range(partitions):
        dropped.append(folder / f"dropped-{part}")
        find_lines(files[::-1], first_ids[::-1], dropped[-1], config, partition=part, partitions=partitions)
    for start, shard in zip(first_ids, shards):
        gone = dropped_lines(dropped, start, len(shard))
        out.append([without_lines(text, gone.get(i, ())) for i, text in enumerate(shard)])
    return out


documents_of_lines = st.lists(st.sampled_from(["menu", " menu ", "home", "x", "", "text", "more"]), max_size=6).map(
    "\n".join
)


@given(st.lists(st.lists(documents_of_lines, max_size=4), max_size=4), st.integers(0, 3), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_lines_equal_the_plain_rule_and_then_none_are_left(tmp_path_factory, shards, documents, partitions):
    folder = tmp_path_factory.mktemp("lines")
    config = LineConfig(characters=2, documents=documents)
    kept = drop_lines(shards, folder, config, partitions)
    assert [t for shard in kept for t in shard] == plain_drop([t for shard in shards for t in shard], config)
    assert drop_lines(kept, folder, config, 1) == kept
