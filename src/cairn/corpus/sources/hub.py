"""Data sets of the Hugging Face hub, streamed without storing them first (extra `hub`)."""

from collections.abc import Iterator

from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Quarantine
from cairn.corpus.sources.plan import DOCUMENT_BYTES
from cairn.corpus.sources.reading import Reading


def read_hub(
    dataset: str,
    quarantine: Quarantine,
    split: str = "train",
    text_field: str = "",
    revision: str | None = None,
    config: str | None = None,
) -> Iterator[Document]:
    """The rows of a data set ("roneneldan/TinyStories") as documents, in order. Ids: `dataset/split:ROW`, from 0.

    `config` is the data set's subset ("sample-10BT"); name a `revision` (a commit) for text that does not change. Only
    data files are read: version 4 of `datasets`, the first that is accepted, runs no code from the hub. Raises UserError
    for a missing extra, an unknown data set, split or revision, and a connection that is lost.
    """
    place = "/".join(word for word in (dataset, config, split) if word)
    reading = Reading(place, quarantine, text_field, DOCUMENT_BYTES)
    for number, row in enumerate(_rows(place, dataset, config, split, revision)):
        document = reading.document(f":{number}", row)
        if document:
            yield document


def _rows(place: str, dataset: str, config: str | None, split: str, revision: str | None) -> Iterator[object]:
    try:
        import datasets  # type: ignore[import-not-found]
    except ImportError:
        raise UserError("data sets of the hub need the extra: pip install 'cairn[hub]'") from None
    if int(datasets.__version__.split(".")[0]) < 4:
        raise UserError(
            f"datasets {datasets.__version__} may run code from the hub: pip install 'cairn[hub]' (4 or newer)"
        )
    count = 0
    try:
        for row in datasets.load_dataset(dataset, config, split=split, revision=revision, streaming=True):
            yield row
            count += 1
    except Exception as error:  # its own errors, those of its HTTP client, and ValueError for unknown names
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{place} could not be read on after {count} rows: {said[0]}") from error
