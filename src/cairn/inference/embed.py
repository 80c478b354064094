"""Texts as vectors: the hidden states of a model, pooled.

    embedder = Embedder.open("all-MiniLM-L6-v2")           # an encoder with sentence-transformers' files
    vectors = embedder.encode(["a cat", "a dog"])          # (2, D) float32, of length 1: a dot product is a cosine

Shapes: B texts of a batch, T tokens, D width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from cairn.core.errors import UserError
from cairn.core.files import read_json
from cairn.models import Transformer
from cairn.tokenizers import Tokenizer

Pooling = Literal["mean", "cls", "max", "last"]
BATCH_TOKENS = 4096  # padded tokens of one forward pass
BATCH_TEXTS = 64

MODULES, POOLING, LENGTH = "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"
# sentence-transformers' name of each way to pool.
POOLING_KEYS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}


class Embedder:
    """Vectors from the last normalised hidden states of `model`.

    pooling: "mean" over the tokens, the first token ("cls"), the largest value of each dimension ("max"), or the last
    token. normalize: to length 1. max_tokens: longest text; a longer one is refused, never cut in silence.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        pooling: Pooling = "mean",
        normalize: bool = True,
        max_tokens: int | None = None,
    ):
        if pooling not in get_args(Pooling):
            raise UserError(f"pooling must be one of {', '.join(get_args(Pooling))}; got {pooling!r}")
        self.model, self.tokenizer, self.pooling, self.normalize = model.eval(), tokenizer, pooling, normalize
        positions = model.config.max_positions
        self.max_tokens = min(max_tokens or positions, positions)
        self.width = model.config.dim
        self._device = next(model.parameters()).device

    @classmethod
    def open(cls, path: Path | str) -> "Embedder":
        """A model directory, pooled as sentence-transformers' files in it say, else by the mean. UserError for a
        pipeline with a part that is not supported."""
        from cairn.quantization import load

        pooling, normalize, max_tokens = read_pipeline(Path(path))
        model, tokenizer = load(path)
        return cls(model, tokenizer, pooling, normalize, max_tokens)

    def encode(self, inputs: Sequence[str | Sequence[int]]) -> np.ndarray:
        """Vectors (n, D) of texts or ids, in their order. UserError when one is empty, too long or no ids."""
        ids = [self.ids(item) for item in inputs]
        vectors = np.empty((len(ids), self.width), np.float32)
        for batch in self.batches(ids):
            vectors[batch] = self.embed([ids[i] for i in batch])
        return vectors

    def ids(self, item: str | Sequence[int]) -> list[int]:
        """What the model reads of a text: with its special tokens around it, or the beginning-of-text token before it.
        Ids are taken as they are."""
        if isinstance(item, str):
            around = any(self.tokenizer.around)
            ids = self.tokenizer.encode(item, add_special=around)
            if not around and self.tokenizer.bos_id is not None:
                ids = [self.tokenizer.bos_id, *ids]
        else:
            ids = list(item)
        if not ids:
            raise UserError("a text to embed is empty")
        if len(ids) > self.max_tokens:
            raise UserError(f"a text to embed has {len(ids)} tokens, the model takes {self.max_tokens}: split it")
        if min(ids) < 0 or max(ids) >= self.model.config.vocab_size:
            raise UserError(f"a text to embed has token ids outside 0 .. {self.model.config.vocab_size - 1}")
        return ids

    @staticmethod
    def batches(ids: Sequence[Sequence[int]]) -> list[list[int]]:
        """Indices of texts that are embedded together: alike in length, so that little is padding.

        >>> Embedder.batches([[1] * 3000, [1], [1] * 2000, [1, 2]])
        [[1, 3], [2], [0]]
        """
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        batches: list[list[int]] = []
        for i in order:
            full = not batches or len(batches[-1]) == BATCH_TEXTS
            if (
                full
                or (len(batches[-1]) + 1) * len(ids[i]) > BATCH_TOKENS
                or len(ids[i]) > 2 * len(ids[batches[-1][0]]) + 16
            ):
                batches.append([])
            batches[-1].append(i)
        return batches

    @torch.inference_mode()
    def embed(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Vectors (B, D) of one batch of ids."""
        lengths_B = torch.tensor([len(row) for row in ids])
        ids_BT = torch.zeros(len(ids), int(lengths_B.max()), dtype=torch.long)
        for row_T, row in zip(ids_BT, ids):
            row_T[: len(row)] = torch.tensor(row)
        mask_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
        hidden_BTD = self.model.hidden(ids_BT.to(self._device), mask_BT=mask_BT.to(self._device)).float().cpu()
        vectors = self._pool(hidden_BTD, mask_BT, lengths_B).numpy()
        return unit(vectors) if self.normalize else vectors

    def _pool(self, hidden_BTD: torch.Tensor, mask_BT: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        if self.pooling == "mean":
            return (hidden_BTD * mask_BT[..., None]).sum(1) / lengths_B[:, None]
        if self.pooling == "max":
            return hidden_BTD.masked_fill(~mask_BT[..., None], -torch.inf).amax(1)
        if self.pooling == "cls":
            return hidden_BTD[:, 0]
        return hidden_BTD[torch.arange(len(lengths_B)), lengths_B - 1]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def read_pipeline(directory: Path) -> tuple[Pooling, bool, int | None]:
    """pooling, normalize and max_tokens as sentence-transformers' files in `directory` say; the mean, of length 1, for a
    directory that has none. Every value is checked; UserError names the file and what is not supported."""
    if not (directory / MODULES).exists():
        return "mean", True, None
    modules = read_json(directory / MODULES)
    if not isinstance(modules, list) or not all(
        isinstance(m, dict) and isinstance(m.get("type"), str) for m in modules
    ):
        raise UserError(f"{directory / MODULES} must be a list of modules, each with a type")
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UserError(
            f"{directory / MODULES}: the modules {', '.join(kinds)} are not supported, only Transformer, Pooling, Normalize"
        )
    max_tokens = None
    if (directory / LENGTH).exists():
        max_tokens = _table(directory / LENGTH).get("max_seq_length")
        if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
            raise UserError(f"{directory / LENGTH}: max_seq_length must be a whole number above 0, got {max_tokens!r}")
    return _read_pooling(directory / POOLING), kinds[-1] == "Normalize", max_tokens


def _read_pooling(file: Path) -> Pooling:
    if not file.exists():
        raise UserError(f"{file} is missing, which {MODULES} asks for; copy the directory again")
    table = _table(file)
    chosen = []
    for key, value in table.items():
        if not key.startswith("pooling_mode"):
            continue
        if type(value) is not bool:
            raise UserError(f"{file}: {key} must be true or false, got {value!r}")
        if value:
            chosen.append(key)
    if len(chosen) != 1 or chosen[0] not in POOLING_KEYS:
        raise UserError(
            f"{file}: one of {', '.join(POOLING_KEYS)} must be true alone, got {', '.join(chosen) or 'none'}"
        )
    return POOLING_KEYS[chosen[0]]


def _table(file: Path) -> dict[str, Any]:
    value = read_json(file)
    if not isinstance(value, dict):
        raise UserError(f"{file} must be a JSON object")
    return value
