"""Where a step stopped being finite: run it again with every module watched, and name the first that fails.

The trainer calls it when the loss or the gradient is not finite, before the weights are changed, and puts the line into its
message and the figures into the run's fault.json.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cairn.core.config import option
from cairn.training.watch import eager

PHASES = ("weights", "forward", "loss", "backward", "gradient", "none")
LISTED = 3  # weights that are named when several are not finite


@dataclass(frozen=True)
class Fault:
    """The first value that is not finite.

    phase: `weights` (a parameter is not finite before the step), `forward` (the output of module `where`), `loss` (the
    loss, after module `where`, whose output was finite), `backward` (the gradient of the output of `where`), `gradient`
    (that of parameter `where`), `none` (the second time all was finite).
    after: the last place before it that was finite. input_finite: whether the module's input was. largest: the largest
    finite absolute value among its input or, in the backward pass, in the last finite gradient.
    """

    phase: str = option("none", "where in the step", choices=PHASES)
    where: str = ""
    after: str = ""
    input_finite: bool = True
    largest: float = 0.0
    weights: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line."""
        if self.phase == "none":
            return "run again, the step was finite: look for a race, a faulty device, or data that changes"
        size = f" (largest value before it {self.largest:.3g})" if self.largest else ""
        bad = f"; weights that are not finite: {', '.join(self.weights)}" if self.weights else ""
        follows = f", after {self.after}" if self.after else ""
        what = {
            "weights": f"the weight {self.where} is not finite before the step",
            "forward": f"the output of {self.where} is the first that is not finite{follows}{size}",
            "loss": f"every output is finite, up to {self.where}{size}, and the loss or its own gradient is not",
            "backward": f"the gradient at the output of {self.where} is the first that is not finite; "
            f"it still was at {self.after}{size}",
            "gradient": f"the gradient of {self.where} is the first that is not finite{follows}{size}",
        }[self.phase]
        if self.phase == "forward" and not self.input_finite:
            what += ", its input is not finite either"
        return what + bad


@dataclass(frozen=True)
class _Seen:
    """A place that values passed, in the order of time."""

    phase: str
    where: str
    finite: bool
    input_finite: bool
    largest: float


def first_not_finite(model: nn.Module, passes: Callable[[], Any]) -> Fault:
    """passes() runs forward and backward of the step again, with the same random numbers. Gradients are left empty."""
    bad = [name for name, p in model.named_parameters() if not _finite(p)]
    seen: list[_Seen] = []
    model.zero_grad(set_to_none=True)
    with ExitStack() as stack:
        stack.enter_context(eager(model))
        _watch(model, seen, stack)
        try:
            passes()
        except ArithmeticError:  # what stands behind it may refuse such values
            if all(place.finite for place in seen):
                raise
    model.zero_grad(set_to_none=True)
    return _judge(seen, bad)


def _watch(model: nn.Module, seen: list[_Seen], stack: ExitStack) -> None:
    """Note what passes each module's output, forward and backward, and each parameter's gradient."""

    def backward(phase: str, where: str) -> Callable[[torch.Tensor], None]:
        def note(gradient: torch.Tensor) -> None:
            seen.append(_Seen(phase, where, _finite(gradient), True, _largest([gradient])))

        return note

    def forward(where: str) -> Callable:
        def note(module: nn.Module, args: tuple, keywords: dict, output: Any) -> None:
            given, made = list(_tensors([args, keywords])), list(_tensors(output))
            finite = all(map(_finite, made))
            seen.append(_Seen("forward", where, finite, all(map(_finite, given)), _largest(given)))
            for tensor in made:
                if tensor.requires_grad:
                    tensor.register_hook(backward("backward", where))

        return note

    for name, module in model.named_modules():
        handle = module.register_forward_hook(forward(name or "the model"), with_kwargs=True)
        stack.callback(handle.remove)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            stack.callback(parameter.register_hook(backward("gradient", name)).remove)


def _judge(seen: list[_Seen], bad: list[str]) -> Fault:
    weights = tuple(bad[:LISTED])
    at = next((i for i, place in enumerate(seen) if not place.finite), None)
    if at is None:
        return Fault("weights", bad[0], weights=weights) if bad else Fault("none")
    found, before = seen[at], seen[at - 1] if at else None
    after = before.where if before else ""
    if found.phase == "forward":
        return Fault("forward", found.where, after, found.input_finite, found.largest, weights)
    assert before is not None, "a gradient passes a module after its output did"
    kind = "loss" if before.phase == "forward" else found.phase
    where = before.where if kind == "loss" else found.where
    return Fault(kind, where, "" if kind == "loss" else after, True, before.largest, weights)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Floating-point tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _finite(tensor: torch.Tensor) -> bool:
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[operator]
    return bool(torch.isfinite(local).all())


def _largest(tensors: list[torch.Tensor]) -> float:
    """The largest finite absolute value."""
    finite = [t[torch.isfinite(t)].abs().max().item() for t in tensors if bool(torch.isfinite(t).any())]
    return float(max(finite, default=0.0))
