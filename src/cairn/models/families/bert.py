"""BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019), XLM-RoBERTa and DistilBERT (Sanh et al. 2019).

`architectures` in config.json says what stands on the encoder: nothing but BERT's pooler, or the masked-language head.
"""

from collections.abc import Callable
from typing import Any

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import Family, Field, Fields, Tensors, Values

POST_NORM = {
    "causal": False, "norm": "layernorm", "norm_place": "post", "final_norm": False, "embed_norm": True,
    "positions": "learned", "qkv_bias": True, "out_bias": True, "gated": False, "ffn_bias": True,
}  # fmt: skip
_BODY = {
    "embed": "embeddings.word_embeddings",
    "embed_position": "embeddings.position_embeddings",
    "embed_type": "embeddings.token_type_embeddings",
    "embed_norm": "embeddings.LayerNorm",
    "blocks.{}.attention.q": "encoder.layer.{}.attention.self.query",
    "blocks.{}.attention.k": "encoder.layer.{}.attention.self.key",
    "blocks.{}.attention.v": "encoder.layer.{}.attention.self.value",
    "blocks.{}.attention.out": "encoder.layer.{}.attention.output.dense",
    "blocks.{}.norm_attention": "encoder.layer.{}.attention.output.LayerNorm",
    "blocks.{}.feed_forward.up": "encoder.layer.{}.intermediate.dense",
    "blocks.{}.feed_forward.down": "encoder.layer.{}.output.dense",
    "blocks.{}.norm_feed_forward": "encoder.layer.{}.output.LayerNorm",
    "pooler": "pooler.dense",
}
_SHAPE = (
    Field("vocab_size", "vocab_size"),
    Field("dim", "hidden_size"),
    Field("layers", "num_hidden_layers"),
    Field("heads", "num_attention_heads"),
    Field("ffn_dim", "intermediate_size"),
    Field("norm_eps", "layer_norm_eps", float, 1e-12),
    Field("token_types", "type_vocab_size", int, 2),
    Field("tie_embeddings", "tie_word_embeddings", bool, True),
)


def read_head(fields: Fields, values: Values, bare: str, *masked: str) -> None:
    """`architectures` into values: the bare encoder, or one of those with a masked-language head."""
    for name in ("is_decoder", "add_cross_attention"):
        if fields.data.get(name):
            raise UserError(f"config.json: {name} = {fields.data[name]!r} is not supported in an encoder")
    said = fields.data.get("architectures") or [bare]
    if not isinstance(said, list) or said[0] not in (bare, *masked):
        raise UserError(f"config.json: architectures = {said!r} is not supported (only {', '.join((bare, *masked))})")
    values["head"] = "none" if said[0] == bare else "masked"
    values["kv_heads"] = values["heads"]


def write_head(config: ModelConfig, bare: str, masked: str) -> dict[str, Any]:
    return {"architectures": [bare if config.head == "none" else masked]}


def activation_name(ours: str) -> str:
    return "gelu_new" if ours == "gelu_tanh" else ours


Layout = Callable[[Tensors, ModelConfig], Tensors]


def layout(prefix: str, head: tuple[str, ...], unembed: str, bias: str = "") -> tuple[Layout, Layout]:
    """fuse and split of an encoder that stands under `prefix` once it has a head.

    head: how names of the head begin. unembed: its matrix. bias: where the bias of the logits lies if not with the matrix.
    """

    def fuse(tensors: Tensors, config: ModelConfig) -> Tensors:
        bare = config.head == "none"
        out = {n if bare or n.startswith(head) else f"{prefix}.{n}": t for n, t in tensors.items()}
        if bias and not bare:
            # transformers ties the two names of the bias exactly when it ties the matrices.
            out[bias] = out.pop(f"{unembed}.bias") if config.tie_embeddings else out[f"{unembed}.bias"].clone()
        return out

    def split(tensors: Tensors, config: ModelConfig) -> Tensors:
        out: Tensors = {}
        for name, tensor in tensors.items():
            name = name.removeprefix(f"{prefix}.")
            # The first release of BERT said gamma and beta.
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            if name == "embeddings.position_ids":  # 0, 1, 2, ... in old files
                continue
            if config.head == "masked" and name.startswith(("pooler.", "cls.seq_relationship.")):
                continue  # the head of BERT's other objective, which the masked one does not read
            out[name] = tensor
        if bias and bias in out:
            out.setdefault(f"{unembed}.bias", out[bias])
            del out[bias]
        if config.pooler and "pooler.dense.weight" not in out:
            raise UserError('the weights have no pooler: say so with "add_pooling_layer": false in config.json')
        return out

    return fuse, split


# --- BERT


def _read_bert(fields: Fields, values: Values) -> None:
    read_head(fields, values, "BertModel", "BertForMaskedLM", "BertForPreTraining")
    values["pooler"] = fields.take("add_pooling_layer", bool, True) and values["head"] == "none"
    values["head_bias"] = values["head"] == "masked"
    values["activation"] = fields.activation("hidden_act", "gelu")


def _write_bert(config: ModelConfig) -> dict[str, Any]:
    pooler = {} if config.pooler or config.head == "masked" else {"add_pooling_layer": False}
    return (
        write_head(config, "BertModel", "BertForMaskedLM") | pooler | {"hidden_act": activation_name(config.activation)}
    )


_FUSE_BERT, _SPLIT_BERT = layout("bert", ("cls.",), "cls.predictions.decoder", "cls.predictions.bias")


# --- RoBERTa: positions begin behind the row of the padding token


def _roberta(kind: str, prefix: str) -> Family:
    bare, masked = f"{kind}Model", f"{kind}ForMaskedLM"

    def read(fields: Fields, values: Values) -> None:
        read_head(fields, values, bare, masked)
        values["pooler"] = fields.take("add_pooling_layer", bool, True) and values["head"] == "none"
        values["head_bias"] = values["head"] == "masked"
        padding = fields.data.get("pad_token_id", 1)
        rows = fields.take("max_position_embeddings", int, 512, minimum=1)
        if type(padding) is not int or not 0 <= padding < rows - 1:
            raise UserError(
                f"config.json: pad_token_id = {padding!r} leaves no rows of max_position_embeddings = {rows}: "
                "positions begin after it"
            )
        values["position_offset"] = padding + 1
        values["max_positions"] = rows - padding - 1

    def write(config: ModelConfig) -> dict[str, Any]:
        rows = config.max_positions + config.position_offset
        out = {"pad_token_id": config.position_offset - 1, "max_position_embeddings": rows}
        if not config.pooler and config.head == "none":
            out["add_pooling_layer"] = False
        return write_head(config, bare, masked) | out

    fuse, split = layout(prefix, ("lm_head.",), "lm_head.decoder", "lm_head.bias")
    return Family(
        architecture=masked,
        names=_BODY
        | {
            "unembed.transform.dense": "lm_head.dense",
            "unembed.transform.norm": "lm_head.layer_norm",
            "unembed": "lm_head.decoder",
        },
        fields=_SHAPE,
        fixed=POST_NORM | {"activation": "gelu"},
        # The head is gelu whatever hidden_act says.
        only={"hidden_act": ("gelu",), "position_embedding_type": ("absolute",)},
        read=read,
        write=write,
        fuse=fuse,
        split=split,
    )


# --- DistilBERT


def _read_distilbert(fields: Fields, values: Values) -> None:
    read_head(fields, values, "DistilBertModel", "DistilBertForMaskedLM")
    values["head_bias"] = values["head"] == "masked"
    values["activation"] = fields.activation("activation", "gelu")
    for name in ("dropout", "qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_weights_"):
        # sinusoidal_pos_embds says what the stored positions began as.
        fields.left.pop(name, None)


def _write_distilbert(config: ModelConfig) -> dict[str, Any]:
    return write_head(config, "DistilBertModel", "DistilBertForMaskedLM") | {
        "activation": activation_name(config.activation)
    }


_FUSE_DISTILBERT, _SPLIT_DISTILBERT = layout("distilbert", ("vocab_",), "vocab_projector")

FAMILIES = {
    "bert": Family(
        architecture="BertForMaskedLM",
        names=_BODY
        | {
            "unembed.transform.dense": "cls.predictions.transform.dense",
            "unembed.transform.norm": "cls.predictions.transform.LayerNorm",
            "unembed": "cls.predictions.decoder",
        },
        fields=(*_SHAPE, Field("max_positions", "max_position_embeddings", int, 512)),
        fixed=POST_NORM,
        only={"position_embedding_type": ("absolute",)},
        read=_read_bert,
        write=_write_bert,
        fuse=_FUSE_BERT,
        split=_SPLIT_BERT,
    ),
    "roberta": _roberta("Roberta", "roberta"),
    "xlm-roberta": _roberta("XLMRoberta", "roberta"),
    "distilbert": Family(
        architecture="DistilBertForMaskedLM",
        names={
            "embed": "embeddings.word_embeddings",
            "embed_position": "embeddings.position_embeddings",
            "embed_norm": "embeddings.LayerNorm",
            "blocks.{}.attention.q": "transformer.layer.{}.attention.q_lin",
            "blocks.{}.attention.k": "transformer.layer.{}.attention.k_lin",
            "blocks.{}.attention.v": "transformer.layer.{}.attention.v_lin",
            "blocks.{}.attention.out": "transformer.layer.{}.attention.out_lin",
            "blocks.{}.norm_attention": "transformer.layer.{}.sa_layer_norm",
            "blocks.{}.feed_forward.up": "transformer.layer.{}.ffn.lin1",
            "blocks.{}.feed_forward.down": "transformer.layer.{}.ffn.lin2",
            "blocks.{}.norm_feed_forward": "transformer.layer.{}.output_layer_norm",
            "unembed.transform.dense": "vocab_transform",
            "unembed.transform.norm": "vocab_layer_norm",
            "unembed": "vocab_projector",
        },
        fields=(
            Field("vocab_size", "vocab_size"),
            Field("dim", "dim"),
            Field("layers", "n_layers"),
            Field("heads", "n_heads"),
            Field("ffn_dim", "hidden_dim"),
            Field("max_positions", "max_position_embeddings", int, 512),
            Field("tie_embeddings", "tie_word_embeddings", bool, True),
        ),
        fixed=POST_NORM | {"norm_eps": 1e-12},
        read=_read_distilbert,
        write=_write_distilbert,
        fuse=_FUSE_DISTILBERT,
        split=_SPLIT_DISTILBERT,
    ),
}
