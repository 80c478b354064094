"""Dropout (Srivastava et al. 2014): a training setting, not a part of a model's shape."""

from torch import nn

from cairn.core.errors import UserError


def set_dropout(model: nn.Module, share: float) -> None:
    """Let every dropout layer set `share` of its activations to zero while training. Raises UserError in a model without."""
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    if share and not layers:
        raise UserError(f"a {type(model).__name__} has no dropout layers: set dropout to 0")
    for layer in layers:
        layer.p = share
