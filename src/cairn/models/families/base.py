"""What a family is made of, and how fields of a config.json are read: each one is understood or refused by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig, RopeScaling

# Bookkeeping, training-time and generation fields: they do not enter the logits.
INERT = {
    "_name_or_path", "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "pretraining_tp", "attention_dropout",
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_type", "summary_use_proj", "summary_activation",
    "summary_proj_to_labels", "summary_first_dropout", "task_specific_params", "gradient_checkpointing",
    "output_past", "keys_to_ignore_at_inference", "is_decoder", "_attn_implementation", "chunk_size_feed_forward",
    "id2label", "label2id", "problem_type", "output_attentions", "output_hidden_states", "return_dict",
    "add_cross_attention", "is_encoder_decoder", "cross_attention_hidden_size", "tie_encoder_decoder",
    "hidden_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout",
    "quantization_config",  # read by quantization/, which knows the tensors it describes
}  # fmt: skip

# Their names of activations -> ours.
ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}  # fmt: skip

Tensors = dict[str, torch.Tensor]
Values = dict[str, Any]  # fields of a ModelConfig


class Field(NamedTuple):
    """One number of the shape: our name, theirs, its type, and what is meant where it is absent (None: must be there).

    A default may be computed from the values read before it.
    """

    ours: str
    theirs: str
    kind: type = int
    default: Any = None


class Fields:
    """Takes fields out of a config.json one by one, so that what is left over can be refused."""

    def __init__(self, data: Mapping[str, Any]):
        self.left = {k: v for k, v in data.items() if k not in INERT}

    def take(self, name: str, kind: type, default: Any = None) -> Any:
        value = self.left.pop(name, None)
        if value is None:
            if default is None:
                raise UserError(f"config.json lacks {name!r}")
            return default
        return _typed(value, kind, name)

    def only(self, name: str, *allowed: Any) -> None:
        value = self.left.pop(name, None)
        if value is not None and value not in allowed:
            raise UserError(f"config.json: {name} = {value!r} is not supported (only {', '.join(map(repr, allowed))})")

    def activation(self, name: str, default: str) -> str:
        value = self.take(name, str, default)
        if value not in ACTIVATIONS:
            raise UserError(f"config.json: {name} = {value!r} is not supported (only {', '.join(ACTIVATIONS)})")
        return ACTIVATIONS[value]

    def finish(self) -> None:
        unknown = {k: v for k, v in self.left.items() if v not in (None, False, {}, [])}
        if unknown:
            raise UserError(f"config.json: these fields are not supported: {', '.join(sorted(unknown))}")


def _typed(value: Any, kind: type, name: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"config.json: {name} must be {kind.__name__}, got {value!r}")
    return value


@dataclass(frozen=True)
class Family:
    """A table of how a `ModelConfig` and its weights are spelled.

    architecture: the class of `transformers`. names: our module path -> theirs, with {} for the layer (and the expert).
    fields: numbers of the shape. fixed: what all members share. only: fields of theirs that may have these values alone;
    the first is written. read: takes further fields into values. write: the same in the other direction.
    fuse / split: the layout of tensors under their names.
    """

    architecture: str
    names: dict[str, str]
    fields: tuple[Field, ...]
    fixed: Values = field(default_factory=dict)
    only: dict[str, tuple] = field(default_factory=dict)
    read: Callable[[Fields, Values], None] = lambda fields, values: None
    write: Callable[[ModelConfig], dict[str, Any]] = lambda config: {}
    fuse: Callable[[Tensors, ModelConfig], Tensors] = lambda tensors, config: tensors
    split: Callable[[Tensors, ModelConfig], Tensors] = lambda tensors, config: tensors

    def read_config(self, data: Mapping[str, Any]) -> Values:
        fields = Fields(data)
        values: Values = dict(self.fixed)
        for entry in self.fields:
            default = entry.default(values) if callable(entry.default) else entry.default
            values[entry.ours] = fields.take(entry.theirs, entry.kind, default)
        self.read(fields, values)
        for name, allowed in self.only.items():
            fields.only(name, *allowed)
        fields.finish()
        return values

    def write_config(self, config: ModelConfig) -> dict[str, Any]:
        says = {name: allowed[0] for name, allowed in self.only.items() if allowed and allowed[0] is not None}
        return says | {entry.theirs: getattr(config, entry.ours) for entry in self.fields} | self.write(config)


# --- rotary positions, in the form of transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters)

_ROPE_FIELDS = {
    "linear": {"factor": "factor"},
    "dynamic": {"factor": "factor"},
    "llama3": {
        "factor": "factor", "low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor",
        "original_max_position_embeddings": "original_positions",
    },
    "yarn": {
        "factor": "factor", "beta_fast": "beta_fast", "beta_slow": "beta_slow", "truncate": "truncate",
        "attention_factor": "attention_factor", "mscale": "mscale", "mscale_all_dim": "mscale_all_dim",
        "original_max_position_embeddings": "original_positions",
    },
}  # fmt: skip


def read_rope(fields: Fields, values: Values, theta: float = 10000.0) -> None:
    """rope_theta, rope_scaling, rope_parameters and partial_rotary_factor into values. `theta` is the family's default."""
    found: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        part = fields.left.pop(name, None)
        if part is not None and not isinstance(part, dict):
            raise UserError(f"config.json: {name} must be an object, got {part!r}")
        found |= part or {}
    values["rope_theta"] = _typed(found.pop("rope_theta", fields.take("rope_theta", float, theta)), float, "rope_theta")
    fraction = fields.take("partial_rotary_factor", float, values.get("rope_fraction", 1.0))
    values["rope_fraction"] = _typed(found.pop("partial_rotary_factor", fraction), float, "partial_rotary_factor")
    kind = found.pop("rope_type", found.pop("type", "default"))
    found.pop("type", None)
    if kind == "default" and not found:
        return
    if kind not in _ROPE_FIELDS:
        raise UserError(f"config.json: rope_type {kind!r} is not supported (only default, {', '.join(_ROPE_FIELDS)})")
    unknown = found.keys() - _ROPE_FIELDS[kind].keys()
    if unknown:
        raise UserError(f"config.json: fields of rope_scaling are not supported: {', '.join(sorted(unknown))}")
    kinds = {"truncate": bool, "original_max_position_embeddings": int}
    settings = {
        ours: _typed(found[theirs], kinds.get(theirs, float), f"rope_scaling.{theirs}")
        for theirs, ours in _ROPE_FIELDS[kind].items()
        if found.get(theirs) is not None
    }
    values["rope_scaling"] = RopeScaling(kind, **settings)


def write_rope(config: ModelConfig) -> dict[str, Any]:
    """The fields that `read_rope` reads, as transformers 4 and 5 understand them."""
    out: dict[str, Any] = {"rope_theta": config.rope_theta}
    if config.rope_fraction != 1.0:
        out["partial_rotary_factor"] = config.rope_fraction
    scaling = config.rope_scaling
    if scaling is not None:
        default = RopeScaling(scaling.kind)
        said = {
            theirs: getattr(scaling, ours)
            for theirs, ours in _ROPE_FIELDS[scaling.kind].items()
            if ours in ("factor", "low_freq_factor", "high_freq_factor")
            or getattr(scaling, ours) != getattr(default, ours)
        }
        out["rope_scaling"] = {"rope_type": scaling.kind} | said
    return out
