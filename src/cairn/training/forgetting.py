"""What continued training costs: losses on text of the old kind and of the new, before and after.

A model that goes on with a domain alone forgets what it knew. Replay (a share of rows of the old corpus, see `mixture`) and a
second warm-up keep most of it; how much is measured here, on the same documents before and after, so that the interval of the
difference is narrower than those of the two losses.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from cairn.core.errors import UserError
from cairn.tokenizers import Tokenizer
from cairn.training.document_loss import BitsPerByte, document_nats, over_documents
from cairn.training.shards import ShardSet


@dataclass(frozen=True)
class HeldOut:
    """Documents that are not trained on: their ids without bos, and how many bytes of text each is."""

    name: str
    documents: Sequence[Sequence[int]]
    bytes_N: Sequence[int]

    def __post_init__(self) -> None:
        if not any(self.bytes_N):
            raise UserError(f"{self.name} holds no text to measure forgetting on")


def held_out_texts(name: str, texts: Iterable[str], tokenizer: Tokenizer, limit: int | None = None) -> HeldOut:
    """The first `limit` texts."""
    chosen = [text for text in islice(texts, limit) if text]
    return HeldOut(
        name, [tokenizer.encode(t) for t in chosen], [len(t.encode("utf-8", "surrogatepass")) for t in chosen]
    )


def held_out_shards(name: str, source: ShardSet, tokenizer: Tokenizer, limit: int | None = None) -> HeldOut:
    """The first `limit` documents of token shards; their bytes are those of the ids decoded."""
    documents = [ids.tolist() for ids in islice(source.each_document(), limit)]
    if tokenizer.bos_id is not None:
        documents = [ids[1:] if ids[:1] == [tokenizer.bos_id] else ids for ids in documents]
    return HeldOut(name, documents, [len(tokenizer.decode_bytes(ids)) for ids in documents])


@dataclass(frozen=True)
class Change:
    """Bits per byte of one set before and after, and the difference: below 0 the model got better, above it forgot."""

    name: str
    before: BitsPerByte
    after: BitsPerByte
    difference: BitsPerByte


def measure(model: Any, sets: Sequence[HeldOut], tokenizer: Tokenizer, context: int) -> list[np.ndarray]:
    """The loss (nats) of every document of every set. The model is left as it was found, in training or not."""
    prefix = tokenizer.bos_id if tokenizer.bos_id is not None else 0
    training = model.training
    model.eval()
    losses = [document_nats(model, held_out.documents, prefix, context) for held_out in sets]
    model.train(training)
    return losses


def changes(sets: Sequence[HeldOut], before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> list[Change]:
    """Two measurements of the same sets; the difference is taken document by document."""
    return [
        Change(
            held_out.name,
            over_documents(old_N, held_out.bytes_N),
            over_documents(new_N, held_out.bytes_N),
            over_documents(new_N - old_N, held_out.bytes_N),
        )
        for held_out, old_N, new_N in zip(sets, before, after)
    ]


def to_record(found: Sequence[Change]) -> dict[str, Any]:
    """For cairn.json: {"general": {"before": {...}, "after": {...}, "difference": {...}}, ...}."""
    return {change.name: {k: v for k, v in asdict(change).items() if k != "name"} for change in found}


HEADER = ("bits per byte", "before", "after", "difference", "95 % interval", "documents")


def to_table(record: dict[str, Any]) -> list[list[str]]:
    """Rows under HEADER of what `to_record` gave, or of what was read back from cairn.json."""
    out = []
    for name, change in record.items():
        difference = change["difference"]
        interval = f"{difference['low']:+.3f} .. {difference['high']:+.3f}"
        values = [f"{change['before']['value']:.3f}", f"{change['after']['value']:.3f}", f"{difference['value']:+.3f}"]
        out.append([name, *values, interval, str(difference["documents"])])
    return out
