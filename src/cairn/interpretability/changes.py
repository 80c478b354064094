"""What a stage of training changed: in the weights, and in what the model computes.

Shapes: N positions, D width, B batch, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F

from cairn.core.errors import UserError
from cairn.interpretability.trace import trace
from cairn.models import Transformer


@dataclass(frozen=True)
class Change:
    """From one stage to the next.

    weights: name of a parameter -> |after - before| / |before| (Frobenius). layers: for the residual stream after each
    block, `cosine`: mean of 1 - cosine of a position's vectors before and after; `cka`: linear CKA of all positions.
    """

    before: str
    after: str
    weights: dict[str, float]
    layers: list[dict[str, float]]

    def matrix_kinds(self) -> list[str]:
        """`attention.q`, ...: the matrices of a block, in the order of the weights."""
        names = [n.removeprefix("blocks.0.") for n in self.weights if n.startswith("blocks.0.")]
        return [n.removesuffix(".weight") for n in names if n.endswith(".weight") and not n.startswith("norm")]


def compare(models: Mapping[str, Transformer], ids_BT: torch.Tensor) -> list[Change]:
    """The changes between consecutive models (of one shape) on the tokens `ids_BT`."""
    changes = []
    for (before, first), (after, second) in pairwise(models.items()):
        if first.config != second.config:
            raise UserError(f"{before} and {after} have different shapes; only stages of one model can be compared")
        old, new = first.state_dict(), second.state_dict()
        if first.config.tie_embeddings:
            del old["unembed.weight"]  # the same matrix as the embedding
        weights = {name: _relative(old[name].float(), new[name].float()) for name in old}
        changes.append(Change(before, after, weights, _layers(first, second, ids_BT)))
    return changes


def _relative(old: torch.Tensor, new: torch.Tensor) -> float:
    moved, size = float((new.cpu() - old.cpu()).norm()), float(old.norm())
    return moved / size if size else float(moved > 0)  # a bias of zeros that was learned changed by all of itself


def _layers(first: Transformer, second: Transformer, ids_BT: torch.Tensor) -> list[dict[str, float]]:
    old, new = (trace(model, ids_BT.to(model.embed.weight.device), only="hook_resid_post") for model in (first, second))
    rows = []
    for layer, name in enumerate(old):
        x_ND, y_ND = old[name].flatten(0, 1).double().cpu(), new[name].flatten(0, 1).double().cpu()
        distance = 1 - F.cosine_similarity(x_ND, y_ND, dim=-1).mean()
        rows.append({"layer": layer, "cosine": float(distance), "cka": linear_cka(x_ND, y_ND)})
    return rows


def linear_cka(x_ND: torch.Tensor, y_ND: torch.Tensor) -> float:
    """Similarity of two representations of the same N positions, 1 where they are equal up to rotation and scale.

    |Y^T X|^2 / (|X^T X| |Y^T Y|) of the columns without their means (Kornblith et al. 2019, eq. 5). The widths of x and
    y may differ. At least two different positions are needed: else there is nothing to compare, and it is NaN.
    """
    x_ND, y_ND = x_ND - x_ND.mean(0), y_ND - y_ND.mean(0)
    shared = (y_ND.T @ x_ND).square().sum()
    return float(shared / ((x_ND.T @ x_ND).norm() * (y_ND.T @ y_ND).norm()))
