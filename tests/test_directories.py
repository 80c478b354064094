"""Model directories that are damaged, hostile or unusual: read right, or refused in one line."""

import dataclasses
import json
import re
import shutil
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import cairn
from cairn.core.errors import UserError
from cairn.models import ModelConfig, Transformer, preset
from cairn.models.directory import fill, load_model
from cairn.models.families import FAMILIES, read_config, to_hugging_face, write_config
from cairn.models.weights import INDEX, WEIGHTS, read_tensors

IDS = torch.arange(40)[None] * 7 % 400


@pytest.fixture
def directory(tmp_path, model_directory):
    return shutil.copytree(model_directory, tmp_path / "m")


@pytest.fixture
def sharded(tmp_path, model_directory):
    model, tokenizer = cairn.load(model_directory)
    cairn.save(tmp_path / "s", model, tokenizer, shard_bytes=20_000)
    return tmp_path / "s"


def logits(path, **options):
    with torch.no_grad():
        return load_model(path, **options)(IDS)


def refused(path, words="."):
    """The one line that `load` says."""
    with pytest.raises(UserError, match=words) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def change(path, name, **fields):
    data = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(data | fields))


def write_header(path, header, data=b"", length=None):
    """A safetensors file of this header, as it is or as JSON."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    (path / WEIGHTS).write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)


# --- types


def test_types_of_the_weights(directory):
    exact = load_file(directory / WEIGHTS)
    save_file({n: t.to(torch.bfloat16) for n, t in exact.items()}, directory / WEIGHTS, {"format": "pt"})
    change(directory, "config.json", torch_dtype="bfloat16")
    assert logits(directory).dtype == torch.float32
    assert logits(directory, dtype="auto").dtype == torch.bfloat16
    assert logits(directory, dtype=torch.float16).dtype == torch.float16
    rounded = Transformer(preset("pebble"))
    fill(rounded, {n: t.to(torch.bfloat16).float() for n, t in exact.items()}, "there")
    with torch.no_grad():
        assert torch.equal(rounded(IDS), logits(directory))  # bfloat16 to float32 is exact


def test_the_type_is_written_and_read_again(tmp_path, model_directory):
    model, tokenizer = cairn.load(model_directory)
    cairn.save(tmp_path / "half", model.to(torch.float16), tokenizer)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "float16"
    assert next(load_model(tmp_path / "half", dtype="auto").parameters()).dtype == torch.float16


@pytest.mark.parametrize(
    ("dtype", "words"),
    [(torch.int32, "holds int32"), (torch.float8_e4m3fn, "float8_e4m3fn.*scales"), (torch.bool, "bool")],
)
def test_weights_that_are_no_floats_are_refused(directory, dtype, words):
    tensors = load_file(directory / WEIGHTS)
    save_file({n: t.to(dtype) for n, t in tensors.items()}, directory / WEIGHTS, {"format": "pt"})
    refused(directory, words)


def test_an_unknown_type_for_auto(directory):
    change(directory, "config.json", torch_dtype="float4")
    with pytest.raises(UserError, match="float4"):
        load_model(directory, dtype="auto")


# --- tied weights and memory


def test_both_copies_of_a_tied_matrix(directory):
    before = logits(directory)
    tensors = load_file(directory / WEIGHTS)
    copy = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors | {"lm_head.weight": copy}, directory / WEIGHTS, {"format": "pt"})
    assert torch.equal(logits(directory), before)
    save_file(tensors | {"lm_head.weight": copy + 1}, directory / WEIGHTS, {"format": "pt"})
    refused(directory, "tie_word_embeddings")
    change(directory, "config.json", tie_word_embeddings=False)
    assert not torch.equal(logits(directory), before)


def test_weights_are_tied_own_their_memory_and_can_be_trained(directory):
    for family in ("llama", "gpt2", "phi3", "falcon"):
        config = small(family)
        model = Transformer(config).initialize(0)
        again = Transformer(config)
        fill(again, to_hugging_face(dict(model.state_dict()), config), family)
        assert again.unembed.weight is again.embed.weight
        storages = [p.untyped_storage().data_ptr() for p in again.parameters()]
        assert len(set(storages)) == len(storages)
        assert all(p.requires_grad for p in again.parameters())
        assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values()))


def small(family):
    other = {
        "gpt2": {"norm": "layernorm", "positions": "learned", "qkv_bias": True, "out_bias": True, "ffn_bias": True},
        "falcon": {"norm": "layernorm", "activation": "gelu", "parallel": True, "shared_norm": True, "kv_heads": 1},
    }.get(family, {})
    if other:
        other["gated"] = False
    sizes = {"vocab_size": 300, "dim": 32, "layers": 2, "heads": 4, "kv_heads": 4, "ffn_dim": 128, "max_positions": 64}
    return ModelConfig(family=family, **sizes | other)


# --- shards


def test_shards_give_the_same_model(sharded, model_directory):
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    assert torch.equal(logits(sharded), logits(model_directory))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"weight_map": {"a": "../m.safetensors"}}, "outside"),
        ({"weight_map": {"a": "/etc/m.safetensors"}}, "outside"),
        ({"weight_map": {"a": "config.json"}}, "outside"),
        ({"weight_map": {"a": "x\0.safetensors"}}, "outside"),
        ({"weight_map": {"a": ["m.safetensors"]}}, "weight_map"),
        ({"weight_map": ["m.safetensors"]}, "weight_map"),
        ({"weight_map": {}}, "weight_map"),
        ({}, "weight_map"),
        ([], "object"),
        ({"weight_map": {"model.norm.weight": "gone.safetensors"}}, "gone.safetensors is missing"),
        ({"weight_map": {"model.norm.weight": "model-00001-of-00009.safetensors"}}, "missing"),
    ],
)
def test_an_index_that_lies(sharded, table, words):
    (sharded / INDEX).write_text(json.dumps(table))
    refused(sharded, words)


def test_an_index_that_leaves_out_or_invents_a_tensor(sharded):
    table = json.loads((sharded / INDEX).read_text())["weight_map"]
    less = {name: file for name, file in table.items() if name != "model.norm.weight"}
    (sharded / INDEX).write_text(json.dumps({"weight_map": less}))
    refused(sharded, "lacks norm.weight")
    (sharded / INDEX).write_text(json.dumps({"weight_map": table | {"ghost": sorted(table.values())[0]}}))
    refused(sharded, "ghost")


# --- damaged weights


def test_a_file_cut_short_at_any_place(directory):
    raw = (directory / WEIGHTS).read_bytes()
    for end in (0, 1, 7, 8, 9, 100, len(raw) // 2, len(raw) - 1):
        (directory / WEIGHTS).write_bytes(raw[:end])
        refused(directory, "truncated or not a safetensors file")


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({}, 2**63),
        ({}, 2**40),
        ({"a": F32, "b": F32}, None),  # one place for two
        ({"a": F32 | {"data_offsets": [8, 0]}}, None),
        ({"a": F32 | {"data_offsets": [0, 2**60]}}, None),
        ({"a": F32 | {"shape": [-2]}}, None),
        ({"a": F32 | {"shape": [2**33, 2**33]}}, None),
        ({"a": F32 | {"dtype": "F1000"}}, None),
        ({"a": F32 | {"dtype": 7}}, None),
        ({"a": F32 | {"shape": "2"}}, None),
        ({"a": 5}, None),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": {}}', None),
        (b"[" * 100_000, None),
        (b"\xff\xfe", None),
        (b'{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 8]}}', None),
    ],
)
def test_a_header_that_lies(directory, header, length):
    write_header(directory, header, bytes(8), length)
    refused(directory)


def test_empty_and_strange_tensors(directory):
    write_header(directory, {"a": F32 | {"shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}})
    refused(directory)
    save_file({"model.norm.weight": torch.ones(())}, directory / WEIGHTS, {"format": "pt"})
    refused(directory)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_read_or_refused(directory, data):
    """Bytes of the header and of config.json are changed at random; what is said is always a UserError."""
    file = data.draw(st.sampled_from([WEIGHTS, "config.json"]))
    raw = bytearray(original(directory, file))
    end = min(len(raw), 8 + struct.unpack("<Q", raw[:8])[0]) if file == WEIGHTS else len(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, end - 1))
        raw[place] = data.draw(st.integers(0, 255))
    (directory / file).write_bytes(raw)
    _, said = attempt(load_model, directory)
    (directory / file).write_bytes(original(directory, file))
    assert "\n" not in said


def original(directory, file, kept={}):  # noqa: B006 (one copy for all examples)
    return kept.setdefault((directory, file), (directory / file).read_bytes())


# --- hostile configurations


def test_sizes_of_a_hostile_config_ask_for_no_memory(directory):
    for name in (
        "hidden_size",
        "intermediate_size",
        "vocab_size",
        "num_hidden_layers",
        "head_dim",
        "num_attention_heads",
    ):
        for size in (10**6, 10**9, 2**31 - 1, 10**30, 10**400):
            shutil.copy(directory / "config.json", directory / "kept.json")
            change(directory, "config.json", **{name: size})
            refused(directory)
            shutil.move(directory / "kept.json", directory / "config.json")
    change(directory, "config.json", num_hidden_layers=9999)
    refused(directory, "9999 layers")


def test_a_number_of_thousands_of_digits_and_deep_json(directory):
    (directory / "config.json").write_text('{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}")
    refused(directory, "not valid JSON")
    (directory / "config.json").write_text('{"a": ' * 100_000 + "1" + "}" * 100_000)
    refused(directory, "not valid JSON")
    (directory / "config.json").write_text('{"model_type": "llama", "x": ' + "[" * 500 + "]" * 500 + "}")
    refused(directory)


BAD = [-1, 0, 10**12, "7", 1.5, True, [], {}, float("nan"), float("inf"), "x" * 10_000]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_of_every_family_is_checked(family):
    """Values out of range and of wrong types in every field of the family's table: refused by name, or harmless."""
    written = example(family)
    minimum = {f.name: f.metadata.get("minimum") for f in dataclasses.fields(ModelConfig)}
    for entry in FAMILIES[family].fields:
        for value in BAD:
            config, said = attempt(read_config, written | {entry.theirs: value})
            if config is None:
                assert 0 < len(said) < 600
                assert "\n" not in said
                continue
            got = getattr(config, entry.ours)
            assert type(value) is entry.kind or (entry.kind is float and type(value) is int), (entry, value)
            assert minimum[entry.ours] is None or got >= minimum[entry.ours], (entry, value)
            assert entry.kind is not int or got < 2**31, (entry, value)


def attempt(function, *arguments):
    """(result, "") or (None, what the UserError said)."""
    try:
        return function(*arguments), ""
    except UserError as error:
        return None, str(error)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_planted_field_is_refused_by_name(family):
    with pytest.raises(UserError, match="unheard_of"):
        read_config(example(family) | {"unheard_of": 1})
    assert read_config(example(family) | {"unheard_of": None, "transformers_version": "9"}) is not None


GROUPED = {"num_key_value_heads": 4}
MORE = {
    **dict.fromkeys(("mistral", "qwen2", "qwen3", "gemma", "mixtral", "qwen3_moe", "deepseek_v3"), GROUPED),
    "deepseek_v2": GROUPED | {"num_experts_per_tok": 2},
    "marian": {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_start_token_id": 0},
}


def example(family):
    """The config.json of a small model of the family, as its own table writes it."""
    import transformers

    sizes = {"vocab_size": 300, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    data = transformers.AutoConfig.for_model(family, **sizes | MORE.get(family, {})).to_dict()
    return write_config(read_config(data))


ROPES = [
    ({"rope_type": "linear"}, "factor"),
    ({"rope_type": "linear", "factor": 0.5}, "factor"),
    ({"rope_type": "linear", "factor": float("nan")}, "factor"),
    ({"rope_type": "linear", "factor": True}, "factor"),
    ({"rope_type": "linear", "factor": 2.0, "unheard": 1}, "unheard"),
    ({"rope_type": "longrope", "factor": 2.0}, "longrope"),
    ({"rope_type": ["linear"]}, "rope_type"),
    ({"rope_type": "default", "unheard": 1}, "unheard"),
    ({"rope_type": "llama3", "factor": 2.0}, "high_freq_factor"),
    ({"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}, "high_freq_factor"),
    ({"rope_type": "yarn", "factor": 2.0, "beta_fast": 0}, "beta_fast"),
    ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": -4}, "original_max_position"),
    ({"rope_theta": 1}, "rope_theta"),
    ({"rope_theta": -10000.0}, "rope_theta"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("linear", "rope_scaling|rope_parameters"),
]


@pytest.mark.parametrize(("said", "words"), ROPES)
@pytest.mark.parametrize("form", ["rope_scaling", "rope_parameters"])
def test_rotary_settings_are_understood_or_refused(form, said, words):
    with pytest.raises(UserError, match=words):
        read_config(write_config(small("llama")) | {form: said})


def test_both_forms_of_rotary_settings_say_the_same():
    plain = {k: v for k, v in write_config(small("llama")).items() if k != "rope_theta"}
    said = {"rope_type": "linear", "factor": 2.0}
    old = read_config(plain | {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2}})
    assert old == read_config(plain | {"rope_parameters": said | {"rope_theta": 500.0}})
    assert old.rope_scaling.factor == 2.0
    with pytest.raises(UserError, match="contradict"):
        read_config(plain | {"rope_parameters": said, "rope_scaling": said | {"factor": 3.0}})


@pytest.mark.parametrize(
    ("family", "fields", "words"),
    [
        ("mistral", {"sliding_window": 0}, "sliding_window"),
        ("mistral", {"sliding_window": "4096"}, "sliding_window"),
        ("mistral", {"layer_types": ["full_attention"] * 2}, "layer_types"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "sliding_window"),
        ("qwen2", {"layer_types": "full"}, "layer_types"),
        ("qwen3", {"max_window_layers": -1}, "max_window_layers"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ("gemma2", {"attn_logit_softcapping": 0.0}, "attn_logit_softcapping"),
        ("gemma2", {"final_logit_softcapping": -30.0}, "final_logit_softcapping"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma", {"hidden_act": "relu"}, "hidden_act"),
        ("falcon", {"num_kv_heads": 3, "multi_query": False}, "num_kv_heads"),
        ("falcon", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn"),
        ("falcon", {"new_decoder_architecture": True, "parallel_attn": False}, "parallel_attn"),
        ("falcon", {"activation": "relu"}, "activation"),
        ("falcon", {"ffn_hidden_size": -3}, "ffn_hidden_size"),
        ("gpt_neox", {"rotary_pct": 1.5}, "partial_rotary_factor"),
        ("gpt_neox", {"hidden_act": "xielu"}, "hidden_act"),
        ("gpt2", {"n_inner": "5"}, "n_inner"),
        ("openai-gpt", {"afn": "tanh"}, "afn"),
        ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}}, "longrope"),
        ("phi3", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling"),
        ("olmo2", {"hidden_act": "gelu"}, "hidden_act"),
    ],
)
def test_fields_of_a_family_that_are_not_understood(family, fields, words):
    with pytest.raises(UserError, match=words):
        read_config(example(family) | fields)


def test_fields_of_published_files_that_change_nothing():
    """As the releases wrote them: null windows, unused windows, code that is never run, caches."""
    qwen = example("qwen2") | {"use_sliding_window": False, "sliding_window": 131072, "layer_types": None}
    assert read_config(qwen).window == 0
    assert read_config(example("mistral") | {"sliding_window": None}).window == 0
    assert read_config(example("falcon") | {"auto_map": {"AutoModel": "x.y"}}) == read_config(example("falcon"))
    assert read_config(example("llama") | {"is_llama_config": True, "transformers.js_config": {"kv_cache_dtype": "f"}})
    assert read_config(example("qwen3_moe") | {"use_sliding_window": False, "max_window_layers": 48}).window == 0
    assert read_config(example("bert") | {"pooler_fc_size": 768, "directionality": "bidi"}) == read_config(
        example("bert")
    )
    wide = example("falcon")
    assert read_config(wide | {"ff_factor": 4, "ffn_hidden_size": 4 * wide["hidden_size"]}) is not None
    with pytest.raises(UserError, match="ff_factor"):
        read_config(wide | {"ff_factor": 4, "ffn_hidden_size": 4 * wide["hidden_size"] + 1})
    assert read_config(example("gemma2") | {"cache_implementation": "hybrid", "hidden_act": "gelu"}) is not None
    assert (
        read_config(example("openai-gpt") | {"n_ctx": 512, "n_special": 0, "predict_special_tokens": True}) is not None
    )


def test_a_shape_that_a_family_cannot_express_is_not_written():
    for family, change_ in (("qwen2", {"qkv_bias": False}), ("falcon", {"kv_heads": 2, "parallel": False})):
        config = read_config(example(family))
        with pytest.raises(UserError, match=family + "|not supported|num_ln"):
            write_config(ModelConfig(**{**vars(config), **change_}))


def test_missing_files_are_named(tmp_path, directory):
    (directory / WEIGHTS).rename(directory / "pytorch_model.bin")
    assert re.search("pickle", refused(directory))
    with pytest.raises(UserError, match="no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        read_tensors(tmp_path)


COMMON = {"torch_dtype": "bfloat16", "transformers_version": "4.40.0", "use_cache": True, "bos_token_id": 1}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

# (config.json of a release in its own spelling, number of parameters it is known for)
PUBLISHED = {
    "Llama 3.1 8B": (
        {
            "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "pretraining_tp": 1,
            "rope_scaling": LLAMA3 | {"rope_type": "llama3"}, "tie_word_embeddings": False, "mlp_bias": False,
        },
        8_030_261_248,
    ),
    "Mistral 7B": (
        {
            "model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
            "tie_word_embeddings": False,
        },
        7_241_732_096,
    ),
    "Qwen 2.5 0.5B": (
        {
            "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
            "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_act": "silu",
            "max_position_embeddings": 32768, "max_window_layers": 24, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
            "sliding_window": 32768, "use_sliding_window": False, "use_mrope": False, "tie_word_embeddings": True,
        },
        494_032_768,
    ),
    "Qwen 3 0.6B": (
        {
            "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
            "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "hidden_act": "silu", "max_position_embeddings": 40960, "max_window_layers": 28, "rms_norm_eps": 1e-06,
            "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "use_sliding_window": False,
            "attention_bias": False, "tie_word_embeddings": True,
        },
        596_049_920,
    ),
    "Gemma 2B": (
        {
            "model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048, "intermediate_size": 16384,
            "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
            "hidden_act": "gelu", "max_position_embeddings": 8192, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
            "attention_bias": False, "rope_scaling": None,
        },
        2_506_172_416,
    ),
    "Gemma 2 2B": (
        {
            "model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
            "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-06,
            "max_position_embeddings": 8192, "query_pre_attn_scalar": 256, "sliding_window": 4096,
            "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "rope_theta": 10000.0,
            "cache_implementation": "hybrid", "attention_bias": False,
        },
        2_614_341_888,
    ),
    "Falcon 7B": (
        {
            "model_type": "falcon", "vocab_size": 65024, "hidden_size": 4544, "num_hidden_layers": 32,
            "num_attention_heads": 71, "alibi": False, "bias": False, "multi_query": True, "parallel_attn": True,
            "new_decoder_architecture": False, "apply_residual_connection_post_layernorm": False,
            "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig"}, "layer_norm_epsilon": 1e-05,
        },
        6_921_720_704,
    ),
    "Pythia 70M": (
        {
            "model_type": "gpt_neox", "vocab_size": 50304, "hidden_size": 512, "intermediate_size": 2048,
            "num_hidden_layers": 6, "num_attention_heads": 8, "hidden_act": "gelu", "layer_norm_eps": 1e-05,
            "max_position_embeddings": 2048, "rotary_emb_base": 10000, "rotary_pct": 0.25,
            "use_parallel_residual": True, "tie_word_embeddings": False,
        },
        70_426_624,
    ),
    "Phi 3 mini": (
        {
            "model_type": "phi3", "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu",
            "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05,
            "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047, "attention_bias": False,
            "tie_word_embeddings": False,
        },
        3_821_079_552,
    ),
    "GPT": (
        {
            "model_type": "openai-gpt", "vocab_size": 40478, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_ctx": 512,
            "n_positions": 512, "n_special": 0, "predict_special_tokens": True, "afn": "gelu",
        },
        116_534_784,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_the_size_they_are_known_for(name):
    fields, parameters = PUBLISHED[name]
    with torch.device("meta"):
        assert Transformer(read_config(COMMON | fields)).parameter_count() == parameters


# --- where answers end


@pytest.mark.parametrize(("said", "ends"), [([0, 11], {0, 11}), (11, {11}), (None, set()), ([11, 10**9], {11})])
def test_ends_of_an_answer_are_those_of_generation_config(directory, said, ends):
    change(directory, "generation_config.json", eos_token_id=said)
    change(directory, "config.json", eos_token_id=12)
    model, tokenizer = cairn.load(directory)
    own = {tokenizer.eos_id, tokenizer.special.get("<|end|>")} - {None}
    assert tokenizer.stop_ids == own | ends
    cairn.save(directory / "again", model, tokenizer)
    assert cairn.load(directory / "again")[1].stop_ids == tokenizer.stop_ids


def test_ends_without_a_generation_config(directory):
    (directory / "generation_config.json").unlink()
    change(directory, "config.json", eos_token_id=[12, 13])
    assert cairn.load(directory)[1].stop_ids >= {12, 13}
    change(directory, "config.json", eos_token_id="12")
    with pytest.raises(UserError, match="eos_token_id"):
        cairn.load(directory)


def test_a_decoder_that_looks_both_ways_is_refused(directory):
    change(directory, "config.json", is_causal=False)
    refused(directory, "is_causal")
    change(directory, "config.json", is_causal=True)
    cairn.load(directory)


def test_the_documentation_names_every_family():
    text = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    named = {word for row in re.findall(r"^\| ([a-z0-9_, -]+) \|", text, re.M) for word in row.split(", ")}
    assert named >= FAMILIES.keys()
