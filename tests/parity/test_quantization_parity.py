"""Quantized directories against compressed-tensors (the bits of its packing) and transformers (the whole directory)."""

import pytest
import torch

from cairn.models import ModelConfig, Transformer, save
from cairn.quantization import dequantize, load, pack, quantize, quantize_directory, unpack
from cairn.tokenizers import train_tokenizer

transformers = pytest.importorskip("transformers")
helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")

torch.set_num_threads(1)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("columns", [1, 31, 32, 88, 344])
def test_packing_is_that_of_compressed_tensors(bits, columns):
    values = torch.randint(-(1 << bits - 1), 1 << bits - 1, (7, columns), dtype=torch.int8)
    packed = helpers.pack_to_int32(values, bits)
    assert torch.equal(pack(values, bits), packed)
    assert torch.equal(unpack(packed, bits, columns), values)
    assert torch.equal(helpers.unpack_from_int32(pack(values, bits), bits, values.shape), values)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(
    "shape",
    [
        {"dim": 64, "heads": 4, "kv_heads": 2, "ffn_dim": 96},
        {"dim": 64, "heads": 4, "kv_heads": 4, "ffn_dim": 88, "tie_embeddings": False},  # INT4 mixed with INT8
        {"dim": 64, "heads": 2, "kv_heads": 1, "head_dim": 16, "ffn_dim": 64},
    ],
)
def test_transformers_opens_our_directory_with_equal_logits(tmp_path, bits, shape):
    tokenizer = train_tokenizer(["the stones mark the trail over the hill. " * 20], 400)
    model = Transformer(ModelConfig(vocab_size=512, layers=2, max_positions=64, **shape)).initialize(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4  # logits of a size that shows errors
    save(tmp_path / "plain", model, tokenizer)
    quantize_directory(tmp_path / "plain", tmp_path / "q", bits)
    ours, _ = load(tmp_path / "q")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "q", dtype=torch.float32)
    ids = torch.randint(0, 512, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, logits, plain = theirs(ids).logits, ours(ids), model(ids)
    assert (logits - expected).abs().max() < 1e-4
    # The test could not tell a plain model from a quantized one if quantizing changed nothing.
    assert (plain - logits).abs().max() > 1e-2
    weight = theirs.model.layers[1].mlp.gate_proj.weight
    assert torch.equal(
        weight, dequantize(*quantize(model.get_parameter("blocks.1.feed_forward.gate.weight").detach(), bits))
    )
