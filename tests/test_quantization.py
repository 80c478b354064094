import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import cairn.models
from cairn.cli.main import main
from cairn.core.errors import UserError
from cairn.inference import Engine, SamplingParams
from cairn.models import ModelConfig, Transformer, preset
from cairn.quantization import (
    QuantizedLinear,
    decode_speed,
    dequantize,
    load,
    measure_precision,
    pack,
    quantize,
    quantize_directory,
    unpack,
)
from cairn.quantization.linear import KERNEL_ROWS
from cairn.tokenizers import train_tokenizer

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the stones mark the trail over the hill. " * 20], 400)


@pytest.fixture(scope="module")
def source(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("models") / "plain"
    cairn.models.save(path, Transformer(preset("pebble")).initialize(1), tokenizer, {"recipe": "test"})
    return path


def matrix(outputs, inputs, seed=0):
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)) * 0.02


# --- integers and bits


@given(bits=st.sampled_from([4, 8]), rows=st.integers(1, 5), columns=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_pack_and_unpack_are_inverse(bits, rows, columns, seed):
    low, high = -(1 << bits - 1), 1 << bits - 1
    values = torch.randint(low, high, (rows, columns), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    packed = pack(values, bits)
    assert packed.dtype == torch.int32
    assert packed.shape == (rows, math.ceil(columns * bits / 32))
    assert torch.equal(unpack(packed, bits, columns), values)


def test_first_input_takes_the_lowest_bits():
    # By the definition: value + 8 at bit 4 i of the word.
    assert pack(torch.tensor([[-7, -6, 7]], dtype=torch.int8), 4).item() == 1 + (2 << 4) + (15 << 8)
    assert pack(torch.tensor([[-127, 0, 1]], dtype=torch.int8), 8).item() == 1 + (128 << 8) + (129 << 16)


@given(
    rows=st.integers(1, 6), groups=st.integers(1, 3), seed=st.integers(0, 999), size=st.sampled_from([1e-6, 0.02, 30.0])
)
@settings(max_examples=40, deadline=None)
def test_no_weight_moves_by_more_than_half_a_scale(rows, groups, seed, size):
    weight = matrix(rows, 32 * groups, seed) * size
    for bits in (8, 4):
        values, scale = quantize(weight, bits)
        half = scale.float().repeat_interleave(weight.shape[1] // scale.shape[1], dim=1) / 2
        error = (weight - dequantize(values, scale)).abs()
        inside = (weight >= -17 * half) & (weight <= 15 * half)  # of INT4's grid, -8.5 .. 7.5 scales
        assert bool((error <= half * (1 + 1e-5))[inside | (bits == 8)].all())
        ends = torch.where(weight > 0, 7, -8).to(torch.int8)
        assert bits == 8 or torch.equal(values[~inside], ends[~inside])


def test_clip_search_beats_no_clipping_in_every_group():
    weight = matrix(64, 128).unflatten(1, (-1, 32))
    values, scale = quantize(weight.flatten(1), 4)
    searched = (dequantize(values, scale).view_as(weight) - weight).square().sum(-1)
    step = (weight.abs().amax(-1, keepdim=True) / 7).bfloat16().float()
    plain = ((weight / step).round().clamp(-8, 7) * step - weight).square().sum(-1)
    assert bool((searched <= plain * (1 + 1e-5)).all())
    assert searched.sum() < 0.9 * plain.sum()


def test_zero_rows_stay_zero():
    for bits in (8, 4):
        values, scale = quantize(torch.zeros(2, 64), bits)
        assert torch.equal(dequantize(values, scale), torch.zeros(2, 64))


# --- the layer


@pytest.mark.parametrize("bits", [8, 4])
def test_small_layer_multiplies_by_the_dequantized_weights_exactly(bits):
    values, scale = quantize(matrix(24, 64), bits)
    bias = torch.arange(24.0)
    layer = QuantizedLinear(values, scale, bits, bias)
    x = matrix(6, 64, 1).view(2, 3, 64)
    assert layer.route == "float"
    assert torch.equal(layer(x), torch.nn.functional.linear(x, dequantize(values, scale), bias))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows", [1, KERNEL_ROWS, KERNEL_ROWS + 1])
def test_large_layer_keeps_integers_and_is_close(bits, rows):
    values, scale = quantize(matrix(1024, 1024), bits)
    layer = QuantizedLinear(values, scale, bits, torch.ones(1024))
    assert layer.route == f"int{bits}"
    stored = sum(b.numel() * b.element_size() for b in layer.buffers())
    assert stored <= 1024 * 1024 * (bits + 1.5) / 8  # scales and zero points of INT4: another bit a weight
    assert torch.equal(layer.weight, dequantize(values, scale))
    x = matrix(rows, 1024, 2)
    exact = x @ dequantize(values, scale).T + 1
    error = (layer(x) - exact).norm() / (exact - 1).norm()
    assert 0 < error < 0.005  # what bfloat16 activations cost
    assert layer(x[0]).shape == (1024,)


def test_other_devices_unpack_each_call(monkeypatch):
    monkeypatch.setattr(QuantizedLinear, "_choose_route", lambda self, device: "unpack")
    for bits in (8, 4):
        values, scale = quantize(matrix(24, 96), bits)
        layer = QuantizedLinear(values, scale, bits)
        assert layer.ready.dtype == torch.int32
        x = matrix(5, 96, 1)
        assert torch.equal(layer(x), x @ dequantize(values, scale).T)


# --- directories


@pytest.mark.parametrize("bits", [8, 4])
def test_directory_round_trip(source, tmp_path, tokenizer, bits):
    result = quantize_directory(source, tmp_path / "q", bits)
    assert result["bytes_after"] < result["bytes_before"] / 2
    assert result["layers"]["attention.q"]["bits"] == bits
    assert result["layers"]["feed_forward.down"]["bits"] == 8  # 88 inputs are no multiple of 32
    limit = 0.02 if bits == 8 else 0.12
    assert all(0 < row["relative_error"] < limit for k, row in result["layers"].items() if k != "feed_forward.down")

    plain, _ = load(source)
    model, again = load(tmp_path / "q")
    assert again.fingerprint() == tokenizer.fingerprint()
    assert isinstance(model.get_submodule("blocks.1.attention.q"), QuantizedLinear)
    for name, weight in plain.state_dict().items():
        if name.startswith("blocks") and weight.ndim == 2:
            expected = dequantize(*quantize(weight, result["layers"][name.split(".", 2)[2].rpartition(".")[0]]["bits"]))
        else:
            expected = weight.bfloat16().float()
        assert torch.equal(model.state_dict()[name], expected), name
    record = cairn.models.read_record(tmp_path / "q")
    assert record["recipe"] == "test"
    assert record["parents"] == [cairn.models.weights_hash(source)]
    assert Engine(model, again).generate(["the"], SamplingParams(max_tokens=3, temperature=0))[0].output_ids


def test_saving_a_quantized_model_writes_its_dequantized_weights(source, tmp_path):
    quantize_directory(source, tmp_path / "q", 4)
    model, tokenizer = load(tmp_path / "q")
    cairn.models.save(tmp_path / "plain", model, tokenizer)
    plain, _ = cairn.models.load(tmp_path / "plain")
    ids = torch.arange(20)[None]
    assert torch.equal(plain(ids), model(ids))


def test_plain_directories_open_as_with_models_load(source):
    ids = torch.arange(20)[None]
    assert torch.equal(load(source)[0](ids), cairn.models.load(source)[0](ids))
    assert load(source, dtype=torch.bfloat16)[0].embed.weight.dtype == torch.bfloat16


def test_load_in_bfloat16_computes_in_bfloat16(source, tmp_path):
    quantize_directory(source, tmp_path / "q", 8)
    low, high = load(tmp_path / "q", dtype=torch.bfloat16)[0], load(tmp_path / "q")[0]
    ids = torch.arange(20)[None]
    assert low(ids).dtype == torch.bfloat16
    assert (low(ids).float() - high(ids)).abs().max() < 0.02


# --- what does not fit


def test_source_that_cannot_be_quantized(source, tmp_path, tokenizer):
    quantize_directory(source, tmp_path / "q", 8)
    with pytest.raises(UserError, match="quantized already"):
        quantize_directory(tmp_path / "q", tmp_path / "again", 4)
    with pytest.raises(UserError, match="the source itself"):
        quantize_directory(source, source, 8)
    with pytest.raises(UserError, match="must be 8 or 4"):
        quantize_directory(source, tmp_path / "x", 3)
    shape = {"vocab_size": 400, "dim": 32, "layers": 1, "heads": 2, "kv_heads": 2, "ffn_dim": 64, "max_positions": 32}
    gpt2 = dataclasses.replace(preset("gpt2-124m"), **shape, head_dim=0)
    cairn.models.save(tmp_path / "gpt2", Transformer(gpt2).initialize(0), tokenizer)
    with pytest.raises(UserError, match="gpt2"):
        quantize_directory(tmp_path / "gpt2", tmp_path / "x", 8)
    narrow = Transformer(ModelConfig(**shape | {"dim": 40, "ffn_dim": 40})).initialize(0)
    cairn.models.save(tmp_path / "narrow", narrow, tokenizer)
    with pytest.raises(UserError, match="use --bits 8"):
        quantize_directory(tmp_path / "narrow", tmp_path / "x", 4)
    with torch.no_grad():
        narrow.blocks[0].attention.q.weight[0, 0] = float("nan")  # type: ignore[union-attr, index]
    cairn.models.save(tmp_path / "nan", narrow, tokenizer)
    with pytest.raises(UserError, match="diverged"):
        quantize_directory(tmp_path / "nan", tmp_path / "x", 8)
    assert not (tmp_path / "x").exists()


def test_a_folder_with_other_content_is_not_replaced(source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="will not be replaced"):
        quantize_directory(source, tmp_path / "mine", 8)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_truncated_file(source, tmp_path):
    quantize_directory(source, tmp_path / "q", 8)
    file = tmp_path / "q" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated"):
        load(tmp_path / "q")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quant_method": "gptq"}, "'gptq'"),
        ({"format": "marlin-24"}, "'marlin-24'"),
        ({"config_groups": {}}, "no config_groups"),
        ({"config_groups": {"group_0": {"weights": None}}}, "says nothing about weights"),
        ({"config_groups": {"group_0": {"weights": {"num_bits": 4, "symmetric": False}}}}, "symmetric weight-only"),
        ({"config_groups": {"group_0": {"weights": {"num_bits": 3}}}}, "symmetric weight-only"),
        ({"config_groups": {"g": {"weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}}}}, "weight-only"),
    ],
)
def test_foreign_formats_are_refused_by_name(source, tmp_path, change, message):
    quantize_directory(source, tmp_path / "q", 8)
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    config["quantization_config"] |= change
    (tmp_path / "q" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        load(tmp_path / "q")


def _drop(tensors, name):
    del tensors[name]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t, n: _drop(t, f"{n}_scale"), "lacks its weight_scale"),
        (lambda t, n: _drop(t, f"{n}_packed"), "weights do not fit"),
        (lambda t, n: t.update({f"{n}_packed": t[f"{n}_packed"][:, :-1].clone()}), "has words of shape"),
        (lambda t, n: t.update({f"{n}_packed": t[f"{n}_packed"].float()}), "wrong type"),
        (lambda t, n: t.update({f"{n}_shape": t[f"{n}_shape"].float()}), "wrong type"),
        (lambda t, n: t.update({f"{n}_shape": torch.tensor([1 << 40, 1 << 40])}), "has words of shape"),
        (lambda t, n: t.update({f"{n}_shape": torch.tensor([-4, 8])}), "has words of shape"),
        (lambda t, n: t.update({f"{n}_scale": t[f"{n}_scale"][:-1].clone()}), "has scales of shape"),
        (lambda t, n: t[f"{n}_scale"].fill_(float("inf")), "scales that are no numbers"),
    ],
)
def test_damaged_layers_are_named(source, tmp_path, damage, message):
    quantize_directory(source, tmp_path / "q", 8)
    file = tmp_path / "q" / "model.safetensors"
    tensors = load_file(file)
    damage(tensors, "model.layers.0.self_attn.q_proj.weight")
    save_file(tensors, file)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "q")


# --- measuring and the command line


def test_measure_precision(source):
    class Score:
        value = 7.5

    figures = measure_precision(source, ["some text"], lambda model, tokenizer, texts: Score(), tokens=2, runs=1)
    assert figures["bytes"] == (source / "model.safetensors").stat().st_size
    assert figures["bits_per_byte"] == 7.5
    assert figures["tokens_per_second"] > 0


def test_decode_speed_feeds_the_model_its_own_choice():
    model = Transformer(preset("pebble")).initialize(0)
    seen = []
    hook = model.register_forward_hook(lambda module, args, logits: seen.append((args[0], logits[:, -1:].argmax(-1))))
    decode_speed(model, tokens=3, runs=1)
    hook.remove()
    assert [ids.shape[1] for ids, _ in seen] == [8, 1, 1, 1] * 2  # warm-up and one run
    assert all(torch.equal(seen[i][1], seen[i + 1][0]) for i in (0, 1, 2))


def test_command(source, tmp_path, capsys):
    words = ["quantize", str(source), "--bits", "4", "--out", str(tmp_path / "q"), "--json", str(tmp_path / "q.json")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "attention.q" in out
    figures = json.loads((tmp_path / "q.json").read_text())
    assert f"{figures['bytes_after']:,} after" in out
    assert main(["quantize", str(tmp_path / "q"), "--bits", "8", "--out", str(tmp_path / "r")]) == 2
    error = capsys.readouterr().err
    assert "quantized already" in error
    assert error.count("\n") == 1
