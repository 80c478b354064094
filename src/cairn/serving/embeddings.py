"""POST /v1/embeddings: texts or ids as vectors."""

import asyncio
import base64
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from cairn.core.errors import UserError
from cairn.inference.embed import Embedder, unit
from cairn.serving.errors import ApiError
from cairn.serving.job import time_limit
from cairn.serving.protocol import EmbeddingRequest
from cairn.serving.worker import Worker


@dataclass(frozen=True)
class Embeddings:
    """The route's model; it may be another than the one that answers. Only the worker's thread runs it."""

    embedder: Embedder
    model_name: str
    worker: Worker
    seconds: float

    async def answer(self, body: EmbeddingRequest) -> dict[str, Any]:
        width = self.embedder.width
        if body.dimensions is not None and body.dimensions > width:
            message = f"dimensions: {body.dimensions} are asked for, the model has {width}"
            raise ApiError(400, message, param="dimensions", code="invalid_value")
        with self.worker.admit():
            async with time_limit(self.seconds):
                ids = await self._read(body.input)
                vectors = np.empty((len(ids), width), np.float32)
                for batch in self.embedder.batches(ids):
                    rows = await self.worker.call(functools.partial(self.embedder.embed, [ids[i] for i in batch]))
                    vectors[batch] = rows
        if body.dimensions is not None:
            vectors = unit(vectors[:, : body.dimensions])
        write = _base64 if body.encoding_format == "base64" else np.ndarray.tolist
        data = [{"object": "embedding", "index": i, "embedding": write(row)} for i, row in enumerate(vectors)]
        count = sum(map(len, ids))
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "data": data, "model": self.model_name, "usage": usage}

    async def _read(self, inputs: list[str | list[int]]) -> list[list[int]]:
        try:
            return [await asyncio.to_thread(self.embedder.ids, item) for item in inputs]
        except UserError as error:
            raise ApiError(400, str(error), param="input", code="invalid_value") from None


def _base64(row: np.ndarray) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")
