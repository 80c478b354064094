"""What a family is made of, and how fields of a config.json are read: each one is understood or refused by name."""

import dataclasses
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    "auto_map",  # names of code beside the weights, which is never run
    "cache_implementation", "max_length",
    # what other tools write: SmolLM's conversion, transformers.js, Unsloth, multilingual BERT's unused pooler
    "is_llama_config", "transformers.js_config", "unsloth_version", "unsloth_fixed", "directionality", "pooler_fc_size",
    "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type",
}  # fmt: skip

# Their names of activations -> ours.
ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
}  # fmt: skip
THEIR_ACTIVATIONS = {"silu": "silu", "relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}

# Sizes beyond these are a mistake or an attack: a model is built layer by layer before its weights are seen.
LARGEST, MOST_LAYERS = 2**31 - 1, 10_000

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
        self.data = data
        self.left = {k: v for k, v in data.items() if k not in INERT}

    def take(self, name: str, kind: type, default: Any = None, *, minimum: float | None = None) -> Any:
        value = self.left.pop(name, None)
        if value is None:
            if default is None:
                raise UserError(f"config.json lacks {name!r}")
            return default
        return _typed(value, kind, name, minimum)

    def optional(self, name: str, kind: type, absent: Any = None, *, minimum: float | None = None) -> Any:
        """A field whose null says "none"; `absent` where it is not there at all."""
        if name not in self.left:
            return absent
        value = self.left.pop(name)
        return None if value is None else _typed(value, kind, name, minimum)

    def only(self, name: str, *allowed: Any) -> None:
        value = self.left.pop(name, None)
        if value is not None and value not in allowed:
            shown = reprlib.repr(value)
            raise UserError(f"config.json: {name} = {shown} is not supported (only {', '.join(map(repr, allowed))})")

    def activation(self, name: str, default: str) -> str:
        value = self.take(name, str, default)
        if value not in ACTIVATIONS:
            shown = reprlib.repr(value)
            raise UserError(f"config.json: {name} = {shown} is not supported (only {', '.join(ACTIVATIONS)})")
        return ACTIVATIONS[value]

    def finish(self) -> None:
        # Empty and switched off are what a family that does not know the field does anyway; 0 may mean something.
        refuse_unknown(k for k, v in self.left.items() if v is not None and v is not False and v != {} and v != [])


def refuse_unknown(names: Iterable[str], where: str = "") -> None:
    """Raise UserError naming the fields, if there are any."""
    unknown = sorted(names)
    if unknown:
        named = ", ".join(map(reprlib.repr, unknown[:5])) + (" and more" if len(unknown) > 5 else "")
        raise UserError(f"config.json: these fields{where} are not supported: {named}")


def _typed(value: Any, kind: type, name: str, minimum: float | None = None) -> Any:
    """`value`, checked: of the type, finite, within what a model can have. A whole number may stand for a float."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**63 else math.inf
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"config.json: {name} must be {kind.__name__}, got {reprlib.repr(value)}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"config.json: {name} is no finite number")
    if kind is int and value > LARGEST:
        raise UserError(f"config.json: {name} = {reprlib.repr(value)} is larger than any model's")
    if minimum is not None and value < minimum:
        raise UserError(f"config.json: {name} must be at least {minimum}, got {value!r}")
    return value


_MINIMUM = {f.name: f.metadata.get("minimum") for f in dataclasses.fields(ModelConfig)}


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
            minimum = _MINIMUM.get(entry.ours)
            values[entry.ours] = value = fields.take(entry.theirs, entry.kind, default, minimum=minimum)
            if entry.ours in ("layers", "encoder_layers") and value > MOST_LAYERS:
                raise UserError(f"config.json: {entry.theirs} = {value} is more than {MOST_LAYERS} layers")
        if "is_causal" in fields.left:  # transformers lets a decoder look both ways by it
            fields.only("is_causal", self.fixed.get("causal", True))
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
    """rope_theta, rope_scaling, rope_parameters and partial_rotary_factor into values. `theta` is the family's default.

    A family that rotates a part of a head puts its default part into values["rope_fraction"]; others have none.
    """
    found = _rope_table(fields)
    values["rope_theta"] = _typed(
        found.pop("rope_theta", fields.take("rope_theta", float, theta)), float, "rope_theta", minimum=1.0001
    )
    fraction = fields.take("partial_rotary_factor", float, values.get("rope_fraction", 1.0))
    fraction = _typed(found.pop("partial_rotary_factor", fraction), float, "partial_rotary_factor", minimum=0)
    if fraction > 1 or (fraction != 1 and "rope_fraction" not in values):
        raise UserError(f"config.json: partial_rotary_factor = {fraction} is not supported")
    values["rope_fraction"] = fraction
    kind = found.pop("rope_type", found.pop("type", "default"))
    found.pop("type", None)
    if not isinstance(kind, str) or (kind != "default" and kind not in _ROPE_FIELDS):
        known = ", ".join(("default", *_ROPE_FIELDS))
        raise UserError(f"config.json: rope_type {reprlib.repr(kind)} is not supported (only {known})")
    refuse_unknown(
        {k for k, v in found.items() if v is not None} - _ROPE_FIELDS.get(kind, {}).keys(), " of rope_scaling"
    )
    if kind != "default":
        values["rope_scaling"] = _rope_scaling(kind, found)


def _rope_table(fields: Fields) -> dict[str, Any]:
    """What rope_scaling (transformers 4) or rope_parameters (5) says."""
    found: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        part = fields.left.pop(name, None)
        if part is not None and not isinstance(part, dict):
            raise UserError(f"config.json: {name} must be an object, got {reprlib.repr(part)}")
        if part and found and part != found:
            raise UserError("config.json: rope_scaling and rope_parameters contradict each other; remove one")
        found = dict(part or found)
    return found


def _rope_scaling(kind: str, found: Mapping[str, Any]) -> RopeScaling:
    kinds = {"truncate": bool, "original_max_position_embeddings": int}
    minimum = {"factor": 1, "original_max_position_embeddings": 1, "truncate": None, "mscale": 0, "mscale_all_dim": 0}
    settings = {
        ours: _typed(found[theirs], kinds.get(theirs, float), f"rope_scaling.{theirs}", minimum.get(theirs, 1e-3))
        for theirs, ours in _ROPE_FIELDS[kind].items()
        if found.get(theirs) is not None
    }
    needed = {"factor", "low_freq_factor", "high_freq_factor"} if kind == "llama3" else {"factor"}
    if needed - settings.keys():
        raise UserError(f"config.json: rope_scaling lacks {min(needed - settings.keys())!r}")
    scaling = RopeScaling(kind, **settings)
    if kind == "llama3" and scaling.high_freq_factor <= scaling.low_freq_factor:
        raise UserError("config.json: rope_scaling.high_freq_factor must be more than low_freq_factor")
    return scaling


# --- windows of attention

SLIDING, FULL = "sliding_attention", "full_attention"


def read_windows(fields: Fields, values: Values, window: int | None, default: Sequence[bool]) -> None:
    """`layer_types` into values: which layers see `window` positions alone; `default` where the field is absent."""
    types = fields.left.pop("layer_types", None)
    if types is None:
        sliding = tuple(default)
    elif isinstance(types, list) and len(types) == values["layers"] and all(t in (SLIDING, FULL) for t in types):
        sliding = tuple(t == SLIDING for t in types)
    else:
        raise UserError(f"config.json: layer_types must name {SLIDING} or {FULL} for each of {values['layers']} layers")
    if types is not None and any(sliding) and not window:
        raise UserError(f"config.json: layer_types has {SLIDING}, but there is no sliding_window")
    if window and any(sliding):
        values["window"] = window
        values["window_layers"] = () if all(sliding) else sliding


def write_windows(config: ModelConfig) -> dict[str, Any]:
    types = [SLIDING if config.window_of(layer) else FULL for layer in range(config.layers)]
    return {"sliding_window": config.window or None, "layer_types": types}


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
