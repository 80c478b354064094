"""Which parameters are alike to an optimizer: by what they are in the model, not by their shape alone."""

from enum import StrEnum
from typing import NamedTuple

import torch
from torch import nn


class Role(StrEnum):
    """matrix: between two vectors of the model's width. embedding: a row a token, position, segment or distance; a tied
    unembedding too. unembedding: from the residual stream to logits. vector: norms and biases."""

    MATRIX = "matrix"
    EMBEDDING = "embedding"
    UNEMBEDDING = "unembedding"
    VECTOR = "vector"

    @property
    def decays(self) -> bool:
        """Weight decay keeps matrices small. A norm's gain would be drawn away from 1, and the row of a rare token to 0."""
        return self in (Role.MATRIX, Role.UNEMBEDDING)


class Member(NamedTuple):
    name: str
    parameter: torch.Tensor
    role: Role


def members(model: nn.Module, *, frozen: bool = False) -> list[Member]:
    """The parameters that are trained (with `frozen`, the others too), each once, in the order of `named_parameters`."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    tied = bool(getattr(getattr(model, "config", None), "tie_embeddings", False))
    found = []
    for name, parameter in model.named_parameters():
        if not (parameter.requires_grad or frozen):
            continue
        if parameter.ndim < 2:
            role = Role.VECTOR
        elif id(parameter) in embeddings:
            role = Role.EMBEDDING
        elif name.split(".")[-2:] == ["unembed", "weight"]:
            # The last stage of a pipeline holds a copy of a tied embedding, and treats it as the first stage does.
            role = Role.EMBEDDING if tied else Role.UNEMBEDDING
        else:
            role = Role.MATRIX
        found.append(Member(name, parameter, role))
    return found
