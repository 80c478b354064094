r"""A whole small GPT in NumPy, trained on names or on any text, a character at a time.

Read in this order: `text` (characters as numbers), `ngrams` (what counting reaches), `model` (GPT-2), `train`, `evaluate`
(is it better than counting?), `sample` (what does it write?), `save`.

>>> from cairn.foundations.gpt import GPT, GPTConfig, SampleConfig, read_names, write_lines
>>> corpus = read_names()
>>> untrained = GPT(GPTConfig(len(corpus.alphabet), context=8, width=16, blocks=1))
>>> len(write_lines(untrained, corpus.alphabet, 8, SampleConfig(count=3), start="a"))
3
"""

from cairn.foundations.gpt.evaluate import compare, losses
from cairn.foundations.gpt.model import GPT, GPTConfig
from cairn.foundations.gpt.ngrams import Loss, NGram, mean_loss
from cairn.foundations.gpt.sample import SampleConfig, pick, write, write_lines
from cairn.foundations.gpt.save import load, save
from cairn.foundations.gpt.text import Alphabet, Corpus, read_names, read_text, windows
from cairn.foundations.gpt.train import TrainConfig, optimize, train

__all__ = [
    "GPT",
    "Alphabet",
    "Corpus",
    "GPTConfig",
    "Loss",
    "NGram",
    "SampleConfig",
    "TrainConfig",
    "compare",
    "load",
    "losses",
    "mean_loss",
    "optimize",
    "pick",
    "read_names",
    "read_text",
    "save",
    "train",
    "windows",
    "write",
    "write_lines",
]
