"""Cross-entropy from hidden states, a few rows at a time: logits of a whole batch are never held.

A batch of 8 x 1,024 tokens at a vocabulary of 50,257 has 1.6 GB of logits in float32, and the plain way holds them three
times over: logits, log-probabilities, gradients. Here a chunk's gradient is computed at once, while its logits are in the
cache, and multiplied into the gradients of the hidden states and the matrix; the backward pass has nothing left to do.
Logits are multiplied once, as in the plain way: what is forgotten is not computed again.

Shapes: N tokens, D width, V vocabulary, C tokens of a chunk.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cairn.models.experts import auxiliary_loss
from cairn.models.linear import onednn_is_faster, onednn_linear
from cairn.models.transformer import Unembed

IGNORED = -100  # target that carries no loss, the convention of torch and transformers
CHUNK_ROWS = 256  # at least: every chunk goes once through the whole gradient of the matrix
CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20, "mps": 256 << 20}  # of float32 logits: the cache; enough for a GPU


def unembed_loss(
    unembed: nn.Module, hidden_ND: torch.Tensor, targets_N: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy of a model's unembedding, summed over the targets that are not IGNORED: a scalar in float32.

    smoothing: share of the target's probability that goes to all entries alike, as in torch's cross_entropy.
    """
    cap = 0.0
    if isinstance(unembed, Unembed):
        hidden_ND, cap = unembed.prepare(hidden_ND), unembed.cap
    weight_VD, bias_V = _local(unembed.weight), _local(unembed.bias)
    return linear_cross_entropy(hidden_ND, weight_VD, bias_V, targets_N, cap, smoothing)


def _local(tensor: Any) -> Any:
    """Where processes share each matrix, the unembedding is whole in all of them."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def with_balance(model: nn.Module, loss: torch.Tensor, counted: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """What an objective returns for a summed loss: the routers of a mixture of experts add theirs for each counted target."""
    metrics: dict[str, Any] = {"loss": loss.detach()}
    balance = auxiliary_loss(model)
    if balance is None:
        return loss, metrics
    metrics["balance_loss"] = balance.detach() * counted
    return loss + balance * counted, metrics


def linear_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    targets_N: torch.Tensor,
    cap: float = 0.0,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Equal to F.cross_entropy(logits, targets_N, reduction="sum", label_smoothing=smoothing) for
    logits = cap tanh((hidden @ weight.T + bias) / cap), or without the tanh for cap 0."""
    learns = torch.is_grad_enabled()
    return _LinearCrossEntropy.apply(hidden_ND, weight_VD, bias_V, targets_N, cap, smoothing, learns)  # type: ignore[return-value]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND, weight_VD, bias_V, targets_N, cap, smoothing, learns):
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        want_hidden, want_weight, want_bias = (learns and wanted for wanted in ctx.needs_input_grad[:3])
        N, V = len(targets_N), len(weight_VD)
        chunk = max(CHUNK_ROWS, CHUNK_BYTES[device] // (4 * V))
        grad_ND = torch.empty_like(hidden_ND) if want_hidden else None
        grad_VD = torch.zeros_like(weight_VD) if want_weight else None
        grad_V = torch.zeros_like(bias_V) if want_bias else None
        loss = torch.zeros(
            (), dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=hidden_ND.device
        )
        onednn = device == "cpu" and dtype == torch.float32 and onednn_is_faster()
        product = onednn_linear if onednn else F.linear
        with torch.autocast(device, enabled=False):
            weight = weight_VD.to(dtype)
            for start in range(0, N, chunk):
                part = slice(start, start + chunk)
                hidden_CD, targets_C = hidden_ND[part].to(dtype), targets_N[part]
                logits_CV = product(hidden_CD, weight, None if bias_V is None else bias_V.to(dtype))
                total, grad_CV = _loss_and_gradient(logits_CV, targets_C, cap, smoothing)
                loss += total
                grad_CV = grad_CV.to(dtype)
                if grad_ND is not None:
                    grad_ND[part] = product(grad_CV, weight.t())
                if grad_VD is not None:
                    _add_product(grad_VD, grad_CV, hidden_CD)
                if grad_V is not None:
                    grad_V += grad_CV.sum(0)
        ctx.gradients = grad_ND, grad_VD, grad_V
        return loss

    @staticmethod
    def backward(ctx: Any, factor: torch.Tensor):  # type: ignore[override]
        gradients = ctx.gradients
        ctx.gradients = None
        if gradients is None:
            raise RuntimeError("the gradients of this loss were taken already: compute the loss again")
        return *(None if g is None else g.mul_(factor.to(g.dtype)) for g in gradients), None, None, None, None


def _add_product(sum_VD: torch.Tensor, grad_CV: torch.Tensor, hidden_CD: torch.Tensor) -> None:
    """sum += grad.T @ hidden."""
    if sum_VD.dtype == grad_CV.dtype:
        sum_VD.addmm_(grad_CV.T, hidden_CD)
    else:  # 16-bit products, a sum in the type of the weight
        sum_VD += grad_CV.T @ hidden_CD


def _loss_and_gradient(
    logits_CV: torch.Tensor, targets_C: torch.Tensor, cap: float, smoothing: float
) -> tuple[torch.Tensor | float, torch.Tensor]:
    """The summed loss, and its gradient (C, V), which may lie where the logits were."""
    logits_CV = logits_CV if logits_CV.dtype == torch.float64 else logits_CV.float()
    if logits_CV.dtype == torch.float32 and logits_CV.device.type == "cpu" and not cap:
        from cairn.kernels.cross_entropy import softmax_gradient
        from cairn.kernels.threads import in_parts

        losses_C = np.empty(len(targets_C), dtype=np.float64)
        arrays = logits_CV.detach().numpy(), targets_C.numpy(), smoothing, losses_C
        in_parts(lambda first, last: softmax_gradient(*arrays, first, last), len(targets_C), torch.get_num_threads())
        return float(losses_C.sum()), logits_CV
    if cap:
        logits_CV = cap * torch.tanh(logits_CV / cap)
    counted_C1 = (targets_C != IGNORED)[:, None]
    safe_C1 = targets_C.clamp(min=0)[:, None]
    logprobs_CV = logits_CV.log_softmax(-1)
    rest = smoothing / logits_CV.shape[1]
    losses_C1 = -(1 - smoothing) * logprobs_CV.gather(1, safe_C1)
    if smoothing:
        losses_C1 = losses_C1 - rest * logprobs_CV.sum(-1, keepdim=True)
    gradient_CV = logprobs_CV.exp_()
    gradient_CV -= rest
    gradient_CV.scatter_add_(1, safe_C1, torch.full_like(losses_C1, smoothing - 1))
    if cap:
        gradient_CV *= 1 - (logits_CV / cap).square()
    return losses_C1.masked_fill(~counted_C1, 0).sum(), gradient_CV.masked_fill_(~counted_C1, 0)
