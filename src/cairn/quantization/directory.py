"""Quantized model directories, in the `pack-quantized` format of compressed-tensors (which transformers and vLLM read).

Every linear layer of the blocks becomes integers and scales; embeddings and norms stay floats, in bfloat16. Measured on
a million-parameter model (2.0500 bits per byte): bfloat16 embeddings cost 0.00003 bits per byte, INT8 embeddings
0.00011 for half the bytes. Floats won: transformers (5.23) does not open quantized embeddings, tied or not.
"""

import re
from pathlib import Path
from typing import Any, Literal

import torch

from cairn import models
from cairn.core.errors import UserError
from cairn.models import ModelConfig, Transformer, read_record, weights_hash
from cairn.models.directory import (
    empty_model,
    fill,
    load_tokenizer,
    read_model_config,
    read_tensors,
    stored_dtype,
    write_directory,
)
from cairn.models.families import FAMILIES, Tensors, rename, to_hugging_face, write_config
from cairn.quantization.formats import GROUP, dequantize, pack, quantize, unpack
from cairn.quantization.linear import QuantizedLinear
from cairn.tokenizers import Tokenizer

METHOD, FORMAT = "compressed-tensors", "pack-quantized"
PACKED, SCALE, SHAPE = "weight_packed", "weight_scale", "weight_shape"
FLOAT_DTYPE = torch.bfloat16  # of everything that is not quantized


def quantize_directory(source: Path | str, out: Path | str, bits: int) -> dict[str, Any]:
    """Write the model of `source` with linear layers in `bits` = 8 or 4 bits to `out`.

    A layer whose inputs are no multiple of INT4's group stays in INT8. Returns {"bits", "bytes_before", "bytes_after",
    "layers": {kind: {"bits", "relative_error"}}}: bytes of the weight files, and |w - q| / |w| in the Frobenius norm,
    the mean over the layers of a kind. Raises UserError for a source that is quantized already or of a family that the
    format cannot hold (GPT-2: its layers are no `nn.Linear` in transformers).
    """
    source, out = Path(source), Path(out)
    if bits not in (8, 4):
        raise UserError(f"--bits must be 8 or 4, got {bits}")
    config, data = read_model_config(source)
    if data.get("quantization_config"):
        raise UserError(f"{source} is quantized already; quantize the model it was made from")
    if config.family != "llama":
        raise UserError(f"{source} is a {config.family} model; only llama models can be stored as {FORMAT}")
    if out.resolve() == source.resolve():
        raise UserError(f"{out} is the source itself; give another folder with --out")
    if out.exists() and not (out / "config.json").exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out} exists and is no model directory; it will not be replaced: give another folder with --out"
        )
    tokenizer = load_tokenizer(source, config)
    model = empty_model(source, config)
    if not isinstance(model, Transformer):
        raise UserError(f"{source} is a {config.family} model; quantization takes decoders and encoders")
    fill(model, read_tensors(source), source)

    tensors: Tensors = {}
    errors: dict[str, list[float]] = {}
    bits_of: dict[str, int] = {}
    for name, tensor in model.state_dict().items():
        if not (name.startswith("blocks.") and tensor.ndim == 2):
            tensors[name] = tensor.to(FLOAT_DTYPE)
            continue
        if not tensor.isfinite().all():
            raise UserError(f"{source}: {name} holds infinite or undefined numbers; the training that made it diverged")
        layer = name.removesuffix(".weight")
        kind = re.sub(r"^blocks\.\d+\.", "", layer)
        bits_of[kind] = bits if bits == 8 or tensor.shape[1] % GROUP == 0 else 8
        values_OI, scale_OG = quantize(tensor, bits_of[kind])
        tensors |= _packed_tensors(layer, values_OI, scale_OG, bits_of[kind])
        error = (tensor - dequantize(values_OI, scale_OG)).norm() / tensor.norm()
        errors.setdefault(kind, []).append(float(error.nan_to_num()))  # 0 / 0: a layer of zeros is kept exactly
    if bits not in bits_of.values():
        raise UserError(f"{source}: no layer has a multiple of {GROUP} inputs, as INT4 needs; use --bits 8")

    record = read_record(source) | {"stage": f"int{bits}", "parents": [weights_hash(source)]}
    data = write_config(config) | {"quantization_config": _quantization_config(config, bits_of)}
    write_directory(out, data, to_hugging_face(tensors, config), tokenizer, record)
    return {
        "bits": bits,
        "bytes_before": weight_bytes(source),
        "bytes_after": weight_bytes(out),
        "layers": {k: {"bits": bits_of[k], "relative_error": sum(e) / len(e)} for k, e in errors.items()},
    }


def weight_bytes(path: Path | str) -> int:
    """Bytes of a directory's weight files."""
    return sum(p.stat().st_size for p in Path(path).glob("*.safetensors"))


def _packed_tensors(layer: str, values_OI: torch.Tensor, scale_OG: torch.Tensor, bits: int) -> Tensors:
    shape = torch.tensor(values_OI.shape)
    return {f"{layer}.{PACKED}": pack(values_OI, bits), f"{layer}.{SCALE}": scale_OG, f"{layer}.{SHAPE}": shape}


def _quantization_config(config: ModelConfig, bits_of: dict[str, int]) -> dict[str, Any]:
    """The `quantization_config` of config.json: which layers (by the ends of their names) hold which integers."""
    names = FAMILIES[config.family].names
    groups = {}
    for bits in sorted(set(bits_of.values())):
        ends = [names["blocks.{}." + kind].rpartition(".")[2] for kind, b in bits_of.items() if b == bits]
        sharing = {"strategy": "channel"} if bits == 8 else {"strategy": "group", "group_size": GROUP}
        groups[f"group_{len(groups)}"] = {
            "targets": [f"re:.*\\.{end}$" for end in ends],
            "weights": {"num_bits": bits, "type": "int", "symmetric": True, "dynamic": False} | sharing,
        }
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [names["unembed"]],
    }


def load(
    path: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype | Literal["auto"] = torch.float32
) -> tuple[Transformer, Tokenizer]:
    """Read a model directory, plain or quantized, ready for use (`eval` mode).

    dtype: that of the float weights; "auto" is the type that the directory names. An encoder-decoder (T5, Marian) is a
    `cairn.models.EncoderDecoder`.
    """
    data = read_model_config(path)[1]
    if not data.get("quantization_config"):
        return models.load(path, device=device, dtype=dtype)
    return load_quantized(path, device=device, dtype=stored_dtype(data, path) if dtype == "auto" else dtype)


def load_quantized(
    path: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Transformer, Tokenizer]:
    """Read a directory of `quantize_directory`, or another tool's symmetric weight-only INT8 or INT4 of that format.

    Linear layers become `QuantizedLinear`. Raises UserError naming what the file has and this reader does not know.
    """
    path = Path(path)
    config, data = read_model_config(path)
    allowed = _allowed_bits(data.get("quantization_config"), path)
    tokenizer = load_tokenizer(path, config)
    tensors = read_tensors(path)
    names = FAMILIES[config.family].names
    back = {theirs: ours for ours, theirs in names.items()}
    integers: dict[str, tuple[torch.Tensor, torch.Tensor, int]] = {}
    for name in [n.removesuffix(f".{PACKED}") for n in tensors if n.endswith(f".{PACKED}")]:
        values_OI, scale_OG, bits = _take_layer(tensors, name, allowed, path)
        integers[rename(f"{name}.weight", back).removesuffix(".weight")] = values_OI, scale_OG, bits
        tensors[f"{name}.weight"] = dequantize(values_OI, scale_OG)
    model = empty_model(path, config)
    if not isinstance(model, Transformer):
        raise UserError(f"{path} is a quantized {config.family} model, which is not supported")
    fill(model, tensors, path)  # the one place that checks names and shapes
    model = model.to(device=device, dtype=dtype)
    for name, (values_OI, scale_OG, bits) in integers.items():
        parent, _, last = name.rpartition(".")
        bias = getattr(model.get_submodule(name), "bias", None)
        bias = None if bias is None else bias.detach()
        layer = QuantizedLinear(values_OI.to(device), scale_OG.to(device), bits, bias, dtype)
        setattr(model.get_submodule(parent), last, layer)
    return model.eval(), tokenizer


def _allowed_bits(quantization: Any, path: Path) -> set[int]:
    """The bits that the layers may have, after a check that config.json describes nothing else than we read."""
    if not isinstance(quantization, dict):
        raise UserError(f"{path} has no quantization_config in its config.json; open it with cairn.load")
    method, form = quantization.get("quant_method"), quantization.get("format")
    if method != METHOD or form != FORMAT:
        raise UserError(f"{path}: quantized by {method!r} as {form!r}; only {METHOD!r} as {FORMAT!r} is read")
    groups = quantization.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise UserError(f"{path}: quantization_config has no config_groups; the file is damaged, make it again")
    bits = set()
    for key, group in groups.items():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            raise UserError(f"{path}: quantization_config {key} says nothing about weights")
        others = [k for k in ("input_activations", "output_activations") if group.get(k)]
        known = weights.get("type", "int") == "int" and weights.get("symmetric", True) is True
        if others or not known or weights.get("num_bits") not in (8, 4):
            raise UserError(f"{path}: quantization_config {key} is not symmetric weight-only INT8 or INT4, as is read")
        bits.add(weights["num_bits"])
    return bits


def _take_layer(tensors: Tensors, name: str, allowed: set[int], path: Path) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Remove one layer's tensors and return its integers (O, I), scales (O, G) and bits; trusts no shape."""

    def refuse(why: str) -> UserError:
        return UserError(f"{path}: layer {name} {why}; the file is damaged, make it again")

    packed = tensors.pop(f"{name}.{PACKED}")
    scale, shape = tensors.pop(f"{name}.{SCALE}", None), tensors.pop(f"{name}.{SHAPE}", None)
    if scale is None or shape is None:
        raise refuse(f"lacks its {SCALE if scale is None else SHAPE}")
    integers = packed.dtype == torch.int32 and not shape.is_floating_point() and scale.is_floating_point()
    if not integers or packed.ndim != 2 or shape.numel() != 2:
        raise refuse("has tensors of the wrong type")
    outputs, inputs = shape.flatten().tolist()
    fitting = [b for b in sorted(allowed) if packed.shape == (outputs, -(-inputs * b // 32))]
    if outputs < 1 or inputs < 1 or not fitting:
        raise refuse(f"has words of shape {tuple(packed.shape)} for weights of shape ({outputs}, {inputs})")
    if scale.ndim != 2 or scale.shape[0] != outputs or scale.shape[1] < 1 or inputs % scale.shape[1]:
        raise refuse(f"has scales of shape {tuple(scale.shape)} for weights of shape ({outputs}, {inputs})")
    if not scale.isfinite().all():
        raise refuse("has scales that are no numbers")
    return unpack(packed, fitting[0], inputs), scale, fitting[0]
