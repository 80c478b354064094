"""Words as points: a picture of some of them on a plane, and the files that TensorFlow's Embedding Projector opens."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cairn.core.errors import UserError
from cairn.core.files import atomic_file, write_text
from cairn.embeddings.tsne import tsne
from cairn.embeddings.vectors import WordVectors

METHODS = ("pca", "tsne")
MOST_POINTS = 2000  # more are neither legible nor quickly compared all with all
INCHES, POINTS_AN_INCH = 9.0, 72.0
LETTER_WIDTH, LINE_HEIGHT = 0.62, 1.25  # of the size of letters, in points
# Where a label may stand beside its point: its left end's share of its width, its lower end's of its height.
PLACES = ((0.0, -0.5), (-1.0, -0.5), (-0.5, 0.1), (-0.5, -1.1), (0.0, 0.1), (-1.0, 0.1), (0.0, -1.1), (-1.0, -1.1))


def pca(x_ND: np.ndarray, components: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(float64[N, components], share of the variance of each): the directions in which the points differ most.

    By singular values of the centred points. The sign of a component is free; the largest coordinate is made positive.

    >>> points, shares = pca(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    >>> points[:, 0].round(3).tolist(), shares.round(3).tolist()
    ([-1.414, 0.0, 1.414], [1.0, 0.0])
    """
    centred_ND = np.asarray(x_ND, np.float64) - np.mean(x_ND, axis=0, dtype=np.float64)
    u_NK, s_K, v_KD = np.linalg.svd(centred_ND, full_matrices=False)
    signs_K = np.sign(v_KD[np.arange(len(v_KD)), np.abs(v_KD).argmax(axis=1)])
    total = (s_K**2).sum() or 1.0
    return (u_NK * s_K * signs_K)[:, :components], (s_K**2 / total)[:components]


def chosen(vectors: WordVectors, words: Sequence[str], count: int) -> list[str]:
    """The words given, each once, or else the `count` most frequent. Raises UserError where one has no vector."""
    found = list(dict.fromkeys(words)) or vectors.words[:count]
    for word in found:
        vectors.vector(word)
    if not 4 <= len(found) <= MOST_POINTS:
        raise UserError(f"a picture needs 4 to {MOST_POINTS:,} words, got {len(found)}")
    return found


def project(vectors: WordVectors, words: Sequence[str], method: str = "pca") -> np.ndarray:
    """float64[N, 2]: words on a plane, by directions alone (vectors of length 1): cosines are what vectors are used by."""
    if method not in METHODS:
        raise UserError(f"unknown way {method!r} to a plane; known: {', '.join(METHODS)}")
    rows_ND = np.stack([vectors.vector(word) for word in words]).astype(np.float64)
    lengths_N = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    rows_ND /= np.where(lengths_N > 0, lengths_N, 1.0)
    points_NK, _ = pca(rows_ND)
    plane_N2 = np.zeros((len(words), 2))
    plane_N2[:, : points_NK.shape[1]] = points_NK
    return tsne(rows_ND, start_N2=plane_N2) if method == "tsne" else plane_N2


def picture(vectors: WordVectors, words: Sequence[str], path: Path | str, method: str = "pca", title: str = "") -> Path:
    """Draw the words on a plane, each point with its word beside it, as .svg or .png."""
    from cairn.foundations.picture import new_figure, save

    path = Path(path)
    if path.suffix not in (".svg", ".png"):
        raise UserError(f"{path}: a picture is written as .svg or .png")
    plane_N2 = project(vectors, words, method)
    size = 9.0 if len(words) <= 150 else 6.0 if len(words) <= 600 else 4.0
    figure, (axes,) = new_figure(size=(INCHES, INCHES))
    axes.scatter(*plane_N2.T, s=8, color="#4878a8")
    span_2 = np.maximum(np.ptp(plane_N2, axis=0), 1e-9)
    low_2 = plane_N2.min(axis=0) - 0.04 * span_2
    points_N2 = (plane_N2 - low_2) / (1.08 * span_2) * INCHES * POINTS_AN_INCH * 0.94
    for word, point_2, (dx, dy) in zip(words, plane_N2, label_offsets(points_N2, words, size)):
        axes.annotate(_plain(word), point_2, (dx, dy), textcoords="offset points", fontsize=size, va="bottom")
    axes.set(xlim=(low_2[0], low_2[0] + 1.08 * span_2[0]), ylim=(low_2[1], low_2[1] + 1.08 * span_2[1]))
    axes.set(xticks=[], yticks=[])
    axes.set_title(title or f"{len(words)} words ({'t-SNE' if method == 'tsne' else 'principal components'})")
    return save(figure, path)


def label_offsets(points_N2: np.ndarray, words: Sequence[str], size: float) -> list[tuple[float, float]]:
    """Where each label's lower left corner goes, from its point (all in points of 1/72 inch): to the place among eight
    around it where it covers least of the labels placed before and of other words' points.
    """
    boxes = np.zeros((0, 4))  # left, low, right, high
    dots = np.concatenate([points_N2 - 2, points_N2 + 2], axis=1)
    offsets = []
    for number, (word, point_2) in enumerate(zip(words, points_N2)):
        extent_2 = np.array([LETTER_WIDTH * size * len(word), LINE_HEIGHT * size])
        others = np.concatenate([boxes, np.delete(dots, number, axis=0)])
        best, least = (0.0, 0.0), np.inf
        for share_2 in PLACES:
            offset_2 = share_2 * extent_2 + np.sign(np.array(share_2) + 0.5) * 3
            low_2 = point_2 + offset_2
            overlap_M2 = np.minimum(others[:, 2:], low_2 + extent_2) - np.maximum(others[:, :2], low_2)
            covered = np.prod(np.maximum(overlap_M2, 0.0), axis=1).sum()
            if covered < least:
                best, least = (float(offset_2[0]), float(offset_2[1])), covered
        boxes = np.concatenate([boxes, [[*(point_2 + best), *(point_2 + best + extent_2)]]])
        offsets.append(best)
    return offsets


def _plain(word: str) -> str:
    """As matplotlib shows it: two dollar signs would begin a formula."""
    return word.replace("$", r"\$")


def export(vectors: WordVectors, words: Sequence[str], folder: Path | str) -> tuple[Path, Path]:
    """Write vectors.tsv and metadata.tsv, the pair that projector.tensorflow.org and TensorBoard's projector load."""
    folder = Path(folder)
    with atomic_file(folder / "vectors.tsv") as file:
        for word in words:
            file.write("\t".join(str(float(value)) for value in vectors.vector(word)).encode() + b"\n")
    known = vectors.counts is not None
    rows = ["word\tcount"] if known else []  # of one column alone the projector takes no heading
    for word in words:
        name = "".join(" " if character in "\t\r\n" else character for character in word)
        place = vectors.index.get(word)
        seen = 0 if place is None or vectors.counts is None else int(vectors.counts[place])
        rows.append(f"{name}\t{seen}" if known else name)
    write_text(folder / "metadata.tsv", "\n".join(rows) + "\n")
    return folder / "vectors.tsv", folder / "metadata.tsv"
