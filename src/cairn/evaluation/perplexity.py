"""Bits per byte of texts: how many bits a model needs for a byte of unseen text (see `training.document_loss`)."""

from collections.abc import Iterable

import torch

from cairn.models import Transformer
from cairn.tokenizers import Tokenizer
from cairn.training.document_loss import BitsPerByte, document_nats, over_documents, windows

__all__ = ["BitsPerByte", "bits_per_byte", "over_documents", "windows"]


@torch.inference_mode()
def bits_per_byte(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    context: int | None = None,
    batch_tokens: int = 16384,
) -> BitsPerByte:
    """Over `texts` (documents), with windows of `context` tokens (the model's positions by default)."""
    width = min(context or model.config.max_positions, model.config.max_positions)
    prefix = tokenizer.bos_id if tokenizer.bos_id is not None else 0
    sizes: list[int] = []

    def ids():
        for text in texts:
            sizes.append(len(text.encode("utf-8", "surrogatepass")))
            yield tokenizer.encode(text)

    return over_documents(document_nats(model, ids(), prefix, width, batch_tokens), sizes)
