"""Model directories: what every stage reads one of and writes one of.

Hugging Face's layout (`config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`,
`generation_config.json`) and `cairn.json`, which says where the model came from. Nothing in a directory is ever run and
no pickle is read.
"""

import platform
import reprlib
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import torch

from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, hash_file, read_json, write_json
from cairn.models.config import ModelConfig
from cairn.models.families import Tensors, from_hugging_face, read_config, to_hugging_face, write_config
from cairn.models.seq2seq import EncoderDecoder, build_model
from cairn.models.transformer import Transformer
from cairn.models.weights import (
    FLOATS,
    SHARD_BYTES,
    as_meta,
    read_headers,
    read_object,
    read_tensors,
    write_weights,
)
from cairn.tokenizers import Tokenizer

RECORD = "cairn.json"


def versions() -> dict[str, str]:
    return {"cairn": version("cairn"), "torch": torch.__version__, "python": platform.python_version()}


def save(
    path: Path | str,
    model: Transformer | EncoderDecoder,
    tokenizer: Tokenizer,
    record: dict[str, Any] | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a model directory, whole or not at all. `record` goes to cairn.json beside the hash of the weights."""
    tensors = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items()}
    write_directory(
        path,
        write_config(model.config),
        to_hugging_face(tensors, model.config),
        tokenizer,
        record,
        shard_bytes=shard_bytes,
    )


def write_directory(
    path: Path | str,
    config: dict[str, Any],
    tensors: Tensors,
    tokenizer: Tokenizer,
    record: dict[str, Any] | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write config.json content and tensors that already carry their family's names."""
    if tokenizer.vocab_size > config["vocab_size"]:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} ids, the model only {config['vocab_size']}: "
            f"set the model's vocab_size to at least {tokenizer.vocab_size}"
        )
    path = Path(path)
    foreign = path.exists() and not (path / "config.json").exists()
    if foreign and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is no model directory; it will not be replaced: choose another place")
    with atomic_directory(path) as directory:
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
        ids = {k: v for k, v in ids.items() if v is not None}
        sizes: Counter[torch.dtype] = Counter()
        for tensor in tensors.values():
            if tensor.is_floating_point():
                sizes[tensor.dtype] += tensor.numel()
        # Of most elements: a router's correction stays in float32 in a model of bfloat16.
        dtype = str(sizes.most_common(1)[0][0] if sizes else torch.float32).removeprefix("torch.")
        # What the family says stands: RoBERTa's positions depend on its pad_token_id.
        config = config | {k: v for k, v in ids.items() if config.get(k) is None}
        write_json(directory / "config.json", config | {"torch_dtype": dtype})
        starts = {k: v for k, v in config.items() if k in ("pad_token_id", "decoder_start_token_id") and v is not None}
        write_json(directory / "generation_config.json", ids | starts | {"eos_token_id": sorted(tokenizer.stop_ids)})
        tokenizer.save(directory)
        names = write_weights(directory, tensors, shard_bytes)
        hashes = {name: hash_file(directory / name) for name in names}
        write_json(directory / RECORD, (record or {}) | {"weights": hashes, "versions": versions()})


def read_model_config(directory: Path | str) -> tuple[ModelConfig, dict[str, Any]]:
    """The shape of a directory's model and the raw config.json."""
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is not a model directory (no such folder)")
    if not (directory / "config.json").exists():
        raise UserError(f"{directory} is not a model directory (it has no config.json)")
    data = read_object(directory / "config.json")
    try:
        return read_config(data), data
    except UserError as error:
        raise UserError(f"{directory}: {error}") from None


def empty_model(path: Path | str, config: ModelConfig) -> Transformer | EncoderDecoder:
    """The model of a directory without memory for its weights (on the meta device), which `fill` gives it.

    Raises UserError where sizes of config.json are larger than anything in the weight files: a wrong or hostile
    config.json asks for no memory.
    """
    headers = read_headers(path)
    largest = max((size for header in headers.values() for size in header.shape), default=0)
    # What costs memory or time before the shapes are compared one by one, and what could overflow a product.
    sizes = {
        "vocab_size": config.vocab_size,
        "width": config.dim,
        "width of all heads": config.heads * config.head_dim,
        "rotated part of a head": config.rope_dim if config.positions == "rope" else 0,
    }
    name, size = max(sizes.items(), key=lambda item: item[1])
    if size > largest:
        raise UserError(f"{path}: the weights do not fit config.json: a {name} of {size}, but no tensor is that large")
    rows = sum(header.shape[0] if header.shape else 1 for header in headers.values())
    parts = config.layers * (config.experts.count if config.experts else 1) + config.encoder_layers
    if parts > rows:
        raise UserError(f"{path}: the weights do not fit config.json: {parts} layers or experts, but {rows} rows")
    with torch.device("meta"):
        return build_model(config)


def fill(
    model: Transformer | EncoderDecoder, tensors: Tensors, where: Path | str, dtype: torch.dtype = torch.float32
) -> None:
    """Make tensors of the family's names, converted to `dtype`, the weights of `model`, which may be an empty one.

    What is missing, left over, of another shape or no floating-point number is an error.
    """
    named = from_hugging_face(tensors, model.config)
    check_fit(named, model, where)
    del tensors  # so that each can be freed once it is converted
    tied = _tied(model)
    exact = {name for name, _ in model.named_buffers()}  # a router's correction stays in float32
    for name in named:
        named[name] = _own(named[name], torch.float32 if name in exact else dtype)
    model.load_state_dict(named, assign=True)
    for name, first in tied.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, model.get_parameter(first))


def check_fit(named: Tensors, model: torch.nn.Module, where: Path | str) -> None:
    """Raise UserError unless `named` are floating-point tensors of exactly the names and shapes of the model's."""
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - named.keys()), sorted(named.keys() - wanted.keys())
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"has the unknown tensor {extra[0]}"
        raise UserError(
            f"{where}: the weights do not fit config.json: it {what} (and {len(missing) + len(extra) - 1} more)"
        )
    for name, tensor in named.items():
        if tensor.shape != wanted[name].shape:
            raise UserError(
                f"{where}: {name} has shape {tuple(tensor.shape)}, config.json says {tuple(wanted[name].shape)}"
            )
        if tensor.dtype not in FLOATS:
            kind = str(tensor.dtype).removeprefix("torch.")
            why = "; 8 bits mean nothing without the scales that made them" if tensor.dtype.itemsize == 1 else ""
            raise UserError(f"{where}: {name} holds {kind}, only floats of 16, 32 and 64 bits are read{why}")


def _tied(model: torch.nn.Module) -> dict[str, str]:
    """Second names of parameters -> their first."""
    first: dict[int, str] = {}
    names = model.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in names if first.setdefault(id(p), name) != name}


def _own(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in memory of its own: a part of a fused matrix must not hold the whole."""
    converted = tensor.to(dtype)
    shares = converted.untyped_storage().nbytes() != converted.nbytes
    return converted.clone() if shares else converted


def load_model(
    path: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype | Literal["auto"] = torch.float32
) -> Transformer | EncoderDecoder:
    """The model of a directory, as `load`, for one without a tokenizer."""
    path = Path(path)
    config, data = read_model_config(path)
    if data.get("quantization_config"):
        raise UserError(f"{path} is quantized; open it with cairn.load or cairn.quantization.load_quantized")
    if dtype == "auto":
        dtype = stored_dtype(data, path)
    model = empty_model(path, config)
    check_fit(from_hugging_face(as_meta(read_headers(path), path), config), model, path)
    fill(model, read_tensors(path), path, dtype)
    return model.to(device).eval()


def stored_dtype(data: dict[str, Any], path: Path | str) -> torch.dtype:
    """The type that config.json names (transformers 4: torch_dtype, 5: dtype); without one, float32."""
    name = data.get("dtype") or data.get("torch_dtype") or "float32"
    if name not in ("float32", "float16", "bfloat16"):
        raise UserError(f"{path}: config.json names the dtype {name!r}, only float32, float16 and bfloat16 are known")
    return getattr(torch, name)


def load(
    path: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype | Literal["auto"] = torch.float32
) -> tuple[Transformer, Tokenizer]:
    """Read a model directory, ours or Hugging Face's of a supported family, ready for use (`eval` mode).

    The model of an encoder-decoder family (T5, Marian) is an `EncoderDecoder`; all others are typed as they are.
    dtype: what the weights are converted to; float32 unless asked otherwise, since a CPU computes in it. "auto" is the type
    that the directory names.
    """
    config, _ = read_model_config(path)
    tokenizer = load_tokenizer(path, config)  # small, and most often at fault: before the weights
    return cast(Transformer, load_model(path, device=device, dtype=dtype)), tokenizer


def load_tokenizer(path: Path | str, config: ModelConfig) -> Tokenizer:
    """The directory's tokenizer, checked against the model's vocabulary; its `ends` are those of generation_config.json (or
    config.json), where models of other makers name the end of a turn."""
    tokenizer = Tokenizer.load(path)
    tokenizer.ends = _ends(Path(path), config)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} ids, the model {config.vocab_size}; they do not belong together"
        )
    return tokenizer


def _ends(path: Path, config: ModelConfig) -> frozenset[int]:
    generation = path / "generation_config.json"
    name = generation if generation.exists() else path / "config.json"
    found = read_object(name).get("eos_token_id")
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(i) is int for i in ids):
        raise UserError(f"{name}: eos_token_id must be a token id or a list of them, got {reprlib.repr(found)}")
    return frozenset(i for i in ids if 0 <= i < config.vocab_size)  # no token is beyond the vocabulary


def read_record(path: Path | str) -> dict[str, Any]:
    """cairn.json of a directory; empty for a directory that another tool wrote."""
    record = Path(path) / RECORD
    return read_json(record) if record.exists() else {}


def weights_hash(path: Path | str) -> str:
    """One hash over all weight files of a directory."""
    path = Path(path)
    names = sorted(p.name for p in path.glob("*.safetensors"))
    return "-".join(hash_file(path / n)[:16] for n in names)
