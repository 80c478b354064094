"""Muon (Jordan et al. 2024): each matrix's momentum is replaced by the nearest orthogonal matrix.

All directions of the update get the same length, also the rare ones that gradient descent hardly moves. On small
Transformers it needs clearly fewer tokens than AdamW for the same loss. torch.optim.Muon is the oracle.

Shapes: N matrices, R rows, C columns, M the smaller of both.
"""

# pyright: reportPrivateImportUsage=false
# (torch's optimizers are made of its _foreach functions, and it documents them without exporting them to checkers.)

from collections import defaultdict

import torch

from cairn.training.optimizers.sharded import by_matrix, is_sharded, local

# Quintic Newton-Schulz iteration: drives singular values towards 1, quickly rather than exactly.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
STEPS = 5
EPSILON = 1e-7
# Values of the matrices that are orthogonalized at once: enough that small matrices share a call, few enough that the
# working memory stays a fraction of the model's.
CHUNK = 1 << 22
SYMMETRIC = 256  # size from which half of a symmetric product repays the calls that it takes (measured on AVX-512)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized; step size lr * sqrt(max(1, rows / columns)); decoupled weight decay.

    A parameter is a matrix, or a DTensor of one: its processes orthogonalize some whole matrices each.
    """

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        assert all(p.ndim == 2 for group in self.param_groups for p in group["params"]), "Muon updates matrices"

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            alike = defaultdict(list)  # same shape, same division over processes
            for p in group["params"]:
                if p.grad is not None:
                    layout = (p.device_mesh, p.placements) if is_sharded(p) else None
                    alike[p.shape, p.dtype, layout].append(p)
            for (shape, _, _), params in alike.items():
                count = max(1, CHUNK // shape.numel())
                for first in range(0, len(params), count):
                    self._update(params[first : first + count], group)

    def initial_state(self, p: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"momentum": torch.zeros_like(p)}

    def _update(self, params: list[torch.Tensor], group: dict) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p].update(self.initial_state(p))
        grads = [local(p.grad) for p in params]
        momenta = [local(self.state[p]["momentum"]) for p in params]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        updates_NRC = torch.stack(torch._foreach_lerp(grads, momenta, group["momentum"]))
        directions_NRC = by_matrix(orthogonalize, updates_NRC, params[0])
        rows, columns = params[0].shape
        weights = [local(p) for p in params]
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        size = group["lr"] * max(1.0, rows / columns) ** 0.5
        torch._foreach_add_(weights, list(directions_NRC.to(weights[0].dtype)), alpha=-size)


def orthogonalize(g_NRC: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """For each of N matrices about U V^T of its singular value decomposition U S V^T; values end within 0.7 .. 1.2.

    In bfloat16 on a GPU, as the authors do; elsewhere in float32 or float64, by the way that takes fewer operations: per
    step 4 M^2 C + 2 M^3 written out, 8 M^3 on the Gram matrix.
    """
    if g_NRC.device.type == "cuda":
        return newton_schulz(g_NRC.bfloat16(), steps)
    g_NRC = g_NRC if g_NRC.dtype in (torch.float32, torch.float64) else g_NRC.float()
    smaller, larger = sorted(g_NRC.shape[-2:])
    return newton_schulz_gram(g_NRC, steps) if 2 * larger > 3 * smaller else newton_schulz(g_NRC, steps)


def newton_schulz(g_NRC: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """The iteration as it is defined: X <- a X + (b X X^T + c (X X^T)^2) X, from X = G / |G|."""
    a, b, c = NEWTON_SCHULZ
    x_NMC = g_NRC.mT if g_NRC.shape[-2] > g_NRC.shape[-1] else g_NRC
    x_NMC = x_NMC / (x_NMC.norm(dim=(-2, -1), keepdim=True) + EPSILON)
    gram_NMM, polynomial_NMM = (x_NMC.new_empty(len(x_NMC), x_NMC.shape[1], x_NMC.shape[1]) for _ in range(2))
    for _ in range(steps):
        symmetric_product(x_NMC, x_NMC.mT, out=gram_NMM)
        symmetric_product(gram_NMM, gram_NMM, out=polynomial_NMM).mul_(c).add_(gram_NMM, alpha=b)
        x_NMC = torch.baddbmm(x_NMC, polynomial_NMM, x_NMC, beta=a)
    return x_NMC.mT if g_NRC.shape[-2] > g_NRC.shape[-1] else x_NMC


def newton_schulz_gram(g_NRC: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """The same iteration on the Gram matrix A = X X^T alone.

    With P = a + b A + c A^2 a step is X <- P X, so A <- P A P, and X at the end is the product of all P times G. Everything
    on the way is a symmetric M x M matrix, and all of them commute. Not for bfloat16: what rounding does to a small
    eigenvalue of A grows by a^2 with each step.
    """
    a, b, c = NEWTON_SCHULZ
    tall = g_NRC.shape[-2] > g_NRC.shape[-1]
    gram_NMM = g_NRC.new_empty(len(g_NRC), min(g_NRC.shape[-2:]), min(g_NRC.shape[-2:]))
    symmetric_product(*((g_NRC.mT, g_NRC) if tall else (g_NRC, g_NRC.mT)), out=gram_NMM)
    norm_N11 = gram_NMM.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()[:, None, None] + EPSILON
    gram_NMM /= norm_N11**2
    step_NMM, total_NMM, spare_NMM = (torch.empty_like(gram_NMM) for _ in range(3))
    for step in range(steps):
        symmetric_product(gram_NMM, gram_NMM, out=step_NMM).mul_(c).add_(gram_NMM, alpha=b)
        step_NMM.diagonal(dim1=-2, dim2=-1).add_(a)
        if step == 0:
            total_NMM.copy_(step_NMM)
        else:
            symmetric_product(step_NMM, total_NMM, out=spare_NMM)
            total_NMM, spare_NMM = spare_NMM, total_NMM
        if step < steps - 1:
            symmetric_product(step_NMM, gram_NMM, out=spare_NMM)
            symmetric_product(step_NMM, spare_NMM, out=gram_NMM)
    total_NMM /= norm_N11
    return g_NRC @ total_NMM if tall else total_NMM @ g_NRC


def symmetric_product(a_NMK: torch.Tensor, b_NKM: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """a @ b where that is known to be symmetric: of large matrices the upper blocks, mirrored."""
    size = out.shape[-1]
    if size < SYMMETRIC or out.device.type != "cpu":
        return torch.bmm(a_NMK, b_NKM, out=out)
    block = -(-size // 4)
    for first in range(0, size, block):
        last = first + block
        torch.bmm(a_NMK[:, first:last], b_NKM[:, :, first:], out=out[:, first:last, first:])
        out[:, first:last, :first] = out[:, :first, first:last].mT
    return out
