"""Model directories: what every stage reads one of and writes one of.

Hugging Face's layout (`config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`,
`generation_config.json`) and `cairn.json`, which says where the model came from. Nothing in a directory is ever run and
no pickle is read.
"""

import platform
import struct
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, hash_file, read_json, write_json
from cairn.core.tensors import save_tensors
from cairn.models.config import ModelConfig
from cairn.models.families import Tensors, from_hugging_face, read_config, to_hugging_face, write_config
from cairn.models.transformer import Transformer
from cairn.tokenizers import Tokenizer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
RECORD = "cairn.json"
SHARD_BYTES = 4 << 30


def versions() -> dict[str, str]:
    return {"cairn": version("cairn"), "torch": torch.__version__, "python": platform.python_version()}


def save(
    path: Path | str,
    model: Transformer,
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
        dtypes = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()}
        dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
        write_json(directory / "config.json", config | ids | {"torch_dtype": dtype})
        write_json(directory / "generation_config.json", ids | {"eos_token_id": sorted(tokenizer.stop_ids)})
        tokenizer.save(directory)
        names = _write_weights(directory, tensors, shard_bytes)
        hashes = {name: hash_file(directory / name) for name in names}
        write_json(directory / RECORD, (record or {}) | {"weights": hashes, "versions": versions()})


def _write_weights(directory: Path, tensors: Tensors, shard_bytes: int) -> list[str]:
    shards: list[Tensors] = [{}]
    size = 0
    for name, tensor in tensors.items():
        bytes_ = tensor.numel() * tensor.element_size()
        if size and size + bytes_ > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += bytes_
    if len(shards) == 1:
        save_tensors(shards[0], directory / WEIGHTS, metadata={"format": "pt"})
        return [WEIGHTS]
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards):
        save_tensors(shard, directory / name, metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    where = {tensor: name for name, shard in zip(names, shards) for tensor in shard}
    write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
    return names


def read_tensors(directory: Path | str) -> Tensors:
    """All tensors of a directory, one file or sharded. A missing, truncated or foreign file is named in the error."""
    directory = Path(directory)
    if (directory / INDEX).exists():
        table = read_json(directory / INDEX).get("weight_map", {})
        names = sorted(set(table.values()))
        if any("/" in n or "\\" in n or n.startswith(".") for n in names):
            raise UserError(f"{directory / INDEX} points outside its directory")
    elif (directory / WEIGHTS).exists():
        names = [WEIGHTS]
    else:
        pickled = sorted(p.name for p in directory.glob("*.bin")) + sorted(p.name for p in directory.glob("*.pt*"))
        hint = f" ({pickled[0]} is a pickle, which is never read: convert it to safetensors)" if pickled else ""
        raise UserError(f"{directory} has no {WEIGHTS}{hint}")
    tensors: Tensors = {}
    for name in names:
        try:
            with safe_open(directory / name, framework="pt") as handle:
                for key in handle.keys():  # noqa: SIM118 (a handle is no dict)
                    tensors[key] = handle.get_tensor(key)
        except FileNotFoundError:
            raise UserError(f"{directory / name} is missing; copy the directory again") from None
        except (SafetensorError, OSError, struct.error, ValueError) as error:
            raise UserError(
                f"{directory / name} is truncated or not a safetensors file ({error}); copy it again"
            ) from None
    return tensors


def read_model_config(directory: Path | str) -> tuple[ModelConfig, dict[str, Any]]:
    """The shape of a directory's model and the raw config.json."""
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is not a model directory (no such folder)")
    if not (directory / "config.json").exists():
        raise UserError(f"{directory} is not a model directory (it has no config.json)")
    data = read_json(directory / "config.json")
    try:
        return read_config(data), data
    except UserError as error:
        raise UserError(f"{directory}: {error}") from None


def fill(model: Transformer, tensors: Tensors, where: Path | str) -> None:
    """Put tensors of the family's names into `model`; what is missing, left over or of another shape is an error."""
    named = from_hugging_face(tensors, model.config)
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
    model.load_state_dict(named)


def load(
    path: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Transformer, Tokenizer]:
    """Read a model directory, ours or Hugging Face's of a supported family, ready for use (`eval` mode)."""
    path = Path(path)
    config, data = read_model_config(path)
    if data.get("quantization_config"):
        raise UserError(f"{path} is quantized; open it with cairn.load or cairn.quantization.load_quantized")
    tokenizer = load_tokenizer(path, config)
    model = Transformer(config)
    fill(model, read_tensors(path), path)
    return model.to(device=device, dtype=dtype).eval(), tokenizer


def load_tokenizer(path: Path | str, config: ModelConfig) -> Tokenizer:
    """The directory's tokenizer, checked against the model's vocabulary."""
    tokenizer = Tokenizer.load(path)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} ids, the model {config.vocab_size}; they do not belong together"
        )
    return tokenizer


def read_record(path: Path | str) -> dict[str, Any]:
    """cairn.json of a directory; empty for a directory that another tool wrote."""
    record = Path(path) / RECORD
    return read_json(record) if record.exists() else {}


def weights_hash(path: Path | str) -> str:
    """One hash over all weight files of a directory."""
    path = Path(path)
    names = sorted(p.name for p in path.glob("*.safetensors"))
    return "-".join(hash_file(path / n)[:16] for n in names)
