"""Mixtures of experts and latent attention against `transformers`: logits of random small models, routers, losses."""

import random
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from cairn.models.config import Experts
from cairn.models.directory import load_model
from cairn.models.experts import Choice, Router, load_balancing_loss, router_z_loss, within_capacity
from cairn.models.families import read_config
from cairn.parity import Check
from cairn.parity.logits import FLOAT32, Fields, both_ways, difference, quiet, randomized, through_the_cache

NAMES = ("mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3")


def random_fields(family: str, seed: int) -> Fields:
    """Fields of a small config.json, sizes all distinct, variants by chance. Widths that experts multiply by are multiples
    of 4: the oracle's fused product takes no others."""
    rng = random.Random(f"{family} {seed}")
    heads = rng.choice((2, 4, 6))
    fields: Fields = {
        "model_type": family,
        "vocab_size": 300 + rng.randrange(20),
        "hidden_size": heads * rng.choice((8, 10, 14)),
        "intermediate_size": rng.choice((44, 52, 68)),
        "num_hidden_layers": rng.choice((2, 3)),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 64,
        "rms_norm_eps": rng.choice((1e-5, 1e-3)),
        "rope_theta": rng.choice((1e4, 3e5)),
        "tie_word_embeddings": rng.random() < 0.3,
        "num_experts_per_tok": rng.choice((1, 2, 3)),
    }
    if not family.startswith("deepseek"):
        fields |= {"num_key_value_heads": rng.choice((1, 2)), "head_dim": rng.choice((8, 12, 18))}
        window = rng.choice((None, 7))
    if family == "mixtral":
        return fields | {"num_local_experts": rng.choice((3, 5)), "sliding_window": window}
    if family == "qwen3_moe":
        return fields | {
            "num_experts": rng.choice((4, 7)),
            "moe_intermediate_size": rng.choice((12, 20)),
            "norm_topk_prob": rng.random() < 0.5,
            "attention_bias": rng.random() < 0.5,
            "mlp_only_layers": rng.choice(([], [0])),
            "use_sliding_window": window is not None,
            "sliding_window": window,
        }
    groups = rng.choice((1, 2, 4))
    fields |= {
        "attention_bias": rng.random() < 0.5,
        "first_k_dense_replace": rng.choice((0, 1)),
        "moe_intermediate_size": rng.choice((12, 20)),
        "n_routed_experts": 8,
        "n_shared_experts": rng.choice((1, 2)),
        "n_group": groups,
        "topk_group": max(1, groups // 2),
        "routed_scaling_factor": rng.choice((1.0, 1.7)),
        "kv_lora_rank": rng.choice((14, 22)),
        "q_lora_rank": rng.choice((None, 19)),
        "qk_nope_head_dim": rng.choice((6, 12)),
        "qk_rope_head_dim": rng.choice((4, 8)),
        "v_head_dim": rng.choice((7, 14)),
    }
    if rng.random() < 0.5:
        strengths = rng.choice(({}, {"mscale": 0.7, "mscale_all_dim": 0.9}, {"mscale_all_dim": 0.8}))
        fields["rope_scaling"] = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16} | strengths
    if family == "deepseek_v2":
        return fields | {"topk_method": "group_limited_greedy" if groups > 1 else "greedy"}
    return fields | {"norm_topk_prob": rng.random() < 0.5, "rope_interleave": rng.random() < 0.7}


def random_oracle(fields: Fields, seed: int, gain: float = 1.0) -> Any:
    """The model of `transformers`, its weights random."""
    import transformers

    config = transformers.AutoConfig.for_model(**fields)
    return randomized(transformers.AutoModelForCausalLM.from_config(config, experts_implementation="eager"), seed, gain)


@torch.no_grad()
def in_bfloat16(family: str, seed: int) -> float:
    """Largest difference of logits, both models in bfloat16, relative to the largest logit.

    The oracle's tokens go to the experts that ours go to: rounding tips a router's near ties one way or the other, and
    `router_error` compares routers on the same input.
    """
    oracle = random_oracle(random_fields(family, seed), seed, gain=0.5)
    with tempfile.TemporaryDirectory() as folder, quiet():
        oracle.save_pretrained(folder)
        model = load_model(folder, dtype=torch.bfloat16)
    choices: list[Choice] = []
    for module in model.modules():
        if isinstance(module, Router):
            module.register_forward_hook(lambda _, args, choice: choices.append(choice))  # pyright: ignore[reportArgumentType]
    ids_BT = torch.randint(0, 300, (3, 33), generator=torch.Generator().manual_seed(seed))
    got = model(ids_BT)
    for name, module in oracle.named_modules():
        if name.endswith("mlp.gate"):
            module.register_forward_hook(lambda _, args, out: _replayed(choices.pop(0), out))
    wanted = oracle.to(torch.bfloat16)(ids_BT).logits
    return difference(got, wanted) / float(wanted.abs().max())


def _replayed(choice: Choice, out: tuple) -> tuple:
    return choice.logits_NE, choice.weight_NC.to(out[1].dtype), choice.chosen_NC


@torch.no_grad()
def router_error(family: str, seed: int) -> float:
    """The weights that tokens in bfloat16 give to all experts, 0 where an expert is not chosen."""
    fields = random_fields(family, seed)
    oracle = random_oracle(fields, seed)
    gate = next(module for name, module in oracle.named_modules() if name.endswith("mlp.gate")).to(torch.bfloat16)
    width, experts = fields["hidden_size"], read_config(fields).experts
    assert experts is not None
    router = Router(width, experts).to(torch.bfloat16)
    router.weight.copy_(gate.weight)
    if router.correction is not None:
        router.correction.copy_(gate.e_score_correction_bias)
    x_ND = torch.randn(200, width, generator=torch.Generator().manual_seed(seed)).bfloat16()
    choice = router(x_ND)
    _, weight, chosen = gate(x_ND)
    ours = torch.zeros(200, experts.count).scatter(1, choice.chosen_NC, choice.weight_NC.float())
    return difference(ours, torch.zeros(200, experts.count).scatter(1, chosen, weight.float()))


# --- losses, and the router of Switch


def balancing_loss_error(seed: int) -> float:
    """Over several layers, with and without padding, and its gradient."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    torch.manual_seed(seed)
    errors = []
    for real in (None, torch.rand(6, 20) < 0.7):
        layers = [torch.randn(120, 7, requires_grad=True) for _ in range(3)]
        choices = []
        for logits in layers:
            scores = logits.softmax(-1)
            weight, chosen = scores.topk(2)
            choices.append(Choice(logits, scores, chosen, weight))
        theirs = load_balancing_loss_func(tuple(layers), 7, 2, real)  # pyright: ignore[reportArgumentType]
        assert isinstance(theirs, torch.Tensor)
        ours = load_balancing_loss(choices, real)
        gradients = zip(torch.autograd.grad(ours, layers), torch.autograd.grad(theirs, layers))
        errors += [(ours - theirs).abs().item(), *((a - b).abs().max().item() for a, b in gradients)]
    return max(errors)


@torch.no_grad()
def switch_error(seed: int) -> float:
    """Switch's router (weights, what is beyond capacity) and its two losses."""
    from transformers import SwitchTransformersConfig
    from transformers.models.switch_transformers import modeling_switch_transformers as theirs

    torch.manual_seed(seed)
    B, S, D, E, bound = 3, 24, 10, 5, 6
    gate = theirs.SwitchTransformersTop1Router(
        SwitchTransformersConfig(d_model=D, num_experts=E, expert_capacity=bound)
    )
    router = Router(D, Experts(count=E, per_token=1, normalize=False))
    router.weight.copy_(gate.classifier.weight)
    x_BSD = torch.randn(B, S, D) * 4
    taken_BSE, probability_BS1, logits_BSE = gate(x_BSD)
    choice = router(x_BSD.flatten(0, 1))
    chosen_BS1 = choice.chosen_NC.view(B, S, 1)
    kept_BS1 = within_capacity(chosen_BS1, E, bound)
    ours_BSE = torch.zeros(B, S, E).scatter(2, chosen_BS1, choice.weight_NC.view(B, S, 1) * kept_BS1)
    rows = [Choice(*(part.unflatten(0, (B, S))[b] for part in choice)) for b in range(B)]
    balance = torch.stack([load_balancing_loss([row]) for row in rows]).mean()
    return max(
        (ours_BSE - taken_BSE * probability_BS1).abs().max().item(),
        (balance - theirs.load_balancing_loss_func(choice.scores_NE.view(B, S, E), chosen_BS1[..., 0])).abs().item(),
        abs(router_z_loss(choice.logits_NE).item() - float(theirs.router_z_loss_func(logits_BSE))),
    )


def _check(part: str, tolerance: float, run: Callable[[int], float]) -> Check:
    return Check(part, "transformers", tolerance, run)


CHECKS = [
    *(
        _check(f"{f}: logits, both ways, padded", FLOAT32, lambda s, f=f: both_ways(random_fields(f, s), s))
        for f in NAMES
    ),
    *(
        _check(f"{f}: through the cache", FLOAT32, lambda s, f=f: through_the_cache(random_fields(f, s), s))
        for f in NAMES
    ),
    *(_check(f"{f}: bfloat16, relative", 2e-2, partial(in_bfloat16, f)) for f in NAMES),
    *(_check(f"{f}: router in bfloat16", 1e-2, partial(router_error, f)) for f in NAMES),
    _check("load-balancing loss and its gradient", 1e-5, balancing_loss_error),
    _check("switch: router, capacity, losses", 1e-4, switch_error),
]
