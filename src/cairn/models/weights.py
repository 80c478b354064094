"""Weight files: safetensors, one or in shards. What a file says is checked before a byte of it is believed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open

from cairn.core.errors import UserError
from cairn.core.files import read_json, write_json
from cairn.core.tensors import save_tensors
from cairn.models.families import Tensors

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 4 << 30

T = TypeVar("T")

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Header(NamedTuple):
    """What a file says about a tensor: its type as safetensors spells it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def read_headers(directory: Path | str) -> dict[str, Header]:
    """Types and shapes of all tensors of a directory, without reading them."""

    def header(handle: Any, key: str) -> Header:
        part = handle.get_slice(key)
        return Header(part.get_dtype(), tuple(part.get_shape()))

    return _collect(Path(directory), header)


def read_tensors(directory: Path | str) -> Tensors:
    """All tensors of a directory, one file or sharded. A missing, truncated or foreign file is named in the error."""
    return _collect(Path(directory), lambda handle, key: handle.get_tensor(key))


def _collect(directory: Path, read: Callable[[Any, str], T]) -> dict[str, T]:
    """`read` of every tensor of the directory's files."""
    out: dict[str, T] = {}
    for name, wanted in _files(directory).items():
        try:
            with safe_open(directory / name, framework="pt") as handle:
                found = handle.keys()
                missing = sorted(wanted - set(found)) if wanted is not None else []
                if missing:
                    raise UserError(f"{directory / INDEX} looks for {missing[0]} in {name}, which has no such tensor")
                out |= {key: read(handle, key) for key in found if wanted is None or key in wanted}
        except FileNotFoundError:
            raise UserError(f"{directory / name} is missing; copy the directory again") from None
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{directory / name} is truncated or not a safetensors file ({error}); copy it again"
            ) from None
    return out


def _files(directory: Path) -> dict[str, set[str] | None]:
    """The weight files and the tensors that the index seeks in each; None where there is no index."""
    if (directory / INDEX).exists():
        return _indexed(directory / INDEX)
    if (directory / WEIGHTS).exists():
        return {WEIGHTS: None}
    pickled = sorted(p.name for p in directory.glob("*.bin")) + sorted(p.name for p in directory.glob("*.pt*"))
    hint = f" ({pickled[0]} is a pickle, which is never read: convert it to safetensors)" if pickled else ""
    raise UserError(f"{directory} has no {WEIGHTS}{hint}")


def _indexed(path: Path) -> dict[str, set[str] | None]:
    table = read_object(path).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise UserError(f"{path} has no weight_map from tensors to files; copy it again")
    files: dict[str, set[str] | None] = {name: set() for name in sorted(set(table.values()))}
    for name in files:
        if not name.endswith(".safetensors") or name.startswith(".") or any(c in name for c in "/\\\0"):
            raise UserError(f"{path} points outside its directory or at another kind of file: {name!r}")
    for tensor, name in table.items():
        files[name].add(tensor)  # type: ignore[union-attr]
    return files


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold an object")
    return data


def write_weights(directory: Path, tensors: Tensors, shard_bytes: int) -> list[str]:
    """Write the tensors in files of at most `shard_bytes` (a larger tensor has its own), and the names of the files."""
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


def as_meta(headers: dict[str, Header], where: Path | str) -> Tensors:
    """Tensors without memory that have the types and shapes of the headers."""
    out: Tensors = {}
    for name, (dtype, shape) in headers.items():
        if dtype not in DTYPES:
            raise UserError(f"{where}: {name} has the type {dtype}, which is not supported (only {', '.join(DTYPES)})")
        if 0 in shape:
            raise UserError(f"{where}: {name} has shape {shape} and holds nothing; copy the directory again")
        out[name] = torch.empty(shape, dtype=DTYPES[dtype], device="meta")
    return out
