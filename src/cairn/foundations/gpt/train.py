"""Training: pieces of a text from anywhere in it, the loss of the next character, AdamW.

The learning rate climbs to its height while the optimizer's averages fill (warm-up) and falls along half a cosine; gradients
longer than `clip` are shortened; matrices decay, norms and biases do not. Everything random comes from the seed: the same
settings on the same machine give the same weights, to the last bit.

>>> from cairn.foundations.gpt.model import GPT, GPTConfig
>>> from cairn.foundations.gpt.text import read_names
>>> corpus = read_names()
>>> model = GPT(GPTConfig(len(corpus.alphabet), context=8, width=16, blocks=1, heads=2))
>>> history = train(model, corpus.training, 8, TrainConfig(steps=60, batch=8, warmup=10, rate=1e-2))
>>> bool(history[0] > 3.2), bool(np.mean(history[-10:]) < 2.9)
(True, True)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cairn.foundations.gpt.text import windows
from cairn.foundations.network import cross_entropy
from cairn.foundations.network.clipping import clip_norm
from cairn.foundations.network.optimizers import AdamW
from cairn.foundations.network.schedules import cosine, warm_up
from cairn.foundations.tensor import Tensor


class Trainable(Protocol):
    """What can be trained: ids (B, T) in, logits (B, T, V) out."""

    def __call__(self, ids_BT: np.ndarray, /) -> Tensor: ...
    def parameters(self) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run."""

    steps: int = 3000
    batch: int = 32  # pieces of text a step
    rate: float = 3e-3  # highest learning rate
    warmup: int = 100  # steps in which the rate climbs
    final: float = 0.1  # share of the rate that is left at the end
    weight_decay: float = 0.1  # of matrices
    beta2: float = 0.99  # how long AdamW remembers the size of gradients; 0.999 is too long for short runs
    clip: float = 1.0  # longest gradient
    seed: int = 0  # of the pieces drawn

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 < self.warmup < self.steps:
            raise ValueError(
                f"steps {self.steps} and warmup {self.warmup}: give 2 steps or more, and 1 to steps - 1 of warmup"
            )
        if self.batch < 1 or self.seed < 0:
            raise ValueError(f"batch {self.batch} and seed {self.seed}: give at least 1 and 0")
        if not 0 < self.rate < np.inf:
            raise ValueError(f"a learning rate of {self.rate}: give a number above 0, such as 0.003")


def train(
    model: Trainable,
    ids_N: np.ndarray,
    context: int,
    config: TrainConfig,
    watch: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train in place to predict the next character; the loss of every step, in nats. watch(step, loss) is called after each."""
    rng = np.random.default_rng(config.seed)

    def next_loss() -> Tensor:
        ids_BT, wanted_BT = windows(ids_N, config.batch, context, rng)
        return cross_entropy(model(ids_BT), wanted_BT)

    return optimize(model.parameters(), next_loss, config, watch)


def optimize(
    weights: dict[str, Tensor],
    next_loss: Callable[[], Tensor],
    config: TrainConfig,
    watch: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Make any loss smaller: `next_loss()` gives that of the next batch, for `config.steps` steps.

    ValueError where the loss is no number any more: weights have grown without bound, and nothing brings them back.
    """
    betas = (0.9, config.beta2)
    matrices = {name: weight for name, weight in weights.items() if weight.ndim > 1}
    others = [weight for name, weight in weights.items() if name not in matrices]
    optimizers = [AdamW(matrices, config.rate, betas, weight_decay=config.weight_decay)]
    if others:
        optimizers.append(AdamW(others, config.rate, betas, weight_decay=0.0))
    schedule = warm_up(config.warmup, cosine(config.steps - config.warmup, config.final))
    history = []
    for step in range(config.steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        with np.errstate(over="ignore", invalid="ignore"):  # the loss tells
            loss = next_loss()
        if not np.isfinite(loss.item()):
            raise ValueError(f"the loss is {loss.item()} at step {step + 1}: choose a smaller rate than {config.rate}")
        loss.backward()
        clip_norm(weights, config.clip)
        for optimizer in optimizers:
            optimizer.lr = config.rate * schedule(step)
            optimizer.step()
        history.append(loss.item())
        watch(step, history[-1])
    return history
