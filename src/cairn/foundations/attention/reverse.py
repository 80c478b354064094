"""A single head that learns to reverse a word: attention trained from nothing, each gradient written out by hand.

The word "stone" goes in, "enots" is wanted. A token is what stands there and where it stands, two one-hot vectors end to end:
x_t = [letter, place]. The head has to find out that the output at place t needs the letter at place T - 1 - t: a query made of
one place must fit a key made of another, and a value must carry the letter along.

    Q = X Wq,  K = X Wk,  V = X Wv,    logits = attend(Q, K, V),    loss = mean of -log softmax(logits)[wanted letter]

The weights of attention begin even and end as one bright line, the other diagonal: what was learned can be seen.

Shapes: B words, T letters in a word, A letters in the alphabet, D = A + T, K size of queries and keys.

>>> head, weights_TT, history = learn(Reverse(steps=150))
>>> bool(history[0] > 1.6), bool(history[-1] < 0.1)     # log(5) = 1.609 is guessing one of 5 letters
(True, True)
>>> weights_TT.argmax(axis=1).tolist()                  # where each place looks
[5, 4, 3, 2, 1, 0]
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cairn.foundations.attention.scaled_dot_product import attend, attend_backward
from cairn.foundations.attention.softmax import softmax


@dataclass(frozen=True)
class Reverse:
    """Settings of the exercise."""

    letters: int = 5  # of the alphabet
    length: int = 6  # of a word
    size: int = 8  # of queries and keys
    words: int = 64  # in a batch
    steps: int = 300
    rate: float = 3.0  # of plain gradient descent
    seed: int = 0


Head = dict[str, np.ndarray]  # wq (D, K), wk (D, K), wv (D, A)


def draw_words(settings: Reverse, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (B, T, D), and the letters wanted (B, T)."""
    word_BT = rng.integers(settings.letters, size=(settings.words, settings.length))
    place_BTT = np.broadcast_to(np.eye(settings.length), (settings.words, settings.length, settings.length))
    return np.concatenate([np.eye(settings.letters)[word_BT], place_BTT], axis=-1), word_BT[:, ::-1]


def loss_and_gradients(head: Head, x_BTD: np.ndarray, wanted_BT: np.ndarray) -> tuple[float, Head, np.ndarray]:
    """Mean loss in nats, gradients of the three matrices, and the weights of attention (B, T, T).

    The gradient of -log softmax(z)[wanted] is softmax(z) - onehot(wanted): from there it is matrix products back to the
    weights. dL/dW of Q = X W is X^T dL/dQ, summed over the batch.
    """
    q, k, v = (x_BTD @ head[name] for name in ("wq", "wk", "wv"))
    logits_BTA, weights_BTT = attend(q, k, v)
    p_BTA = softmax(logits_BTA)
    onehot_BTA = np.eye(p_BTA.shape[-1])[wanted_BT]
    loss = -np.log((p_BTA * onehot_BTA).sum(axis=-1)).mean()
    grads = attend_backward((p_BTA - onehot_BTA) / wanted_BT.size, q, k, v, weights_BTT)
    by_name = {name: np.einsum("btd,btk->dk", x_BTD, grad) for name, grad in zip(("wq", "wk", "wv"), grads)}
    return float(loss), by_name, weights_BTT


def learn(
    settings: Reverse, watch: Callable[[int, np.ndarray], None] = lambda step, weights_TT: None
) -> tuple[Head, np.ndarray, list[float]]:
    """The head, its weights of attention averaged over the last batch (T, T), and the loss of every step.

    watch(step, weights_TT) is called before each step.
    """
    rng = np.random.default_rng(settings.seed)
    width = settings.letters + settings.length
    sizes = {"wq": settings.size, "wk": settings.size, "wv": settings.letters}
    head = {name: rng.normal(0, width**-0.5, (width, size)) for name, size in sizes.items()}
    history, mean_TT = [], np.empty(0)
    for step in range(settings.steps):
        loss, grads, weights_BTT = loss_and_gradients(head, *draw_words(settings, rng))
        mean_TT = weights_BTT.mean(axis=0)
        watch(step, mean_TT)
        history.append(loss)
        for name, grad in grads.items():
            head[name] -= settings.rate * grad
    return head, mean_TT, history
