"""How well a model knows a text that it has not seen: its loss beside those of counting, with intervals.

A model sees `context` characters at most. The held-out text is cut into windows that overlap by half, and of each only the
characters count that were not counted before: every character is asked once, and, after the first window, with at least half
a context in front of it. The same characters are asked of the counting models, so the difference can be taken character by
character; its interval is narrower than those of the two losses, because a hard name is hard for both.

A model here is anything that is called with ids (B, T) and gives logits (B, T, V) as a Tensor.

>>> from cairn.foundations.gpt.text import read_names
>>> from cairn.foundations.tensor import Tensor
>>> corpus = read_names()
>>> even = lambda ids_BT: Tensor(np.zeros((*ids_BT.shape, 27)))
>>> for row in compare(even, corpus, context=16):
...     print(row)
guessing     3.296 +- 0.000 nats a character
unigram      2.794 +- 0.044
bigram       2.410 +- 0.072
trigram      2.381 +- 0.111
this model   3.296 +- 0.000
less than the bigram by -0.886 +- 0.072
"""

from collections.abc import Callable

import numpy as np

from cairn.foundations.gpt.ngrams import NGram, mean_loss
from cairn.foundations.gpt.text import Corpus
from cairn.foundations.tensor import Tensor, no_grad

Model = Callable[[np.ndarray], Tensor]
ORDERS = {"unigram": 1, "bigram": 2, "trigram": 3}


def losses(model: Model, ids_N: np.ndarray, context: int, batch: int = 64) -> np.ndarray:
    """-log p of each character from the second on, (N - 1,), in nats. batch: windows at a time."""
    asked = len(ids_N) - 1
    if asked < 1:
        raise ValueError("a text of less than 2 characters has nothing to predict")
    context = min(context, asked)
    starts = [*range(0, asked - context, max(context // 2, 1)), asked - context]
    found, known = np.empty(asked), 0
    for first in range(0, len(starts), batch):
        some = starts[first : first + batch]
        piece_BT = ids_N[np.array(some)[:, None] + np.arange(context + 1)]
        for start, row in zip(some, _window_losses(model, piece_BT)):
            found[known : start + context] = row[known - start :]
            known = start + context
    assert known == asked
    return found


def _window_losses(model: Model, piece_BT: np.ndarray) -> np.ndarray:
    with no_grad():
        logits_BTV = model(piece_BT[:, :-1]).numpy().astype(np.float64)
    logits_BTV -= logits_BTV.max(axis=-1, keepdims=True)
    wanted_BT = np.take_along_axis(logits_BTV, piece_BT[:, 1:, None], axis=-1)[..., 0]
    return np.log(np.exp(logits_BTV).sum(axis=-1)) - wanted_BT


def compare(model: Model, corpus: Corpus, context: int) -> list[str]:
    """Lines of a table: losses on the held-out text, each with its 95 % interval."""
    symbols = len(corpus.alphabet)
    found = {"guessing": np.full(len(corpus.held_out) - 1, np.log(symbols))}
    for name, order in ORDERS.items():
        found[name] = NGram(corpus.training, symbols, order).losses(corpus.held_out)
    found["this model"] = losses(model, corpus.held_out, context)
    lines = [f"{name:12} {mean_loss(values)}" for name, values in found.items()]
    lines[0] += " nats a character"
    return [*lines, f"less than the bigram by {mean_loss(found['bigram'] - found['this model'])}"]
