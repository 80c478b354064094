"""Statistics of every layer at a step: how large its weights, gradients, updates and outputs are, and which units are dead.

    watch = Watch(model)
    with watch:                       # hooks are on, a sample of the weights is taken
        ...forward, backward, clipping...
        watch.gradients(norm, clip)
        ...optimizer.step()...
    watch.layers                      # {"blocks.0": {"grad_norm": 0.11, "weight_norm": 5.2, ...}, ...}

Outside of the `with` nothing is attached and nothing is computed. A layer is an element of an outermost `nn.ModuleList`
(blocks.0), or a module outside of them that owns parameters (embed, norm). Its figures, where they exist:

grad_norm     Euclidean norm of its gradient, before clipping
weight_norm   Euclidean norm of its weights
update_ratio  size of the step over the size of the weights, of its matrices
rms, largest  root mean square and largest absolute value of its output
dead          share of feed-forward units that no token of the batch switched on
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import nn

from cairn.models.feedforward import ACTIVATIONS, FeedForward, GatedFeedForward

# Elements of a parameter that stand for it when the update is measured: a copy of all weights would cost their memory.
SAMPLE = 1 << 16

# A unit is dead when its largest pre-activation over the batch is not above this: beyond, the slope of the activation is
# at most 0.013, so that hardly anything passes back to wake it.
DEAD_BELOW = {"relu": 0.0, "gelu": -3.0, "gelu_tanh": -3.0, "silu": -6.0}


def layers_of(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Layers by name and the parameters of each, every parameter once."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        owner = next((at for at in lists if name.startswith(at + ".")), None)  # outer lists come before inner ones
        depth = name.count(".") if owner is None else owner.count(".") + 2
        layers.setdefault(".".join(name.split(".")[:depth]), []).append(parameter)
    return layers


def eager(model: nn.Module) -> AbstractContextManager:
    """Compiled modules do not see hooks that come later: within this they run as they are written."""
    if any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


class Watch:
    """Watches `model` in the steps it is entered for; `layers` holds the figures of the latest of them.

    In a run of several processes all watch the same steps. Norms of sharded weights and gradients are of the whole;
    outputs are those of this process's rows, and updates those of its shard.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.layers: dict[str, dict[str, float]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Watch":
        self._parameters = layers_of(self.model)
        self._before = {p: _sample(p).clone() for p in self.model.parameters()}
        self._grad_norms: dict[str, float] = {}
        self._outputs: dict[str, _Outputs] = {}
        self._units: dict[str, dict[nn.Module, torch.Tensor]] = {}
        self._stack.enter_context(eager(self.model))
        for layer in self._parameters:
            module = self.model.get_submodule(layer)
            self._outputs[layer] = _Outputs()
            self._hook(module, self._outputs[layer].see)
            for part in module.modules():
                if isinstance(part, (FeedForward, GatedFeedForward)) and _dead_below(part) is not None:
                    self._watch_units(part, self._units.setdefault(layer, {}))
        return self

    def _hook(self, module: nn.Module, see: Any) -> None:
        handle = module.register_forward_hook(lambda _module, _inputs, output: see(output))
        self._stack.callback(handle.remove)

    def _watch_units(self, layer: FeedForward | GatedFeedForward, most: dict[nn.Module, torch.Tensor]) -> None:
        """Keep the largest pre-activation of each unit in `most`."""

        def see(output_BTI: torch.Tensor) -> None:
            if output_BTI.numel():  # no token went to this expert
                now_I = output_BTI.detach().flatten(0, -2).amax(0)
                most[layer] = torch.maximum(most[layer], now_I) if layer in most else now_I

        self._hook(layer.gate if isinstance(layer, GatedFeedForward) else layer.up, see)

    @torch.no_grad()
    def gradients(self, norm: torch.Tensor | float = 0.0, clip: float = 0.0) -> None:
        """Read the gradients, between clipping and the step. norm: of all of them before clipping to `clip`, so that what
        was taken away is put back."""
        factor = float(norm) / clip if clip and float(norm) > clip else 1.0
        for layer, parameters in self._parameters.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            if gradients:
                self._grad_norms[layer] = _norm(gradients) * factor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None:
            self.layers = {layer: self._figures(layer) for layer in self._parameters}
        self._before, self._outputs, self._units = {}, {}, {}

    @torch.no_grad()
    def _figures(self, layer: str) -> dict[str, float]:
        parameters = self._parameters[layer]
        found: dict[str, float] = {"weight_norm": _norm(parameters)}
        if layer in self._grad_norms:
            found["grad_norm"] = self._grad_norms[layer]
        # Gains of norms begin at 1 and biases at 0: where there are matrices, these alone say how fast a layer moves.
        matrices = [p for p in parameters if p.ndim >= 2] or parameters
        moved = _norm([_sample(p) - self._before[p] for p in matrices])
        size = _norm([self._before[p] for p in matrices])
        if size > 0:
            found["update_ratio"] = moved / size
        found |= self._outputs[layer].figures()
        if self._units.get(layer):
            dead = [most_I <= _dead_below(part) for part, most_I in self._units[layer].items()]  # type: ignore[operator]
            found["dead"] = float(torch.cat(dead).float().mean())
        return {key: float(f"{value:.4g}") for key, value in found.items() if math.isfinite(value)}


class _Outputs:
    """Root mean square and largest absolute value of a module's outputs over several calls."""

    def __init__(self) -> None:
        self.count, self.squares, self.largest = 0, torch.zeros(()), torch.zeros(())

    @torch.no_grad()
    def see(self, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point() and output.numel():
            x = output.detach()
            self.squares = self.squares.to(x.device) + torch.linalg.vector_norm(x, dtype=torch.float32) ** 2
            self.largest = torch.maximum(self.largest.to(x.device), torch.linalg.vector_norm(x, math.inf).float())
            self.count += x.numel()

    def figures(self) -> dict[str, float]:
        if not self.count:
            return {}
        return {"rms": (float(self.squares) / self.count) ** 0.5, "largest": float(self.largest)}


def _dead_below(layer: nn.Module) -> float | None:
    """The pre-activation below which a unit of this feed-forward layer is off; None for an activation not in the list."""
    return next((DEAD_BELOW.get(name) for name, what in ACTIVATIONS.items() if what is layer.activation), None)


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    """At most SAMPLE elements (of this process's shard), evenly spread. The stride is odd: an even one would meet the same
    few columns of a matrix again and again."""
    local = parameter.detach()
    local = local.to_local() if hasattr(local, "to_local") else local  # type: ignore[operator]
    return local.reshape(-1)[:: local.numel() // SAMPLE | 1]


def _norm(tensors: Iterable[torch.Tensor]) -> float:
    """The Euclidean norm of all elements together; of a sharded tensor's whole."""
    return math.sqrt(sum(_squares(tensors)))


def _squares(tensors: Iterable[torch.Tensor]) -> Iterator[float]:
    for tensor in tensors:
        norm = torch.linalg.vector_norm(tensor.detach(), dtype=torch.float32)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # type: ignore[operator]
        yield float(norm) ** 2
