"""Model directories against `transformers`: logits in both directions, on random small shapes."""

import json

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.models import ModelConfig, PagedCache, Segment, Transformer, load, save
from cairn.models.families import read_config, write_config

TOLERANCE = 1e-4


def llama(**changes):
    sizes = {"vocab_size": 400, "dim": 48, "layers": 3, "heads": 6, "kv_heads": 2, "ffn_dim": 100, "max_positions": 64}
    return ModelConfig(**sizes | changes)


def gpt2(**changes):
    sizes = {"vocab_size": 400, "dim": 48, "layers": 2, "heads": 4, "kv_heads": 4, "ffn_dim": 200, "max_positions": 64}
    shape = {"family": "gpt2", "norm": "layernorm", "positions": "learned", "activation": "gelu_tanh", "gated": False}
    shape |= {"qkv_bias": True, "out_bias": True, "ffn_bias": True}
    return ModelConfig(**sizes | shape | changes)


SHAPES = {
    "llama": llama(),
    "llama untied, multi-head, wide heads": llama(tie_embeddings=False, kv_heads=6, head_dim=16, rope_theta=500000.0),
    "llama multi-query with biases": llama(kv_heads=1, qkv_bias=True, out_bias=True, ffn_bias=True, norm_eps=1e-6),
    "gpt2": gpt2(),
    "gpt2 untied, narrow inside": gpt2(tie_embeddings=False, ffn_dim=96),
}


def randomized(config, seed=0):
    """Weights of every kind away from their starting values, norms and biases too."""
    model = Transformer(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.15 + (1.0 if p.ndim == 1 else 0.0))
    return model.eval()


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_loads_ours(name, tmp_path, tokenizer):
    model = randomized(SHAPES[name])
    save(tmp_path / "m", model, tokenizer)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    ids = torch.randint(0, 400, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), oracle(ids).logits, atol=TOLERANCE, rtol=0)
    again, _ = load(tmp_path / "m")
    with torch.no_grad():
        assert torch.equal(again(ids), model(ids))


@pytest.mark.parametrize("name", SHAPES)
def test_we_load_transformers(name, tmp_path, tokenizer):
    config = SHAPES[name]
    kind = transformers.LlamaConfig if config.family == "llama" else transformers.GPT2Config
    values = {k: v for k, v in write_config(config).items() if k not in ("architectures", "model_type")}
    torch.manual_seed(0)
    oracle = transformers.AutoModelForCausalLM.from_config(kind(**values)).eval()
    oracle.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    model, _ = load(tmp_path)
    ids = torch.randint(0, 400, (2, 33), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), oracle(ids).logits, atol=TOLERANCE, rtol=0)


def test_sharded_directory(tmp_path, tokenizer):
    model = randomized(SHAPES["llama"])
    save(tmp_path / "m", model, tokenizer, shard_bytes=50_000)
    assert len(list((tmp_path / "m").glob("model-*.safetensors"))) > 1
    oracle = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    again, _ = load(tmp_path / "m")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(again(ids), model(ids))
        torch.testing.assert_close(model(ids), oracle(ids).logits, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_cache_gives_the_same_logits_as_the_whole_text(name, data):
    """Rows of different lengths, cut into prefill and single steps at random places."""
    model = randomized(SHAPES[name])
    lengths = data.draw(st.lists(st.integers(2, 12), min_size=1, max_size=4))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    rows = [torch.randint(0, 400, (n + 5,)) for n in lengths]
    pages = torch.randperm(20).tolist()
    tables = [[pages.pop() for _ in range(3)] for _ in rows]
    cache = PagedCache(model.config, 20)
    with torch.no_grad():
        flat = torch.cat([r[:n] for r, n in zip(rows, lengths)])[None]
        model(flat, cache.step([Segment(t, 0, n) for t, n in zip(tables, lengths)]))
        for t in range(5):
            ids = torch.stack([r[n + t] for r, n in zip(rows, lengths)])[None]
            logits = model(ids, cache.step([Segment(p, n + t, 1) for p, n in zip(tables, lengths)]))[0]
            for i, (r, n) in enumerate(zip(rows, lengths)):
                torch.testing.assert_close(logits[i], model(r[None, : n + t + 1])[0, -1], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "longrope"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "unheard": 1}}, "unheard"),
        ({"sliding_window": 128}, "sliding_window"),
        ({"hidden_size": "48"}, "hidden_size"),
        ({"num_key_value_heads": 5}, "kv_heads"),
        ({"model_type": "mamba"}, "mamba"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change, named):
    data = write_config(SHAPES["llama"]) | change
    with pytest.raises(UserError, match=named):
        read_config(json.loads(json.dumps(data)))


def test_parameter_count_of_gpt2():
    from cairn.models import preset

    with torch.device("meta"):
        assert Transformer(preset("gpt2-124m")).parameter_count() == 124_439_808
