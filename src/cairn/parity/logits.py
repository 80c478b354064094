"""How a decoder is compared with `transformers`: a random model there is read here, a random model here is read there, and
both must give the same logits for padded batches, through the cache, and in bfloat16.

Fields are the content of a config.json (with `model_type`), in the words of `transformers`.
"""

import logging
import random
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cairn.models import PAGE, PagedCache, Segment, Transformer, save
from cairn.models.directory import load_model
from cairn.tokenizers import Tokenizer, train_tokenizer

Fields = dict[str, Any]

FLOAT32 = 1e-4  # sums of hundreds of products in another order differ by a few 1e-6
BFLOAT16 = 2.5e-2  # root mean square, relative: about as far as the oracle is from its own logits in float32


def both_ways(fields: Fields, seed: int) -> float:
    """Largest difference of logits: their random model read by us, then our random model read by them."""
    ids_BT, mask_BT = _batch(fields, seed)
    with tempfile.TemporaryDirectory() as folder, quiet():
        theirs, ours = _pair(fields, seed, Path(folder) / "theirs")
        error = _padded(ours, theirs, ids_BT, mask_BT)
        save(Path(folder) / "ours", randomized(ours, seed + 1), _tokenizer())
        return max(error, _padded(ours, _read(Path(folder) / "ours"), ids_BT, mask_BT))


def through_the_cache(fields: Fields, seed: int) -> float:
    """Largest difference between our logits, token by token in pages, and theirs of the whole text.

    Rows of several lengths; each prompt comes in two pieces, then four tokens one at a time.
    """
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, quiet():
        theirs, ours = _pair(fields, seed, Path(folder))
        lengths = [rng.randint(4, 16), rng.randint(20, 30), rng.randint(4, 30)]
        rows = [torch.randint(0, ours.config.vocab_size, (length + 4,)) for length in lengths]
        with torch.no_grad():
            wanted = [theirs(row[None]).logits[0] for row in rows]
        pages = rng.sample(range(20), 3 * (34 // PAGE + 1))
        tables = [pages[i::3] for i in range(3)]
        cuts = [rng.randint(1, length - 1) for length in lengths]
        steps = [([0] * 3, cuts), (cuts, lengths)]
        steps += [([n + t for n in lengths], [n + t + 1 for n in lengths]) for t in range(4)]
        paged, error = PagedCache(ours.config, 20), 0.0
        for starts, ends in steps:
            spans = list(zip(starts, ends))
            segments = [Segment(table, start, end - start) for table, (start, end) in zip(tables, spans)]
            ids_1N = torch.cat([row[start:end] for row, (start, end) in zip(rows, spans)])[None]
            with torch.no_grad():
                got_NV = ours(ids_1N, paged.step(segments))[0]
            wanted_NV = torch.cat([whole[start:end] for whole, (start, end) in zip(wanted, spans)])
            error = max(error, difference(got_NV, wanted_NV))
        return error


def in_bfloat16(fields: Fields, seed: int) -> float:
    """Root mean square of the difference over that of the logits, both models in bfloat16, theirs read by us."""
    ids_BT, mask_BT = _batch(fields, seed)
    with tempfile.TemporaryDirectory() as folder, quiet():
        theirs, _ = _pair(fields, seed, Path(folder), gain=0.5)  # a random network amplifies roundings
        ours = load_model(folder, dtype=torch.bfloat16)
        with torch.no_grad():
            wanted = theirs.to(torch.bfloat16)(ids_BT, attention_mask=mask_BT.long()).logits[mask_BT]
            got = ours(ids_BT, mask_BT=mask_BT)[mask_BT]
        return float((got.double() - wanted.double()).norm() / wanted.double().norm())


def difference(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest absolute difference; infinite where something is no number."""
    error = (got.double() - wanted.double()).abs().max()
    return float(error) if error.isfinite() else float("inf")


def randomized(model: Any, seed: int, gain: float = 1.0) -> Any:
    """The model with weights of every kind away from their starting values, norms and biases too.

    gain: by how much a matrix stretches a random vector.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.state_dict().values():  # parameters, and the buffers that are stored with them
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * gain * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 1 + 0.15 * noise)
    return model.eval()


def _pair(fields: Fields, seed: int, folder: Path, gain: float = 1.0) -> tuple[nn.Module, Transformer]:
    """A random model of theirs, and ours that read it from `folder`."""
    import transformers

    torch.manual_seed(seed)
    values = {name: value for name, value in fields.items() if name != "model_type"}
    config = transformers.AutoConfig.for_model(fields["model_type"], **values)
    theirs = transformers.AutoModelForCausalLM.from_config(config)
    randomized(theirs, seed, gain).save_pretrained(folder)
    ours = load_model(folder)
    assert isinstance(ours, Transformer)
    return theirs, ours


def _read(folder: Path) -> nn.Module:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def _padded(ours: Transformer, theirs: nn.Module, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> float:
    with torch.no_grad():
        wanted = theirs(ids_BT, attention_mask=mask_BT.long()).logits[mask_BT]
        plain, masked = ours(ids_BT)[mask_BT], ours(ids_BT, mask_BT=mask_BT)[mask_BT]
    return max(difference(plain, wanted), difference(masked, wanted))


def _batch(fields: Fields, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (3, T) padded on the right, and where they are real: T beyond the length that a rotary scaling starts from."""
    rng = random.Random(seed)
    T = 44
    torch.manual_seed(seed)
    lengths = torch.tensor([T, rng.randint(1, T), rng.randint(1, T)])
    return torch.randint(0, fields["vocab_size"], (3, T)), torch.arange(T) < lengths[:, None]


@cache
def _tokenizer() -> Tokenizer:
    """The smallest there is: a model directory must have one."""
    return train_tokenizer(["stone upon stone"], 290)


@contextmanager
def quiet():
    """Without the oracle's progress bars and warnings about sizes that no real model has."""
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        transformers.logging.enable_progress_bar()
