"""Maximal update parametrisation (Yang et al. 2022): rates tuned on a narrow model are right for a wide one.

In the usual parametrisation a step at one rate changes the activations of a wide model more than those of a narrow one, so
that the best rate falls with the width. Here each part of the model is scaled so that it does not: for a model m times as
wide as the one that was tuned (table 8 of the paper; embeddings may be tied),

    matrices         variance of fresh weights 1/m (`initial`), rate of Adam 1/m; Adafactor, which scales a step by the
                     weight's own size, needs 1/sqrt(m), and Muon nothing: its steps have the same spectral norm at any
                     width, which is the same condition (Yang, Simon and Bernstein 2023)
    logits           1/m
    attention        q.k / K instead of q.k / sqrt(K), where heads grow and not their number
    everything else  as it is

Depth, number of heads against their size, and batch are not scaled by it.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cairn.core.errors import UserError

RATE = {"adamw": -1.0, "adamw8bit": -1.0, "adafactor": -0.5, "muon": 0.0}  # powers of m for a matrix


def width_ratio(model: Any, base_width: int) -> float:
    """m: how many times as wide as the tuned model."""
    if not hasattr(model.config, "dim"):
        raise UserError("mup_width scales models that have one width (dim); leave it at 0 for this one")
    return float(model.config.dim) / base_width


def rate_factor(role: str, optimizer: str, ratio: float) -> float:
    """What the rate of a parameter is multiplied by in a model `ratio` times as wide; role: see `optimizers.groups`."""
    if optimizer not in RATE:
        raise UserError(f"mup_width: the rates of {optimizer} do not transfer; choose {', '.join(RATE)}")
    return ratio ** RATE[optimizer] if role == "matrix" else 1.0


def scale(model: Any, base_width: int, base_head_dim: int = 0) -> None:
    """Give a new Transformer the factors on logits and attention scores, once, before its weights are drawn.

    base_head_dim: size of a head of the tuned model; 0 where it is the same, as in a wider model with more heads.
    """
    _multiply(model, 1 / width_ratio(model, base_width), _score_factor(model, base_head_dim))


@torch.no_grad()
def fold(model: Any, base_width: int, base_head_dim: int = 0) -> None:
    """Move the factors of `scale` into the weights, once, after training: the same function as an ordinary model of its
    family, whose files have no place for them. The norm before the unembedding takes the one on logits, queries the other.
    """
    score = _score_factor(model, base_head_dim)
    norm = model.unembed.transform.norm if model.config.head == "masked" else getattr(model, "norm", None)
    if norm is None:
        raise UserError("muP needs a norm before the unembedding: set final_norm")
    _multiply_norm(norm, 1 / width_ratio(model, base_width))
    for module in model.modules():
        if score != 1.0 and hasattr(module, "rule"):
            if getattr(module, "qk_norm", "none") != "none":
                _multiply_norm(module.norm_q, score)
            else:
                query = module.q if hasattr(module, "q") else module.q_expand
                for parameter in query.parameters():
                    parameter.mul_(score)
    _multiply(model, width_ratio(model, base_width), 1 / score)


def _multiply(model: Any, logits: float, scores: float) -> None:
    config = model.config
    if config.head == "none" or not hasattr(model, "unembed"):
        raise UserError("muP is for a Transformer with an unembedding")
    model.unembed.scale *= logits
    model.config = replace(config, logit_scale=model.unembed.scale)
    if scores == 1.0:
        return
    plain = config.score_scale or config.head_dim**-0.5
    model.config = replace(model.config, score_scale=plain * scores)
    for module in model.modules():
        if hasattr(module, "rule"):
            module.rule = replace(module.rule, scale=module.rule.scale * scores)


def _score_factor(model: Any, base_head_dim: int) -> float:
    """sqrt(base) / K as a share of 1 / sqrt(K)."""
    return (base_head_dim / model.config.head_dim) ** 0.5 if base_head_dim else 1.0


def _multiply_norm(norm: nn.Module, factor: float) -> None:
    for name, parameter in norm.named_parameters():
        offset = 1.0 if name == "weight" and getattr(norm, "offset", False) else 0.0  # stored as its distance from 1
        parameter.copy_((parameter + offset) * factor - offset)
