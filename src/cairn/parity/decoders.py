"""Dense decoders against `transformers`: random small configurations of every family."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from cairn.parity import Check
from cairn.parity.logits import BFLOAT16, FLOAT32, Fields, both_ways, in_bfloat16, through_the_cache

VOCAB = 300


def random_fields(family: str, seed: int) -> Fields:
    """Fields of a small model of the family: sizes all different, variants by chance."""
    rng = random.Random(f"{family} {seed}")
    return {"model_type": family, "vocab_size": VOCAB + rng.randrange(20), **SAMPLERS[family](rng)}


def _shape(rng: random.Random, *, heads_fill_width: bool = False) -> Fields:
    """Sizes under Llama's names."""
    kv_heads = rng.choice((1, 2, 3))
    heads = kv_heads * rng.choice((2, 4) if kv_heads < 3 else (1, 2))
    head_dim = rng.choice((12, 16, 24))
    shape = {
        "hidden_size": heads * head_dim if heads_fill_width else heads * rng.choice((14, 18, 22)),
        "num_hidden_layers": rng.choice((2, 3)),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": rng.randrange(61, 99),
        "max_position_embeddings": 64,
        "rms_norm_eps": rng.choice((1e-6, 1e-5)),
        "tie_word_embeddings": rng.random() < 0.5,
    }
    return shape if heads_fill_width else shape | {"head_dim": head_dim}


def _rope(rng: random.Random, kinds: tuple[str, ...] = ("default", "linear")) -> Fields:
    """rope_parameters; stretching starts from 32 positions, which the compared texts go beyond."""
    kind = rng.choice(kinds)
    said: dict[str, Any] = {"rope_type": kind, "rope_theta": rng.choice((10000.0, 500.0))}
    if kind != "default":
        said["factor"] = rng.choice((2.0, 3.5))
    if kind in ("yarn", "llama3"):
        said["original_max_position_embeddings"] = 32
    if kind == "llama3":
        said |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if kind == "yarn":
        said |= rng.choice(({}, {"beta_fast": 16.0, "beta_slow": 2.0, "truncate": False}, {"attention_factor": 0.8}))
    longest = {"max_position_embeddings": 40} if kind == "dynamic" else {}
    return {"rope_parameters": said} | longest


def _llama(rng: random.Random) -> Fields:
    kinds = ("default", "linear", "dynamic", "yarn", "llama3")
    biases = {"attention_bias": rng.random() < 0.5, "mlp_bias": rng.random() < 0.5}
    return _shape(rng) | _rope(rng, kinds) | biases


def _gpt2(rng: random.Random) -> Fields:
    heads = rng.choice((2, 3, 5))
    return {
        "n_embd": heads * rng.choice((11, 16)),
        "n_layer": rng.choice((2, 3)),
        "n_head": heads,
        "n_positions": rng.randrange(44, 70),
        "n_inner": rng.choice((None, 55)),
        "activation_function": rng.choice(("gelu_new", "relu", "gelu")),
        "tie_word_embeddings": rng.random() < 0.7,
    }


def _gpt(rng: random.Random) -> Fields:
    fields = _gpt2(rng)
    del fields["n_inner"], fields["activation_function"]
    return fields | {"afn": rng.choice(("gelu", "relu", "silu"))}


def _mistral(rng: random.Random) -> Fields:
    return _shape(rng) | _rope(rng) | {"sliding_window": rng.choice((None, 1, 7, 20))}


def _qwen2(rng: random.Random) -> Fields:
    fields = _shape(rng, heads_fill_width=True) | _rope(rng)
    layers = fields["num_hidden_layers"]
    types = [rng.choice(("full_attention", "sliding_attention")) for _ in range(layers)]
    windows = (
        {"use_sliding_window": False, "sliding_window": 5},
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": rng.randint(0, layers)},
        {"use_sliding_window": True, "sliding_window": 6, "layer_types": types},
    )
    return fields | rng.choice(windows)


def _qwen3(rng: random.Random) -> Fields:
    return _qwen2(rng) | {"head_dim": rng.choice((6, 10, 16)), "attention_bias": rng.random() < 0.5}


def _gemma(rng: random.Random) -> Fields:
    return _shape(rng) | _rope(rng) | {"attention_bias": rng.random() < 0.5}


def _gemma2(rng: random.Random) -> Fields:
    fields = _gemma(rng)
    return fields | {
        "query_pre_attn_scalar": rng.choice((5, fields["head_dim"], 30)),
        "sliding_window": rng.choice((4, 11)),
        "attn_logit_softcapping": rng.choice((None, 2.0, 50.0)),
        "final_logit_softcapping": rng.choice((None, 5.0, 30.0)),
    }


def _falcon(rng: random.Random) -> Fields:
    kv_heads = rng.choice((1, 2, 3))
    heads = kv_heads * rng.choice((2, 3, 4))
    fields: Fields = {
        "hidden_size": heads * rng.choice((10, 16)),
        "num_hidden_layers": rng.choice((2, 3)),
        "num_attention_heads": heads,
        "ffn_hidden_size": rng.choice((None, 77)),
        "layer_norm_epsilon": rng.choice((1e-5, 1e-6)),
        "max_position_embeddings": 64,
        "bias": rng.random() < 0.5,
        "alibi": rng.random() < 0.4,
        "tie_word_embeddings": rng.random() < 0.5,
    }
    if rng.random() < 0.5:
        norms = rng.choice((None, 1, 2))
        return fields | {"new_decoder_architecture": True, "num_kv_heads": kv_heads, "num_ln_in_parallel_attn": norms}
    return fields | {"multi_query": rng.random() < 0.5, "parallel_attn": rng.random() < 0.5}


def _neox(rng: random.Random) -> Fields:
    heads = rng.choice((2, 3, 4))
    rope = _rope(rng)
    rope["rope_parameters"]["partial_rotary_factor"] = rng.choice((0.25, 0.5, 1.0))
    return rope | {
        "hidden_size": heads * rng.choice((16, 24)),
        "num_hidden_layers": rng.choice((2, 3)),
        "num_attention_heads": heads,
        "intermediate_size": rng.randrange(61, 99),
        "max_position_embeddings": 64,
        "layer_norm_eps": rng.choice((1e-5, 1e-6)),
        "hidden_act": rng.choice(("gelu", "gelu_new", "relu")),
        "use_parallel_residual": rng.random() < 0.5,
        "attention_bias": rng.random() < 0.5,
        "tie_word_embeddings": rng.random() < 0.3,
    }


def _phi3(rng: random.Random) -> Fields:
    fields = _shape(rng, heads_fill_width=True) | _rope(rng, ("default",))
    size = fields["hidden_size"] // fields["num_attention_heads"]
    fields["rope_parameters"]["partial_rotary_factor"] = rng.choice((1.0, 4 / size))
    return fields | {"sliding_window": rng.choice((None, 9)), "pad_token_id": None}


def _olmo2(rng: random.Random) -> Fields:
    return _shape(rng, heads_fill_width=True) | _rope(rng) | {"attention_bias": rng.random() < 0.5}


SAMPLERS: dict[str, Callable[[random.Random], Fields]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "openai-gpt": _gpt,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "falcon": _falcon,
    "gpt_neox": _neox,
    "phi3": _phi3,
    "olmo2": _olmo2,
}


def _run(compare: Callable[[Fields, int], float], family: str, seed: int) -> float:
    return compare(random_fields(family, seed), seed)


CHECKS = [
    Check(f"{family}: {part}", "transformers", tolerance, partial(_run, compare, family))
    for family in SAMPLERS
    for part, compare, tolerance in (
        ("logits, both ways", both_ways, FLOAT32),
        ("logits through the cache", through_the_cache, FLOAT32),
        ("logits in bfloat16, relative", in_bfloat16, BFLOAT16),
    )
]
