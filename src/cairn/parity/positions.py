"""Positions against `transformers`: rotary frequencies under every scaling, and ALiBi's bias."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from cairn.models.config import ModelConfig, RopeScaling
from cairn.models.positions import Alibi, Rope
from cairn.parity import Check
from cairn.parity.logits import difference, quiet

KINDS = ("default", "linear", "dynamic", "yarn", "llama3")
TOLERANCE = 1e-6  # a few roundings in float32


def rotary_tables(kind: str, seed: int) -> float:
    """Largest difference of frequencies (relative) and of the factor on cos and sin, for random settings of a scaling."""
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rng = random.Random(f"{kind} {seed}")
    longest, head_dim = rng.choice((512, 4096)), rng.choice((8, 64, 128))
    theta = rng.choice((10000.0, 500000.0))
    scaling, said = _random_scaling(kind, rng, longest)
    config = ModelConfig(
        dim=64, heads=4, head_dim=head_dim, max_positions=longest, rope_theta=theta, rope_scaling=scaling
    )
    with quiet():
        oracle = transformers.LlamaConfig(
            hidden_size=64,
            num_attention_heads=4,
            head_dim=head_dim,
            max_position_embeddings=longest,
            rope_parameters={"rope_type": kind, "rope_theta": theta, **said},
        )
    length = rng.choice((longest // 2, longest, 2 * longest - 1))
    if kind == "default":
        wanted, factor = LlamaRotaryEmbedding.compute_default_rope_parameters(oracle)
    else:
        wanted, factor = ROPE_INIT_FUNCTIONS[kind](oracle, seq_len=length)
    rope = Rope(config, theta)
    got = rope.frequencies(length)
    return max(difference(got / wanted, torch.ones_like(wanted)), abs(rope.factor - factor))


def _random_scaling(kind: str, rng: random.Random, longest: int) -> tuple[RopeScaling | None, dict]:
    """The same settings in our words and in theirs."""
    factor = rng.choice((1.0, 2.0, 4.0, 8.5))
    original = longest // rng.choice((2, 4))
    if kind == "default":
        return None, {}
    if kind == "llama3":
        low, high = rng.choice(((1.0, 4.0), (2.0, 3.0)))
        said = {"factor": factor, "low_freq_factor": low, "high_freq_factor": high}
        ours = RopeScaling(kind, factor, original, low_freq_factor=low, high_freq_factor=high)
        return ours, said | {"original_max_position_embeddings": original}
    if kind == "yarn":
        more: dict[str, Any] = rng.choice(
            (
                {},
                {"beta_fast": 20.0, "beta_slow": 2.0},
                {"attention_factor": 0.7, "truncate": False},
                {"mscale": 0.7, "mscale_all_dim": 1.2},
            )
        )
        said = {"factor": factor, "original_max_position_embeddings": original}
        return RopeScaling(kind, factor, original, **more), said | more
    return RopeScaling(kind, factor), {"factor": factor}


def alibi_bias(seed: int) -> float:
    """Largest difference of the bias that falls with distance, for a number of heads that is mostly no power of two."""
    from transformers.models.falcon.modeling_falcon import build_alibi_tensor

    rng = random.Random(seed)
    heads, positions = rng.randint(1, 40), rng.randint(1, 80)
    wanted = build_alibi_tensor(torch.ones(1, positions, dtype=torch.long), heads, torch.float32)[:, 0]
    return difference(Alibi(heads, 1.0).of_keys(positions), wanted)


_PARTS: list[tuple[str, Callable[[int], float]]] = [
    *((f"rotary positions, {kind}: frequencies, relative", partial(rotary_tables, kind)) for kind in KINDS),
    ("ALiBi: bias", alibi_bias),
]
CHECKS = [Check(part, "transformers", TOLERANCE, run) for part, run in _PARTS]
