"""AdamW for vectors and embeddings, Muon for the matrices between them, as one optimizer.

Muon (Jordan et al. 2024) replaces each matrix's momentum by the nearest orthogonal matrix: all directions of the update
get the same length, also the rare ones that gradient descent hardly moves. On small Transformers it needs clearly fewer
tokens than AdamW for the same loss. torch.optim.Muon is the oracle; ours works in float32 (bfloat16 products are slow on
a CPU) and orthogonalizes all matrices of one shape in one batched product.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import nn

OPTIMIZERS = ("muon", "adamw")

# Quintic Newton-Schulz iteration: drives singular values towards 1, quickly rather than exactly.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(g_NRC: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """For each of N matrices about U V^T of its singular value decomposition U S V^T; values end within 0.7 .. 1.2."""
    a, b, c = NEWTON_SCHULZ
    x = g_NRC.mT if g_NRC.shape[-2] > g_NRC.shape[-1] else g_NRC
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if g_NRC.shape[-2] > g_NRC.shape[-1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized; step size lr * sqrt(max(1, rows / columns)); decoupled weight decay."""

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for (rows, columns), params in by_shape.items():
                updates = []
                for p in params:
                    state = self.state[p]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(p)
                    state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(state["momentum"], group["momentum"]))
                directions = orthogonalize(torch.stack(updates).float())
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                for p, direction in zip(params, directions):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(direction.to(p.dtype), alpha=-size)


class Optimizer:
    """The optimizers of a model and the groups their rates are set by.

    Matrices of the blocks go to Muon (`kind="muon"`) or AdamW with weight decay; embeddings to AdamW with decay off, as
    norms and biases. A tied embedding is one parameter.
    """

    def __init__(self, model: nn.Module, kind: str, lr: float, matrix_lr: float, weight_decay: float, beta2: float):
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        matrices = [(n, p) for n, p in named if p.ndim == 2 and "embed" not in n]
        others = [(n, p) for n, p in named if not (p.ndim == 2 and "embed" not in n)]
        fused = all(p.device.type in ("cpu", "cuda") for _, p in named)
        adam = [{"params": [p for _, p in others], "lr": lr, "weight_decay": 0.0}]
        self.optimizers: list[torch.optim.Optimizer] = []
        if kind == "muon":
            self.optimizers.append(Muon([p for _, p in matrices], lr=matrix_lr, weight_decay=weight_decay))
        else:
            adam.append({"params": [p for _, p in matrices], "lr": lr, "weight_decay": weight_decay})
        self.optimizers.append(torch.optim.AdamW(adam, betas=(0.9, beta2), fused=fused))
        self.names: dict[torch.Tensor, str] = {p: n for n, p in named}
        self._peak = [[g["lr"] for g in o.param_groups] for o in self.optimizers]

    def set_rate(self, factor: float) -> None:
        for optimizer, peaks in zip(self.optimizers, self._peak):
            for group, peak in zip(optimizer.param_groups, peaks):
                group["lr"] = peak * factor

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """All state as named tensors, for a checkpoint without pickle."""
        out = {}
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    out[f"{self.names[parameter]}/{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
        return out

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    prefix = f"{self.names[parameter]}/"
                    state: dict[str, Any] = {}
                    for name, tensor in tensors.items():
                        if name.startswith(prefix):
                            key = name.removeprefix(prefix)
                            # AdamW's step counter lives with the parameter only when the update is fused on CUDA.
                            device = "cpu" if key == "step" and parameter.device.type != "cuda" else parameter.device
                            state[key] = tensor.to(device)
                    if state:
                        optimizer.state[parameter] = state


def build_optimizer(model: nn.Module, config: Any) -> Optimizer:
    """The optimizer that a TrainConfig names."""
    return Optimizer(model, config.optimizer, config.lr, config.matrix_lr, config.weight_decay, config.beta2)
