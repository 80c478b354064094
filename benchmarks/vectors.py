"""GloVe's counting and training, files of word vectors and what is asked of them, each against a peer in the same run.

    python benchmarks/vectors.py [--quick] [--json FILE]

Vectors are random, as large as GloVe's published ones for Wikipedia (400,000 words of 100 numbers; a twentieth with --quick).
The text is Python's documentation. The authors' C program of GloVe is on no package index: its peers here are a dictionary
that counts pairs, and AdaGrad of torch over batches of 1,024 pairs with sparse gradients, on one thread.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import Row, interleaved, main, row

from cairn.corpus import library
from cairn.embeddings.analogies import Question, evaluate
from cairn.embeddings.cooccurrence import PairCounter, plain_counts
from cairn.embeddings.formats import read_vectors, write_vectors
from cairn.embeddings.glove import GloveConfig, Parameters, fit, weights
from cairn.embeddings.reading import read_words
from cairn.embeddings.shuffled import Shuffled
from cairn.embeddings.spool import Spool
from cairn.embeddings.vectors import WordVectors

WINDOW, DIM, BATCH = 15, 100, 1024
MEMORY = 256 << 20


def random_vectors(words: int) -> WordVectors:
    matrix_VD = np.random.default_rng(0).standard_normal((words, DIM)).astype(np.float32)
    return WordVectors([f"word{i}" for i in range(words)], matrix_VD)


def files(vectors: WordVectors, runs: int) -> list[Row]:
    from gensim.models import KeyedVectors

    theirs = KeyedVectors(vectors.dim)
    theirs.add_vectors(vectors.words, vectors.matrix_VD)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, goal in ((".vec", 5), (".bin", 1)):
            ours_file, peer_file = (str(Path(folder) / (name + suffix)) for name in ("ours", "theirs"))
            shape: Any = {"binary": suffix == ".bin"}
            writing = interleaved(
                [
                    lambda: write_vectors(vectors, ours_file),  # noqa: B023 (called at once)
                    lambda: theirs.save_word2vec_format(peer_file, **shape),  # noqa: B023
                ],
                runs,
            )
            reading = interleaved(
                [
                    lambda: read_vectors(peer_file),  # noqa: B023
                    lambda: KeyedVectors.load_word2vec_format(peer_file, **shape),  # noqa: B023
                ],
                runs,
            )
            for name, (value, peer_value) in (("write", writing), ("read", reading)):
                title = f"{name} {len(vectors):,} x {DIM}, {suffix}"
                rows.append(row(title, "gensim", value, peer_value, "s", goal, less_is_better=True))
    return rows


def questions(vectors: WordVectors, count: int) -> list[Row]:
    from gensim.models import KeyedVectors

    theirs = KeyedVectors(vectors.dim)
    theirs.add_vectors(vectors.words, vectors.matrix_VD)
    rng = np.random.default_rng(1)
    asked = [Question(*(vectors.words[i] for i in four)) for four in rng.choice(len(vectors), (count, 4))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "questions.txt"
        file.write_text("\n".join([": all", *map(" ".join, asked)]))
        seconds = interleaved(
            [lambda: evaluate(vectors, {"all": asked}), lambda: theirs.evaluate_word_analogies(str(file))], 1
        )
    value, peer_value = [count / s for s in seconds]
    title = f"analogies among {len(vectors):,} words"
    return [row(title, "gensim", value, peer_value, "asked/s", 3, less_is_better=False)]


def torch_pass(pairs: tuple[np.ndarray, ...], parameters: Parameters, rate: float, batches: int) -> None:
    """One step for each of the first batches."""
    import torch

    w, c = (torch.nn.Embedding(*parameters.w_VD.shape, sparse=True) for _ in range(2))
    w_bias, c_bias = (torch.nn.Embedding(len(parameters.w_VD), 1, sparse=True) for _ in range(2))
    tensors = [module.weight for module in (w, c, w_bias, c_bias)]
    optimizer = torch.optim.Adagrad(tensors, lr=1.0, initial_accumulator_value=1 / rate**2)
    i_N, j_N, target_N, weight_N = map(torch.from_numpy, pairs)
    i_N, j_N = i_N.long(), j_N.long()
    for k in range(batches):
        part = slice(k * BATCH, (k + 1) * BATCH)
        i, j = i_N[part], j_N[part]
        error = (w(i) * c(j)).sum(1) + (w_bias(i) + c_bias(j)).squeeze(1) - target_N[part]
        optimizer.zero_grad()
        (weight_N[part] * error**2).sum().div(2).backward()
        optimizer.step()


def glove(text: list[str], runs: int, plain_words: int, batches: int) -> list[Row]:
    import torch

    rows = []
    config = GloveConfig(dim=DIM, text="prose", epochs=1)
    rng = np.random.default_rng(0)
    with Spool() as spool, Shuffled(1 << 26, rng) as store:
        reading = read_words(text, config.text, config.min_count, config.max_distinct, spool, None)
        chunks = [spool.read(chunk) for chunk in spool.chunks]
        size = len(reading.vocabulary)
        some = np.concatenate(chunks)[:plain_words].tolist()

        def ours() -> None:
            with PairCounter(size, reading.rows, WINDOW, MEMORY) as counter:
                for ids in chunks:
                    counter.add(ids)
                for _ in counter.pairs():
                    pass

        seconds = interleaved([ours, lambda: plain_counts(some, reading.rows, WINDOW)], runs)
        value, peer_value = spool.words / seconds[0], len(some) / seconds[1]
        rows.append(row("GloVe: count pairs, window 15", "dict", value, peer_value, "words/s", 5, less_is_better=False))

        with PairCounter(size, reading.rows, WINDOW, MEMORY) as counter:
            for ids in chunks:
                counter.add(ids)
            store.fill(counter.most(), counter.pairs())
        parameters = Parameters.initial(size, DIM, 1)
        pairs = next(store.shuffled())
        weight_N = weights(pairs.x_N, config.x_max, config.alpha).astype(np.float32)
        batch = pairs.i_N, pairs.j_N, np.log(pairs.x_N), weight_N
        torch.set_num_threads(1)

        def train(workers: int) -> None:
            fit(store, parameters, GloveConfig(dim=DIM, epochs=1, workers=workers))

        seconds = interleaved(
            [lambda: train(1), lambda: torch_pass(batch, parameters, config.rate, batches), lambda: train(2)], runs
        )
        one, peer_value, two = len(store) / seconds[0], batches * BATCH / seconds[1], len(store) / seconds[2]
        rows.append(row("GloVe: train, 1 worker", "torch", one, peer_value, "pairs/s", 5, less_is_better=False))
        rows.append(row("GloVe: train, 2 workers", "1 worker", two, one, "pairs/s", 1.5, less_is_better=False))
    return rows


def measure(quick: bool) -> list[Row]:
    vectors = random_vectors(20_000 if quick else 400_000)
    runs = 1 if quick else 3
    text = [document.text for document in library.documentation()]
    text = text[:: 10 if quick else 1]
    return [
        *glove(text, runs, 20_000 if quick else 100_000, 20 if quick else 200),
        *files(vectors, 1),
        *questions(WordVectors(vectors.words[:50_000], vectors.matrix_VD[:50_000]), 100 if quick else 1000),
    ]


if __name__ == "__main__":
    main(__doc__ or "", measure)
