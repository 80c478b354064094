"""Number formats of the arithmetic: float32, bfloat16, or float16 with a scale that keeps small gradients from vanishing."""

import torch
from torch import nn

from cairn.core.compute import cpu_multiplies_bf16

GROWTH_STEPS = 2000  # steps without overflow after which the scale is doubled, as torch.amp.GradScaler does
FIRST_SCALE = 65536.0

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_precision(name: str, model: nn.Module, device: torch.device) -> str:
    """`auto` is bfloat16 where the hardware multiplies it, else float32: a CPU that has to imitate it gains nothing.

    A model in float64 stays there: whoever made it wants exact sums.
    """
    if name != "auto":
        return name
    fast = device.type == "cuda" or (device.type == "cpu" and cpu_multiplies_bf16())
    return "bf16" if fast and all(weight.dtype == torch.float32 for weight in model.parameters()) else "fp32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Matrix products in 16 bits, weights and sums in float32."""
    return torch.autocast(device.type, TYPES.get(precision, torch.bfloat16), enabled=precision in TYPES)


class LossScale:
    """The factor on the loss in float16 (Micikevicius et al. 2018): halved when a gradient overflows, and that step is left
    out; doubled after GROWTH_STEPS steps that went well. In other formats it is 1 and every step counts.

    The same rule as torch.amp.GradScaler; here it is two numbers that a checkpoint keeps, and the norm of the gradients,
    which the trainer computes anyway, says whether one overflowed.
    """

    def __init__(self, precision: str):
        self.active = precision == "fp16"
        self.scale = FIRST_SCALE if self.active else 1.0
        self.good_steps = 0

    def unscale(self, model: nn.Module, norm: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Divide the gradients by the scale. Returns their norm, and whether the step is to be made."""
        if not self.active:
            return norm, True
        norm = norm / self.scale
        finite = bool(torch.isfinite(norm))
        if not finite and self.scale <= 1:
            return norm, True  # the scale is not why: the trainer looks for what is
        if not finite:
            self.scale, self.good_steps = self.scale / 2, 0
            return norm, False
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1 / self.scale)
        self.good_steps += 1
        if self.good_steps == GROWTH_STEPS:
            self.scale, self.good_steps = self.scale * 2, 0
        return norm, True

    def state(self) -> list[float]:
        return [self.scale, self.good_steps]

    def load(self, state: list[float]) -> None:
        self.scale, self.good_steps = float(state[0]), int(state[1])
