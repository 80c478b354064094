"""Which objective trains which kind of model."""

from cairn.core.errors import UserError
from cairn.models import ModelConfig


def check_objective(kind: str, config: ModelConfig) -> None:
    """Raises UserError unless the objective ("causal", "masked" or "spans") is one for such a model."""
    if config.encoder_layers:
        found, fits = "an encoder-decoder", "spans"
    elif config.causal:
        found, fits = "a decoder", "causal"
    elif config.head == "masked":
        found, fits = "an encoder", "masked"
    else:
        raise UserError(
            f"this {config.family} model is an encoder without a head: it has nothing to train towards here"
        )
    if kind != fits:
        raise UserError(f"this {config.family} model is {found}: train it with --objective {fits}, not {kind}")
