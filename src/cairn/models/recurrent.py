"""Recurrent language models: what is known of the past is a state of fixed size, renewed at every token.

A step is `state = cell(W x + b, U h + d, state)`. The gates are the only difference between the three cells:

    rnn   h' = tanh(x + u)                                                        Elman 1990
    gru   h' = (1 - z) n + z h,  n = tanh(x_n + r u_n)                            Cho et al. 2014
    lstm  h' = o tanh(c'),       c' = f c + i tanh(g)                             Hochreiter & Schmidhuber 1997

In an rnn the gradient passes through tanh and U at every step back and vanishes or explodes; gru and lstm keep a path on which
the state is only scaled, by z and f near 1. Weights, stacking of gates and the GRU's reset after the product are those of
torch.nn.RNN, GRU, LSTM: the same weights give the same values.

Products with the input are made for all time steps at once: only U h must wait for the step before.
Shapes: B batch, T tokens, D width of the input, H width of the state, G gates, V vocabulary.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cairn.core.config import from_dict, option, to_dict
from cairn.core.errors import UserError
from cairn.core.files import write_bytes
from cairn.models.model import Model

State = tuple[torch.Tensor, ...]  # (h,), for an lstm (h, c); each (B, H)


@dataclass(frozen=True)
class RecurrentConfig:
    """`layers` recurrent layers of width `dim` between an embedding and an output layer."""

    cell: str = option("lstm", "kind of cell", choices=("rnn", "lstm", "gru"))
    vocab_size: int = option(2048, "entries of the vocabulary", minimum=1)
    dim: int = option(128, "width of embedding and state", minimum=1)
    layers: int = option(2, "number of recurrent layers", minimum=1)
    max_positions: int = option(
        512, "tokens a row when it is trained and scored; the state itself has no limit", minimum=1
    )
    tie_embeddings: bool = option(True, "one matrix for embedding and unembedding")

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise UserError(f"cell must be one of {', '.join(CELLS)}; got {self.cell!r}")


def rnn_step(x: torch.Tensor, u: torch.Tensor, state: State) -> State:
    return (torch.tanh(x + u),)


def lstm_step(x: torch.Tensor, u: torch.Tensor, state: State) -> State:
    i, f, g, o = (x + u).chunk(4, dim=-1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(x: torch.Tensor, u: torch.Tensor, state: State) -> State:
    H = state[0].shape[-1]
    r, z = torch.sigmoid(x[..., : 2 * H] + u[..., : 2 * H]).chunk(2, dim=-1)
    n = torch.tanh(x[..., 2 * H :] + r * u[..., 2 * H :])
    return (n + z * (state[0] - n),)  # not torch.lerp: under autocast the state is float32 and n is not


# cell -> (gates, tensors of its state, step)
CELLS: dict[str, tuple[int, int, Callable[[torch.Tensor, torch.Tensor, State], State]]] = {
    "rnn": (1, 1, rnn_step),
    "lstm": (4, 2, lstm_step),
    "gru": (3, 1, gru_step),
}


class RecurrentLayer(nn.Module):
    """x (B, T, D) and a state to h of every step (B, T, H) and the state after the last."""

    def __init__(self, cell: str, width: int, dim: int):
        super().__init__()
        gates, self.tensors, self.step = CELLS[cell]
        self.cell, self.dim = cell, dim
        self.input = nn.Linear(width, gates * dim)
        self.recurrent = nn.Linear(dim, gates * dim)

    def forward(self, x_BTD: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        if state is None:
            state = (x_BTD.new_zeros(x_BTD.shape[0], self.dim),) * self.tensors
        hidden = []
        for x_BG in self.input(x_BTD.transpose(0, 1)).unbind(0):
            state = self.step(x_BG, self.recurrent(state[0]), state)
            hidden.append(state[0])
        return torch.stack(hidden, dim=1), state


class RecurrentLM(Model):
    """`model(ids_BT)` gives logits (B, T, V); position t predicts token t + 1. The trainer knows it by the same names as
    the Transformer: `hidden`, `unembed`, `blocks`, `initialize`."""

    def __init__(self, config: RecurrentConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(RecurrentLayer(config.cell, config.dim, config.dim) for _ in range(config.layers))
        self.unembed = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.unembed.weight = self.embed.weight

    def initialize(self, seed: int) -> "RecurrentLM":
        """Fresh weights, drawn on the CPU in the order of names. Matrices keep the size of what they multiply: deviation
        1/sqrt(columns), those between states orthogonal (Saxe et al. 2014). Biases are 0, that of an lstm's forget gate 1:
        it begins by remembering (Jozefowicz et al. 2015)."""
        generator = torch.Generator().manual_seed(seed)
        dim = self.config.dim
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim < 2:
                    parameter.zero_()
                    if self.config.cell == "lstm" and name.endswith("input.bias"):
                        parameter[dim : 2 * dim] = 1.0
                    continue
                drawn = torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter.shape[1])
                if name.endswith("recurrent.weight"):
                    drawn = torch.cat([torch.linalg.qr(gate)[0] for gate in drawn.split(dim)])
                parameter.copy_(drawn)
        return self

    def run(self, ids_BT: torch.Tensor, states: list[State] | None = None) -> tuple[torch.Tensor, list[State]]:
        """Hidden vectors (B, T, D) and the state of each layer after the last token, to go on from."""
        x_BTD = self.embed(ids_BT) * math.sqrt(self.config.dim)  # tied rows have length 1: entries become 1
        after = []
        for layer, block in enumerate(self.blocks):
            x_BTD, state = block(x_BTD, None if states is None else states[layer])
            after.append(state)
        return x_BTD, after

    def hidden(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.run(ids_BT)[0]

    def forward(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.unembed(self.hidden(ids_BT))

    @torch.inference_mode()
    def generate(self, prompt: list[int], count: int, *, temperature: float = 1.0, seed: int = 0) -> list[int]:
        """`count` ids after `prompt`, each from the carried state alone; temperature 0 takes the most probable."""
        if not prompt:
            raise UserError("generation needs at least one id to begin with")
        device = self.embed.weight.device
        generator = torch.Generator().manual_seed(seed)
        ids, states, out = torch.tensor([prompt], device=device), None, []
        for _ in range(count):
            hidden_BTD, states = self.run(ids, states)
            logits_V = self.unembed(hidden_BTD[0, -1]).float().cpu()
            if temperature == 0:
                chosen = int(logits_V.argmax())
            else:
                chosen = int(torch.multinomial((logits_V / temperature).softmax(-1), 1, generator=generator))
            out.append(chosen)
            ids = torch.tensor([[chosen]], device=device)
        return out

    def flops_per_token(self, context: int) -> float:
        """Training FLOPs a token: 6 a weight that multiplies, whatever the context."""
        layers = sum(p.numel() for name, p in self.named_parameters() if p.ndim == 2 and name.startswith("blocks"))
        return 6.0 * (layers + self.unembed.weight.numel())

    def save(self, path: Path | str) -> None:
        """One safetensors file with the configuration in its header; `load` reads it back."""
        from safetensors.torch import save

        tensors = {n: p.detach().cpu().contiguous() for n, p in self.named_parameters()}
        write_bytes(path, save(tensors, {"recurrent": json.dumps(to_dict(self.config))}))

    @classmethod
    def load(cls, path: Path | str) -> "RecurrentLM":
        """Raises UserError where the file is none of `save`'s."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                model = cls(from_dict(RecurrentConfig, json.loads((file.metadata() or {})["recurrent"])))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no iterator of its own)
            missing, unexpected = model.load_state_dict(tensors, strict=False)
            if (
                unexpected
                or set(missing) - {"unembed.weight"}
                or ("unembed.weight" in missing) != model.config.tie_embeddings
            ):
                raise ValueError("the names of its weights are others")
        except FileNotFoundError:
            raise UserError(f"{path} does not exist") from None
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise UserError(f"{path} is not a recurrent model that cairn saved: {error}") from None
        return model.eval()


def gradient_by_distance(model: nn.Module, ids_BT: torch.Tensor) -> torch.Tensor:
    """How far back learning reaches: the norm of d loss / d embedding at each distance before the last prediction (T - 1,).

    The loss is the cross-entropy of the last id alone; entry d is the gradient at the embedding d tokens before the one that
    predicts it, a mean over rows. Works for every model with `embed`, `hidden` and `unembed`.
    """
    if ids_BT.shape[1] < 2:
        raise UserError("a gradient by distance needs at least two ids a row")
    seen: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    handle = model.get_submodule("embed").register_forward_hook(keep)
    try:
        with torch.enable_grad():
            hidden_BTD = model.hidden(ids_BT[:, :-1])  # type: ignore[operator]
            logits_BV = model.unembed(hidden_BTD[:, -1])  # type: ignore[operator]
            loss = nn.functional.cross_entropy(logits_BV, ids_BT[:, -1], reduction="sum")
            (gradient_BTD,) = torch.autograd.grad(loss, seen[0])
    finally:
        handle.remove()
    return gradient_BTD.norm(dim=-1).mean(0).flip(0)
