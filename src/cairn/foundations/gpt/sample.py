r"""Sampling: the model says how likely each character is next, one is drawn and written down, and the model is asked again.

Temperature divides the scores before the softmax: below 1 the likely becomes likelier, at 0 only the likeliest is left;
above 1 the draw is more daring. top-k draws from the k likeliest alone.

The whole text so far (its last `context` characters) is read anew for each character. For T characters that is T times as
much work as needed; a key-value cache, which keeps what earlier places have calculated, saves it in models that are used.

>>> from cairn.foundations.tensor import Tensor
>>> ask = lambda ids_BT: Tensor(np.eye(3)[(ids_BT + 1) % 3] * 100.0)      # always the next of three characters
>>> write(ask, np.array([0]), 5, context=4, settings=SampleConfig(count=1)).tolist()
[[0, 1, 2, 0, 1, 2]]
>>> pick(np.array([[0.0, 1.0, 2.0]]), SampleConfig(temperature=0.0), np.random.default_rng(0))
array([2])
>>> pick(np.tile([3.0, 2.0, 1.0, 0.0], (6, 1)), SampleConfig(top_k=2), np.random.default_rng(0))
array([0, 0, 0, 0, 1, 1])
"""

from dataclasses import dataclass

import numpy as np

from cairn.foundations.attention.softmax import softmax
from cairn.foundations.gpt.evaluate import Model
from cairn.foundations.gpt.text import Alphabet
from cairn.foundations.tensor import no_grad


@dataclass(frozen=True)
class SampleConfig:
    """Settings of sampling."""

    count: int = 10  # texts
    temperature: float = 1.0  # 0: always the likeliest
    top_k: int = 0  # draw from so many; 0: from all
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or not self.temperature >= 0 or min(self.top_k, self.seed) < 0:
            raise ValueError(f"{self}: count must be at least 1; temperature, top_k and seed at least 0")


def pick(logits_BV: np.ndarray, settings: SampleConfig, rng: np.random.Generator) -> np.ndarray:
    """One id for each row (B,)."""
    if settings.temperature == 0:
        return logits_BV.argmax(axis=-1)
    scores_BV = logits_BV.astype(np.float64)
    with np.errstate(over="ignore"):  # close to 0 all but the likeliest go to -inf: they are never drawn
        scores_BV = (scores_BV - scores_BV.max(axis=-1, keepdims=True)) / settings.temperature
    if 0 < settings.top_k < scores_BV.shape[-1]:
        unlikely_BV = np.argsort(-scores_BV, axis=-1, kind="stable")[:, settings.top_k :]
        np.put_along_axis(scores_BV, unlikely_BV, -np.inf, axis=-1)
    # The shares laid end to end cover 0 to 1: a point drawn there falls on each as often as its share says.
    ends_BV = softmax(scores_BV).cumsum(axis=-1)
    return (rng.random((len(ends_BV), 1)) * ends_BV[:, -1:] < ends_BV).argmax(axis=-1)


def write(model: Model, prompt_T: np.ndarray, length: int, context: int, settings: SampleConfig) -> np.ndarray:
    """`count` texts that begin with the prompt, `length` characters longer: ids (count, T + length)."""
    if len(prompt_T) < 1:
        raise ValueError("the prompt is empty: give at least one character, such as a newline")
    if length < 0 or context < 1:
        raise ValueError(f"length {length} and context {context}: give at least 0 and 1")
    rng = np.random.default_rng(settings.seed)
    ids_BT = np.tile(prompt_T, (settings.count, 1))
    with no_grad():
        for _ in range(length):
            logits_BV = model(ids_BT[:, -context:]).numpy()[:, -1]
            ids_BT = np.concatenate([ids_BT, pick(logits_BV, settings, rng)[:, None]], axis=1)
    return ids_BT


def write_lines(
    model: Model, alphabet: Alphabet, context: int, settings: SampleConfig, start: str = "", longest: int = 24
) -> list[str]:
    """`count` lines that begin with `start`, each up to its newline or `longest` characters more: names, for a model of names."""
    ids_BT = write(model, alphabet.encode("\n" + start), longest, context, settings)
    return [alphabet.decode(ids_T[1:]).split("\n")[0] for ids_T in ids_BT]
