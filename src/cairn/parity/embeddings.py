"""Word vectors, their files and what is asked of them against gensim and SciPy; GloVe against torch's own gradients and AdaGrad.

gensim computes cosines in float32, so that two words almost equally near may change places; the words below are drawn so far
apart that none do.
"""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cairn.corpus import Quarantine
from cairn.embeddings.analogies import answers, evaluate, read_questions
from cairn.embeddings.formats import read_vectors, write_vectors
from cairn.embeddings.glove import Parameters, loss_and_gradients
from cairn.embeddings.projector import pca
from cairn.embeddings.similarity import correlate, pearson, read_pairs, spearman
from cairn.embeddings.tsne import neighbour_probabilities, squared_distances
from cairn.embeddings.vectors import WordVectors
from cairn.parity import Check

LETTERS = "abcdefghijklmnopqrstuvwxyzäßπж数🪨.-'"
STEPS = 50


def some_vectors(seed: int, words: int = 60, dim: int = 11) -> WordVectors:
    """Random words of several scripts, lower-case and capitalised, with vectors of very different sizes."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    names: dict[str, None] = {}
    while len(names) < words:
        word = "".join(draw.choices(LETTERS, k=draw.randint(1, 9)))
        names.update(dict.fromkeys((word, word.capitalize()) if draw.random() < 0.3 else (word,)))
    matrix_VD = rng.standard_normal((len(names), dim)) * 10.0 ** rng.integers(-6, 4, (len(names), 1))
    return WordVectors(list(names), matrix_VD.astype(np.float32))


def keyed(vectors: WordVectors) -> Any:
    """The same vectors in gensim."""
    from gensim.models import KeyedVectors

    theirs = KeyedVectors(vectors.dim)
    theirs.add_vectors(vectors.words, vectors.matrix_VD)
    return theirs


def _apart(ours: WordVectors, theirs: Any) -> float:
    """Largest difference of a number; infinite where the words differ."""
    if ours.words != theirs.index_to_key:
        return float("inf")
    return float(np.abs(ours.matrix_VD.astype(np.float64) - theirs.vectors).max())


def files(form: str, suffix: str) -> Callable[[int], float]:
    """What we write, read by gensim, and what gensim writes, read by us."""

    def run(seed: int) -> float:
        from gensim.models import KeyedVectors

        vectors = some_vectors(seed)
        theirs = keyed(vectors)
        shape: dict[str, Any] = {"binary": form == "binary"}
        with tempfile.TemporaryDirectory() as folder:
            ours_file, their_file = (str(Path(folder) / (name + suffix)) for name in ("ours", "theirs"))
            write_vectors(vectors, ours_file, form)
            read = KeyedVectors.load_word2vec_format(ours_file, no_header=form == "glove", **shape)
            theirs.save_word2vec_format(their_file, write_header=form != "glove", **shape)
            return max(_apart(vectors, read), _apart(read_vectors(their_file), theirs))

    return run


def nearest(seed: int) -> float:
    """Largest difference of a cosine among the ten nearest of every word."""
    vectors = some_vectors(seed)
    theirs, worst = keyed(vectors), 0.0
    for word in vectors.words:
        for ours, (name, cosine) in zip(vectors.nearest(word, 10), theirs.most_similar(word, topn=10), strict=True):
            worst = max(worst, abs(ours.similarity - cosine) if ours.word == name else float("inf"))
    return worst


def ranked(seed: int) -> float:
    """Spearman's and Pearson's correlation of numbers with many ties."""
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, 200), rng.integers(0, 9, 200) + rng.integers(0, 2, 200) * 0.5
    theirs: list[Any] = [spearmanr(a, b), pearsonr(a, b)]
    return max(abs(spearman(a, b) - theirs[0].statistic), abs(pearson(a, b) - theirs[1].statistic))


def pairs(seed: int) -> float:
    """Both correlations over a file with unknown words, other capitals and a line that is none, and the share unknown."""
    vectors, draw = some_vectors(seed), random.Random(seed)
    known = [word for word in vectors.words if "," not in word]
    lines = ["# a comment", "word\tword\tnot a number"]
    for _ in range(80):
        words = [draw.choice([draw.choice(known), draw.choice(known).upper(), "unheard-of"]) for _ in range(2)]
        lines.append("\t".join([*words, f"{draw.randint(0, 20) / 2}"]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.tsv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        ours = correlate(vectors, read_pairs(file, Quarantine()))
        theirs = keyed(vectors).evaluate_word_pairs(str(file))
    errors = ours.pearson - theirs[0][0], ours.spearman - theirs[1][0], (1 - ours.known / ours.pairs) * 100 - theirs[2]
    return float(np.abs(errors).max())


def _analogies(seed: int) -> tuple[WordVectors, str]:
    """Vectors in which about half of the analogies hold, and a file of questions."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    vectors = some_vectors(seed, 120)
    matrix_VD = rng.standard_normal((len(vectors), vectors.dim))
    stems = draw.sample(range(len(vectors) // 2), 20)
    offset_D = rng.standard_normal(vectors.dim) * 1.5
    for stem in stems:
        matrix_VD[stem + len(vectors) // 2] = matrix_VD[stem] + offset_D * draw.uniform(0.5, 1.5)
    lines = []
    for section in ("first", "gram second"):
        lines.append(f": {section}")
        for a, c in ((draw.choice(stems), draw.choice(stems)) for _ in range(60)):
            numbers = (a, a + len(vectors) // 2, c, c + len(vectors) // 2)
            words = [vectors.words[number] for number in numbers]
            lines.append(" ".join(words if draw.random() < 0.9 else [*words[:3], "unheard-of"]))
    return WordVectors(vectors.words, matrix_VD), "\n".join(lines) + "\n"


def analogies(seed: int) -> float:
    """Largest difference of a section's right answers, or of its known questions."""
    vectors, text = _analogies(seed)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "questions.txt"
        file.write_text(text, encoding="utf-8")
        ours = evaluate(vectors, read_questions(file, Quarantine()))
        _, theirs = keyed(vectors).evaluate_word_analogies(str(file))
    named = {found.section: found.score for found in ours}
    worst = 0.0
    for section in theirs:
        score = named["all" if section["section"] == "Total accuracy" else section["section"]]
        right, wrong = len(section["correct"]), len(section["incorrect"])
        worst = max(worst, abs(score.score * score.n - right), abs(score.n - right - wrong))
    return worst


def multiplied(seed: int) -> float:
    """Largest difference of a score among the five best answers by 3CosMul."""
    vectors, text = _analogies(seed)
    theirs, worst = keyed(vectors), 0.0
    for a, b, c, _ in (line.split() for line in text.splitlines() if not line.startswith(":")):
        wanted = theirs.most_similar_cosmul([b, c], [a], topn=5)
        for ours, (name, score) in zip(answers(vectors, a, b, c, 5, "mul"), wanted, strict=True):
            worst = max(worst, abs(ours.similarity - score) if ours.word == name else float("inf"))
    return worst


def components(seed: int) -> float:
    """Points on two principal components, up to their signs, and the components' shares of the variance."""
    from sklearn.decomposition import PCA

    x_ND = np.random.default_rng(seed).standard_normal((40, 7)) * np.arange(1, 8)
    theirs = PCA(2)
    wanted_N2 = theirs.fit_transform(x_ND)
    points_N2, shares = pca(x_ND)
    return float(
        max(
            np.abs(np.abs(points_N2) - np.abs(wanted_N2)).max(), np.abs(shares - theirs.explained_variance_ratio_).max()
        )
    )


def neighbours(seed: int) -> float:
    """Largest difference of a joint probability, relative to the largest; the oracle's are float32."""
    from scipy.spatial.distance import squareform
    from sklearn.manifold import _t_sne

    x_ND = np.random.default_rng(seed).standard_normal((60, 9))
    wanted_NN = squareform(_t_sne._joint_probabilities(squared_distances(x_ND).astype(np.float32), 12.0, 0))
    return float(np.abs(neighbour_probabilities(x_ND, 12.0) - wanted_NN).max() / wanted_NN.max())


def _glove(seed: int) -> tuple[Parameters, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Parameters in float64, and pairs with their targets and weights, some words several times."""
    rng = np.random.default_rng(seed)
    parameters = Parameters(*(rng.standard_normal(shape) for shape in ((13, 5), (13, 5), 13, 13)))
    i_N, j_N = (rng.integers(0, 13, 40).astype(np.int32) for _ in range(2))
    return parameters, (i_N, j_N, rng.standard_normal(40), rng.random(40))


def _torch_loss(tensors: Any, i_N: Any, j_N: Any, target_N: Any, weight_N: Any) -> Any:
    import torch

    w_VD, c_VD, w_bias_V, c_bias_V = tensors
    i, j = torch.from_numpy(i_N).long(), torch.from_numpy(j_N).long()
    error_N = (w_VD[i] * c_VD[j]).sum(1) + w_bias_V[i] + c_bias_V[j] - torch.from_numpy(target_N)
    return (torch.from_numpy(weight_N) * error_N**2).sum() / 2


def glove_gradient(seed: int) -> float:
    """Largest difference of the loss and of a gradient."""
    import torch

    parameters, batch = _glove(seed)
    tensors: Any = [torch.from_numpy(array.copy()).requires_grad_() for array in parameters]
    wanted = _torch_loss(tensors, *batch)
    wanted.backward()
    loss, gradients = loss_and_gradients(*batch, parameters)
    errors = [np.abs(ours - theirs.grad.numpy()).max() for ours, theirs in zip(gradients, tensors)]
    return float(max(abs(loss - wanted.item()), *errors))


def glove_steps(seed: int) -> float:
    """Largest difference of a parameter after 50 steps of the kernel, each on one pair."""
    import torch

    from cairn.kernels.glove import train_pairs

    rate = 0.05
    parameters, batch = _glove(seed)
    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in parameters]
    oracle = torch.optim.Adagrad(tensors, lr=1.0, initial_accumulator_value=1 / rate**2, eps=0.0)
    picked = np.random.default_rng(seed).integers(0, len(batch[0]), STEPS)
    for n in picked:
        oracle.zero_grad()
        _torch_loss(tensors, *(part[n : n + 1] for part in batch)).backward()
        oracle.step()
    sums = Parameters(*map(np.ones_like, parameters))
    train_pairs(*(np.ascontiguousarray(part[picked]) for part in batch), rate, *parameters, sums)
    return float(max(np.abs(ours - theirs.detach().numpy()).max() for ours, theirs in zip(parameters, tensors)))


CHECKS = [
    Check("word vectors: word2vec's text, both ways", "gensim", 0.0, files("text", ".txt")),
    Check("word vectors: word2vec's text packed, both ways", "gensim", 0.0, files("text", ".vec.gz")),
    Check("word vectors: word2vec's binary, both ways", "gensim", 0.0, files("binary", ".bin")),
    Check("word vectors: GloVe's text, both ways", "gensim", 0.0, files("glove", ".txt")),
    Check("word vectors: ten nearest, cosines", "gensim", 1e-6, nearest),
    Check("word vectors: Spearman and Pearson with ties", "scipy", 1e-12, ranked),
    Check("word vectors: similarity of word pairs", "gensim", 1e-5, pairs),
    Check("word vectors: analogies by 3CosAdd, right answers", "gensim", 1e-9, analogies),
    Check("word vectors: analogies by 3CosMul, scores", "gensim", 1e-5, multiplied),
    Check("word vectors: principal components", "scikit-learn", 1e-10, components),
    Check("word vectors: t-SNE's probabilities, relative", "scikit-learn", 1e-4, neighbours),
    Check("GloVe: loss and gradient, float64", "torch", 1e-10, glove_gradient),
    Check("GloVe: 50 steps of AdaGrad, float64", "torch", 1e-10, glove_steps),
]
