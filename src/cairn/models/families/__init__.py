"""Families: how a `ModelConfig` and its weights are spelled in Hugging Face's config.json and model.safetensors.

A family is a table (`base.Family`). Fields of config.json that would change the result and are not understood are refused
by name; those that cannot change it are listed in `base.INERT`.
"""

import re
import reprlib
from typing import Any

import torch

from cairn.core.config import from_dict
from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families import (
    bert,
    deepseek,
    falcon,
    gemma,
    gpt2,
    llama,
    mistral,
    mixtral,
    modernbert,
    neox,
    olmo,
    phi,
    qwen,
    seq2seq,
)
from cairn.models.families.base import Family, Tensors

FAMILIES: dict[str, Family] = {
    **llama.FAMILIES,
    **gpt2.FAMILIES,
    **bert.FAMILIES,
    **modernbert.FAMILIES,
    **seq2seq.FAMILIES,
    **mistral.FAMILIES,
    **qwen.FAMILIES,
    **gemma.FAMILIES,
    **olmo.FAMILIES,
    **phi.FAMILIES,
    **neox.FAMILIES,
    **falcon.FAMILIES,
    **mixtral.FAMILIES,
    **deepseek.FAMILIES,
}


def family_of(data: dict[str, Any]) -> str:
    name = data.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(
            f"config.json: model_type {reprlib.repr(name)} is not supported yet (only {', '.join(FAMILIES)})"
        )
    return name


def read_config(data: dict[str, Any]) -> ModelConfig:
    """A `ModelConfig` from the content of a config.json. Raises UserError naming the field that does not fit."""
    if not isinstance(data, dict):
        raise UserError("config.json must hold an object")
    family = family_of(data)
    return from_dict(ModelConfig, {"family": family, **FAMILIES[family].read_config(data)}, where="config.json")


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The content of a config.json. Raises UserError for a shape that the family cannot express."""
    if config.family not in FAMILIES:
        raise UserError(f"unknown family {config.family!r}; known: {', '.join(FAMILIES)}")
    family = FAMILIES[config.family]
    written = family.write_config(config) | {"model_type": config.family}
    # A family fixes some settings (Llama: RMSNorm and rotary positions): another shape must not be saved as one.
    if ModelConfig(family=config.family, **family.read_config(written)) != config:
        raise UserError(f"this configuration cannot be written as a {config.family} model: {config}")
    return {"architectures": [family.architecture], **written}


def rename(name: str, table: dict[str, str]) -> str:
    """`blocks.3.attention.q.weight` -> `model.layers.3.self_attn.q_proj.weight`; unknown names stay as they are."""
    module, _, kind = name.rpartition(".")
    numbers = re.findall(r"\.(\d+)(?=\.|$)", module)
    key = re.sub(r"\.\d+(?=\.|$)", ".{}", module)
    return f"{table[key].format(*numbers)}.{kind}" if key in table else name


def to_hugging_face(tensors: Tensors, config: ModelConfig) -> Tensors:
    """Our weights under the family's names and layouts; a tied unembedding is left out, as there."""
    family = FAMILIES[config.family]
    named = {
        rename(n, family.names): t for n, t in tensors.items() if not (config.tie_embeddings and n == "unembed.weight")
    }
    return family.fuse(named, config)


def from_hugging_face(tensors: Tensors, config: ModelConfig) -> Tensors:
    """The family's weights under our names; a tied unembedding is the embedding."""
    family = FAMILIES[config.family]
    back = {theirs: ours for ours, theirs in family.names.items()}
    named = {rename(n, back): t for n, t in family.split(tensors, config).items()}
    if config.tie_embeddings and config.head != "none" and "embed.weight" in named:
        copy = named.get("unembed.weight")
        if copy is not None and not copy.is_meta and not torch.equal(copy, named["embed.weight"]):
            raise UserError(
                "config.json says that one matrix embeds and unembeds, the weights hold two that differ: "
                "set tie_word_embeddings to false"
            )
        named["unembed.weight"] = named["embed.weight"]
    return {n: t for n, t in named.items() if not n.endswith("rotary_emb.inv_freq")}
