"""The settings of word2vec and fastText; the defaults are those of the papers and of gensim."""

from dataclasses import dataclass

from cairn.core.config import option
from cairn.core.errors import UserError

# Words of a sentence, at most: a text without line ends is cut. As in gensim.
LONGEST_SENTENCE = 10_000

# Beyond these nothing is gained, and memory is asked for that no machine has. Files of more dimensions are not read.
MOST = {
    "dim": 1 << 14,
    "window": LONGEST_SENTENCE,
    "negative": 10_000,
    "noise_power": 10,
    "epochs": 100_000,
    "workers": 1024,
}


@dataclass(frozen=True)
class VectorConfig:
    """What every method is told: how words are read and counted, and how it runs."""

    dim: int = option(100, "numbers in a vector", minimum=1)
    min_count: int = option(5, "words seen fewer times are ignored", minimum=1)
    max_distinct: int = option(
        20_000_000, "different words counted, frequent or not; those that first appear later are ignored", minimum=2
    )
    text: str = option(
        "lines",
        "lines: each line is a sentence, its words stand between spaces; prose: running text, sentences end at . ! ? or a "
        "blank line, words are runs of letters and digits in lower case",
        choices=("lines", "prose"),
    )
    workers: int = option(1, "threads; with one the result is the same each time, with several nearly", minimum=1)
    seed: int = option(1, "seed of every random number", minimum=0)

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            value = getattr(self, name, 0)
            if value > most:
                raise UserError(f"{name} must be at most {most:,}, got {value:,}")


@dataclass(frozen=True)
class Word2VecConfig(VectorConfig):
    """Mikolov et al. 2013, "Efficient estimation of word representations" and "Distributed representations of words"."""

    model: str = option(
        "skipgram",
        "skipgram: a word tells each of its neighbours; cbow: the mean of the neighbours tells the word",
        choices=("skipgram", "cbow"),
    )
    loss: str = option(
        "negative-sampling",
        "negative-sampling: a word against some drawn at random; hierarchical-softmax: the turns in a Huffman tree",
        choices=("negative-sampling", "hierarchical-softmax"),
    )
    window: int = option(5, "neighbours on each side, at most; each word draws its own number up to this", minimum=1)
    negative: int = option(5, "words drawn against each right one, with negative sampling", minimum=1)
    noise_power: float = option(0.75, "these words are drawn by their counts to this power", minimum=0.0)
    sample: float = option(1e-3, "words of a larger share of the text are left out now and then; 0: never", minimum=0.0)
    epochs: int = option(5, "passes over the text", minimum=1)
    rate: float = option(0.025, "learning rate at the start", minimum=0.0)
    final_rate: float = option(0.0001, "learning rate at the end; it falls in a straight line", minimum=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final_rate > self.rate:
            raise UserError(f"final_rate {self.final_rate:g} is above rate {self.rate:g}: the learning rate falls")
        if self.rate > 1:
            raise UserError(f"rate must be at most 1, got {self.rate:g}: the vectors would only jump about")
        if self.sample >= 1:
            raise UserError(f"sample must be a share of the text below 1, got {self.sample:g}")


@dataclass(frozen=True)
class FastTextConfig(Word2VecConfig):
    """Bojanowski et al. 2017, "Enriching word vectors with subword information"."""

    min_n: int = option(3, "characters of the shortest n-grams; < and > mark where a word begins and ends", minimum=1)
    max_n: int = option(6, "characters of the longest n-grams", minimum=1)
    buckets: int = option(2_000_000, "vectors that all n-grams share, by a hash", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_n < self.min_n:
            raise UserError(f"max_n {self.max_n} is below min_n {self.min_n}: no n-gram would be left")
        if self.buckets > 1 << 30:
            raise UserError(f"buckets must be at most {1 << 30:,}, got {self.buckets:,}")
