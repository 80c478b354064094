"""Adafactor (Shazeer and Stern 2018): a matrix's second moments kept as those of its rows and of its columns.

For R x C weights that is R + C numbers of state. torch.optim.Adafactor takes no DTensors, and it holds the means of squared
gradients above 1e-7, which those of a clipped gradient of a few million weights are not.
"""

import torch

from cairn.training.optimizers.sharded import replicated, zeros_everywhere

DECAY = 0.8  # the second moment's decay at step t is 1 - t^-DECAY (section 7.2)
SMALLEST_SQUARE = 1e-30
SMALLEST_RMS = 1e-3  # of a weight, so that a weight of zeros can leave it
LARGEST_UPDATE = 1.0  # root mean square of an update before the rate


class Adafactor(torch.optim.Optimizer):
    """Algorithm 4 and 5 of the paper with relative steps: lr is the root mean square of an update in shares of the
    weight's own. No first moment. Weight decay is decoupled, as in AdamW.

    Equal to `transformers`' with scale_parameter and without relative_step, and to torch's where neither of its bounds
    holds. Vectors keep all their second moments.
    """

    def __init__(self, params, lr: float = 1e-2, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group["lr"], group["weight_decay"])

    def initial_state(self, p: torch.Tensor) -> dict[str, torch.Tensor]:
        """Means of 0: a column of rows (R, 1) and a row of columns (1, C); of a vector all."""
        if p.ndim < 2:
            return {"step": torch.zeros(()), "square": torch.zeros_like(p, dtype=_exact(p.dtype))}
        row, column = torch.Size((*p.shape[:-1], 1)), torch.Size((*p.shape[:-2], 1, p.shape[-1]))
        return {"step": torch.zeros(()), "row": zeros_everywhere(row, p), "column": zeros_everywhere(column, p)}

    def _update(self, p: torch.Tensor, lr: float, weight_decay: float) -> None:
        state, grad = self.state[p], p.grad
        assert grad is not None
        if not state:
            state.update(self.initial_state(p))
        square = grad.to(_exact(grad.dtype)).square()
        state["step"] += 1
        new = float(state["step"]) ** -DECAY
        if p.ndim < 2:
            update = grad * state["square"].lerp_(square + SMALLEST_SQUARE, new).rsqrt()
        else:
            # A sum over a divided dimension is whole only once all processes have added theirs.
            row = replicated(square.sum(-1, keepdim=True)) / p.shape[-1] + SMALLEST_SQUARE
            column = replicated(square.sum(-2, keepdim=True)) / p.shape[-2] + SMALLEST_SQUARE
            row, column = state["row"].lerp_(row, new), state["column"].lerp_(column, new)
            update = (grad * (row / row.mean(-2, keepdim=True)).rsqrt()).mul_(column.rsqrt())
        size = lr * _rms(p).clamp(min=SMALLEST_RMS) / (_rms(update) / LARGEST_UPDATE).clamp(min=1.0)
        if weight_decay:
            p.mul_(1 - lr * weight_decay)
        p.sub_(update.mul_(size).to(p.dtype))


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _rms(x: torch.Tensor) -> torch.Tensor:
    return replicated(torch.linalg.vector_norm(x, dtype=_exact(x.dtype))) / x.numel() ** 0.5
