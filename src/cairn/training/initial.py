"""Fresh weights: how large they are at first decides whether signals and gradients keep their size through the layers."""

import math
from typing import Any

import torch

from cairn.core.errors import UserError
from cairn.models.seq2seq import EncoderDecoder
from cairn.models.transformer import Transformer
from cairn.training.mup import width_ratio
from cairn.training.optimizers.groups import Role, members

SCHEMES = ("gpt2", "xavier", "he")
DEVIATION = 0.02  # of embeddings under each scheme, since a tied one is also the unembedding
WRITERS = ("out.weight", "down.weight")  # what they give is added to the residual stream


def initialize(model: Any, kind: str, seed: int, *, mup_width: int = 0) -> Any:
    """Give a model fresh weights in place; returns it. Drawn on the CPU in the order of names, so that a seed gives the same
    model on every device.

    gpt2: matrices normal with deviation 0.02 (Radford et al. 2019). xavier: uniform with variance 2 / (fan_in + fan_out),
    which keeps both signals and gradients (Glorot and Bengio 2010). he: normal with variance 2 / fan_in, for ReLU (He et al.
    2015). Under each, what writes to the residual stream is scaled by 1/sqrt(2 layers), because the stream adds up two a
    block; embeddings have deviation 0.02, norms are 1, biases 0.

    mup_width: the width that rates were tuned at, see `mup`: gpt2's deviation falls with sqrt(width) from there. The other
    two do so by themselves.
    """
    if kind not in SCHEMES:
        raise UserError(f"unknown initialisation {kind!r}; known: {', '.join(SCHEMES)}")
    if isinstance(model, EncoderDecoder):
        initialize(model.encoder, kind, seed, mup_width=mup_width)
        initialize(model.decoder, kind, seed + 1, mup_width=mup_width)
        return model
    if not isinstance(model, Transformer):
        if kind == "gpt2" and not mup_width:
            return model.initialize(seed)
        raise UserError(f"initialisation {kind!r} and muP are for Transformers; this model has its own, named gpt2")
    generator = torch.Generator().manual_seed(seed)
    deviation = DEVIATION / math.sqrt(width_ratio(model, mup_width)) if mup_width else DEVIATION
    depth = 1 / math.sqrt(2 * model.config.layers)
    with torch.no_grad():
        for name, parameter, role in members(model, frozen=True):
            if role is Role.VECTOR:
                zero = name.endswith("bias") or model.config.norm_offset
                parameter.fill_(0.0 if zero else 1.0)
                continue
            fresh = torch.empty(parameter.shape)
            if role is not Role.MATRIX:
                fresh.normal_(generator=generator).mul_(DEVIATION)
            elif kind == "gpt2":
                fresh.normal_(generator=generator).mul_(deviation)
            elif kind == "xavier":
                torch.nn.init.xavier_uniform_(fresh, generator=generator)
            else:
                torch.nn.init.kaiming_normal_(fresh, nonlinearity="relu", generator=generator)
            parameter.copy_(fresh * depth if name.endswith(WRITERS) else fresh)
    return model
