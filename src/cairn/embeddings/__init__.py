"""Word vectors: word2vec, GloVe and fastText, what can be asked of them, and the files others read."""

from cairn.embeddings.config import FastTextConfig, Word2VecConfig
from cairn.embeddings.fasttext import SubwordVectors, train_fasttext
from cairn.embeddings.formats import open_vectors, read_vectors, write_vectors
from cairn.embeddings.glove import GloveConfig, train_glove
from cairn.embeddings.vectors import Neighbour, WordVectors
from cairn.embeddings.word2vec import train_word2vec

__all__ = [
    "FastTextConfig",
    "GloveConfig",
    "Neighbour",
    "SubwordVectors",
    "Word2VecConfig",
    "WordVectors",
    "open_vectors",
    "read_vectors",
    "train_fasttext",
    "train_glove",
    "train_word2vec",
    "write_vectors",
]
