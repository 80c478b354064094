"""Demonstrations of this chapter: gradients that fade, a task that needs them, and names from an LSTM.

>>> list(DEMOS)
['recurrent-gradients', 'recurrent-recall', 'recurrent-names']
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cairn.foundations.demo import Demo
from cairn.foundations.gpt.evaluate import compare
from cairn.foundations.gpt.sample import SampleConfig, write_lines
from cairn.foundations.gpt.text import read_names
from cairn.foundations.gpt.train import TrainConfig
from cairn.foundations.picture import new_figure, save
from cairn.foundations.recurrent.gradient_flow import gradient_norms, open_gate, set_spectral_norm
from cairn.foundations.recurrent.language_model import RecurrentConfig, RecurrentModel
from cairn.foundations.recurrent.layers import RecurrentLayer
from cairn.foundations.recurrent.recall import Recall, learn
from cairn.foundations.recurrent.truncated import train_truncated


def draw_gradients(out: Path) -> list[str]:
    """Length of the gradient by its distance from the loss, for fresh cells."""
    steps, inputs, size = 100, 16, 64
    x_BTD = np.random.default_rng(1).normal(size=(8, steps, inputs))

    def fresh(kind: str) -> RecurrentLayer:
        return RecurrentLayer(kind, inputs, size, np.random.default_rng(0))

    cells = {
        "tanh": fresh("tanh"),
        "tanh, rotation × 1": set_spectral_norm(fresh("tanh"), 1.0),
        "relu, rotation × 2": set_spectral_norm(fresh("relu"), 2.0),
        "GRU": fresh("gru"),
        "LSTM": fresh("lstm"),
        "LSTM, forget gate 0.95": open_gate(fresh("lstm"), 3.0),
        "GRU, gate z 0.95": open_gate(fresh("gru"), 3.0),
    }
    figure, (ax,) = new_figure(size=(6.4, 3.8))
    lines = []
    for name, layer in cells.items():
        norms = gradient_norms(layer, x_BTD)
        relative = norms[::-1] / norms[-1]
        ax.semilogy(np.arange(steps), relative, label=name)
        lines.append(f"{name:24} {relative[50]:8.1e} of the gradient is left after 50 steps")
    ax.set(xlabel="steps back from the loss", ylabel="gradient, as a share of the last step's", ylim=(1e-20, 1e20))
    ax.set_title("How far a gradient reaches back")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, out / "recurrent-gradients.svg")
    return lines


def draw_recall(out: Path) -> list[str]:
    """Loss on the task of remembering the first symbol, by kind of cell."""
    task = Recall()
    figure, (ax,) = new_figure(size=(5.2, 3.4))
    lines = [f"guessing is right {1 / task.symbols:.2f} of the time"]
    for kind, bias in (("tanh", 0.0), ("lstm", 0.0), ("lstm", 4.0), ("gru", 4.0)):
        name = f"{kind}, gate held open" if bias else kind
        accuracy, history = learn(kind, replace(task, bias=bias))
        ax.plot(np.convolve(history, np.ones(10) / 10, "valid"), label=name)
        lines.append(f"{name:20} right {accuracy:.2f} of the time after {task.updates} updates")
    ax.axhline(np.log(task.symbols), color="grey", linestyle=":", label="guessing")
    ax.set(xlabel="update", ylabel="loss in nats", title=f"Which symbol came first, {task.steps} steps ago?")
    ax.legend(frameon=False)
    save(figure, out / "recurrent-recall.svg")
    return lines


def draw_names(out: Path) -> list[str]:
    """Names that an LSTM writes after reading the list that comes with the GPT."""
    corpus = read_names()
    model = RecurrentModel(RecurrentConfig(len(corpus.alphabet)))
    history = train_truncated(model, corpus.training, 16, TrainConfig(steps=300, batch=32, rate=5e-3, warmup=20))
    figure, (ax,) = new_figure()
    ax.plot(history)
    ax.set(xlabel="step", ylabel="loss in nats a character", title="An LSTM learns names")
    save(figure, out / "recurrent-names.svg")
    table = compare(model, corpus, context=32)
    return [*table, "writes: " + ", ".join(write_lines(model, corpus.alphabet, 32, SampleConfig(12, 0.8)))]


DEMOS = {
    "recurrent-gradients": Demo("Vanishing and exploding gradients, measured in RNN, LSTM and GRU", draw_gradients),
    "recurrent-recall": Demo("A task that needs memory: RNN, LSTM and GRU", draw_recall),
    "recurrent-names": Demo("An LSTM that learns to write names", draw_names),
}
