"""word2vec: words that stand in the same company get near vectors.

    vectors = train_word2vec("wiki.txt", Word2VecConfig(model="skipgram", dim=100, workers=2))
    vectors.nearest("lobster", 5)

Mikolov et al. 2013; the reference for every choice is gensim 4, which follows word2vec.c.
"""

from cairn.corpus import Quarantine
from cairn.embeddings.config import Word2VecConfig
from cairn.embeddings.plain import Bags
from cairn.embeddings.spool import Spool
from cairn.embeddings.stream import Source
from cairn.embeddings.training import initial, prepare, train
from cairn.embeddings.vectors import WordVectors


def train_word2vec(
    source: Source, config: Word2VecConfig | None = None, quarantine: Quarantine | None = None
) -> WordVectors:
    """Train on a file, a folder, a corpus directory, or an iterable of texts (strings) and sentences (lists of words).

    The source is read once and may be larger than memory: what grows is the vocabulary, 4 x dim x 2 bytes a word, and a
    temporary file of four bytes a word of text. Raises UserError for a source without enough words.

    >>> stones = [["cairn", "marks", "trail"], ["stone", "marks", "trail"]] * 20
    >>> vectors = train_word2vec(stones, Word2VecConfig(dim=8, min_count=1))
    >>> vectors.words, vectors.vector("cairn").shape
    (['marks', 'trail', 'cairn', 'stone'], (8,))
    """
    config = config or Word2VecConfig()
    with Spool() as spool:
        prepared = prepare(source, config, spool, quarantine)
        words = len(prepared.vocabulary)
        inputs_VD = initial(words, config.dim, 0.5 / config.dim, config.seed)
        train(spool, prepared, Bags.of_words(words), inputs_VD, config)
    return WordVectors(prepared.vocabulary.words, inputs_VD, prepared.vocabulary.counts)
