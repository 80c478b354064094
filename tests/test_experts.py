"""Mixtures of experts and latent attention: cache, balance, configurations of published models, hostile ones."""

import copy
import gc
import json
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.models import ModelConfig, PagedCache, Segment, Transformer, save
from cairn.models.config import Experts, Latent
from cairn.models.directory import load_model
from cairn.models.experts import (
    MixtureOfExperts,
    RouterTraining,
    auxiliary_loss,
    load_balancing_loss,
    mixtures,
    update_correction,
    within_capacity,
)
from cairn.models.families import FAMILIES, read_config, write_config
from cairn.parity import experts as parity
from cairn.parity.logits import randomized


def model_of(family, seed):
    return randomized(Transformer(read_config(parity.random_fields(family, seed))), seed)


# --- the cache


@pytest.mark.parametrize("family", parity.NAMES)
def test_a_token_does_not_depend_on_those_beside_it(family):
    """Widths are multiples of 32 here, as in the models they stand for: torch's sigmoid and silu round the elements left over
    from whole registers differently."""
    data = parity.random_fields(family, 2) | {"intermediate_size": 64, "hidden_size": 96}
    for name, width in (("moe_intermediate_size", 32), ("n_routed_experts", 32)):
        if name in data:
            data[name] = width
    model = randomized(Transformer(read_config(data)), 2)
    rows = torch.randint(0, 300, (6, 5), generator=torch.Generator().manual_seed(0))

    def last_logits(chosen):
        cache = PagedCache(model.config, len(chosen))
        with torch.no_grad():
            for i in range(4):
                cache_step = cache.step([Segment([row], i, 1) for row in range(len(chosen))])
                logits = model(rows[chosen, i][None], cache_step)[0]
        return logits

    together = last_logits([0, 1, 2, 3, 4, 5])
    for row in range(6):
        assert torch.equal(last_logits([row])[0], together[row])


def test_latent_attention_caches_one_short_vector():
    """DeepSeek-V2's own sizes: 512 + 64 numbers a token and layer, where 128 heads of 192 and 128 would be 40960."""
    latent = Latent(kv_rank=512, q_rank=1536, rope_dim=64, value_dim=128)
    config = ModelConfig(dim=5120, layers=1, heads=128, kv_heads=128, head_dim=192, latent=latent)
    assert PagedCache.page_bytes(config, torch.float32) == 16 * 4 * (512 + 64)
    heads = ModelConfig(dim=5120, layers=1, heads=128, kv_heads=128, head_dim=160)  # 192 for keys and 128 for values
    assert PagedCache.page_bytes(heads, torch.float32) == 16 * 4 * 40960
    small = ModelConfig(layers=3, heads=6, kv_heads=6, dim=48, head_dim=20, latent=Latent(32, 0, 8, 10))
    cache = PagedCache(small, 5)
    assert cache.v_SGK is cache.k_SGK
    held = sum(store.numel() * store.element_size() for store in cache.k_SGK)
    assert held == 5 * PagedCache.page_bytes(small, torch.float32)


# --- the mixture itself


def mixture(seed=0, **changes):
    torch.manual_seed(seed)
    experts = Experts(**{"count": 6, "per_token": 2, "inner": 10} | changes)
    made = MixtureOfExperts(ModelConfig(dim=12, heads=2, kv_heads=2, experts=experts))
    with torch.no_grad():
        for p in made.parameters():
            p.normal_()
    return made


@given(st.integers(0, 999), st.sampled_from([1, 2, 6]), st.integers(0, 2), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_sorted_by_expert_is_the_sum_written_out(seed, per_token, shared, tokens):
    """Output and gradients equal the plain sum over each token's experts, one token at a time."""
    layer = mixture(seed, per_token=per_token, shared=shared, scale=1.3)
    x = torch.randn(2, tokens, 12, requires_grad=True)
    out = layer(x)
    choice = layer.router(x.flatten(0, 1))
    rows = []
    for n, vector in enumerate(x.flatten(0, 1)):
        row = sum(w * layer.experts[int(e)](vector) for e, w in zip(choice.chosen_NC[n], choice.weight_NC[n]))
        rows.append(row + layer.shared(vector) if shared else row)
    expected = torch.stack(rows).view_as(x)
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=1e-4)
    weights = [x, layer.router.weight, layer.experts[int(choice.chosen_NC[0, 0])].up.weight]
    for a, b in zip(torch.autograd.grad(out.sum(), weights), torch.autograd.grad(expected.sum(), weights)):
        torch.testing.assert_close(a, b, atol=1e-2, rtol=1e-3)


def test_the_record_of_the_last_routing_holds_no_graph_outside_of_training():
    layer = mixture()
    x = torch.randn(2, 9, 12)
    layer(x)
    routing = layer.last_routing
    assert routing.choice.logits_NE.requires_grad
    assert routing.counts_E.sum() == 2 * 9 * 2
    assert copy.deepcopy(layer).last_routing.choice is None  # a graph cannot be copied
    logits = weakref.ref(routing.choice.logits_NE)
    del routing
    layer.eval()
    layer(x)
    gc.collect()
    assert logits() is None
    assert layer.last_routing.choice is None
    assert not layer.last_routing.counts_E.requires_grad
    layer.train()
    with torch.no_grad():
        layer(x)
    assert layer.last_routing.choice is None


def test_groups_bound_the_choice():
    layer = mixture(count=8, per_token=4, groups=4, groups_kept=2)
    chosen = layer.router(torch.randn(300, 12)).chosen_NC // 2
    assert all(len(set(row.tolist())) == 2 for row in chosen)
    assert len(set(chosen.flatten().tolist())) == 4


def test_beyond_capacity_a_token_is_left_out():
    chosen = torch.tensor([[[0, 1], [0, 2], [0, 1], [1, 0]]])
    assert within_capacity(chosen, 3, 2).tolist() == [[[True, True], [True, True], [False, True], [False, False]]]
    layer = mixture(per_token=1, normalize=False)
    x = torch.randn(3, 24, 12)
    layer.router_training = RouterTraining(capacity=0.5)
    out = layer(x)
    assert layer.last_routing.counts_E.max() <= 3 * 2  # int(0.5 * 24 / 6) of each sequence
    assert layer.last_routing.dropped == 72 - layer.last_routing.counts_E.sum() > 0
    left_out = (out == 0).all(-1)
    assert left_out.sum() == layer.last_routing.dropped
    torch.testing.assert_close(out[~left_out], layer.eval()(x)[~left_out])  # and the others as without a bound


def test_jitter_moves_the_choice_in_training_alone():
    layer = mixture()
    x = torch.randn(1, 400, 12)
    layer.router_training = RouterTraining(jitter=0.3)
    layer(x)
    first = layer.last_routing.choice.chosen_NC
    layer(x)
    assert not torch.equal(first, layer.last_routing.choice.chosen_NC)
    layer.eval()
    assert torch.equal(layer(x), layer(x))


# --- balance


def trained_counts(balance, steps=150):
    """Tokens of each expert after training on a stream of four kinds of token, from a router that sends all to expert 0."""
    torch.manual_seed(0)
    layer = mixture(count=4, per_token=1, normalize=False)
    kinds = torch.randn(4, 12)
    kinds[:, 0] = 4.0  # what they have in common, and what the router sees alone
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(0.2)
        layer.router.weight.zero_()
        layer.router.weight[0, 0] = 1.0
    layer.router_training = RouterTraining(balance=balance)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(steps):
        x = kinds[torch.randint(4, (2, 64))] + torch.randn(2, 64, 12) * 0.1
        loss = ((layer(x) - x.roll(3, dims=-1)) ** 2).mean() + auxiliary_loss(layer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layer.last_routing.counts_E


def test_the_loss_balances_and_without_it_a_collapsed_router_stays_collapsed():
    assert trained_counts(0.0).tolist() == [128, 0, 0, 0]
    assert trained_counts(0.3).min() > 16  # of 32 at perfect balance


def test_the_correction_balances_without_a_loss():
    layer = mixture(count=8, per_token=2, router="sigmoid", bias_correction=True)
    x = torch.randn(4, 64, 12) + 1.0  # a common part makes some experts everybody's
    layer(x)
    before = layer.last_routing.counts_E
    weights = layer.router(x[0]).scores_NE
    for _ in range(600):
        layer(x)
        update_correction(layer, layer.last_routing.counts_E, speed=0.005)
    after = layer.last_routing.counts_E
    assert before.max() > 2 * 64
    assert 64 * 0.8 < after.min() <= after.max() < 64 * 1.2
    assert torch.equal(layer.router(x[0]).scores_NE, weights)  # it enters the choice alone


def test_the_correction_stays_in_float32(tmp_path, tokenizer):
    data = parity.random_fields("deepseek_v3", 1) | {"vocab_size": 400}
    model = randomized(Transformer(read_config(data)), 1)
    exact = [layer.router.correction.clone() for layer in mixtures(model)]
    save(tmp_path / "m", model, tokenizer)
    read = load_model(tmp_path / "m", dtype=torch.bfloat16)
    for made in (read, model.to(torch.bfloat16)):
        layers = list(mixtures(made))
        assert len(layers) == len(exact) > 0
        for layer, correction in zip(layers, exact):
            assert layer.router.weight.dtype == torch.bfloat16
            assert layer.router.correction.dtype == torch.float32
            assert torch.equal(layer.router.correction, correction)


def test_the_router_stays_exact_in_mixed_precision():
    layer = mixture(count=8, per_token=2, shared=1)
    x = torch.randn(2, 10, 12, requires_grad=True)
    layer(x)
    exact = layer.last_routing.choice.logits_NE
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert torch.equal(layer.last_routing.choice.logits_NE, exact)
    out.sum().backward()
    assert x.grad.isfinite().all()


def test_losses_of_a_model_reach_every_router():
    model = model_of("deepseek_v2", 4).train()
    model(torch.randint(0, 300, (2, 12)))
    loss = auxiliary_loss(model)
    layers = list(mixtures(model))
    expected = 0.01 * load_balancing_loss([m.last_routing.choice for m in layers])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(m.router.weight.grad.abs().max() > 0 for m in layers)
    assert auxiliary_loss(model.eval()) is not None  # the record is of the last pass in training
    with torch.no_grad():
        model(torch.randint(0, 300, (2, 12)))
    assert auxiliary_loss(model) is None
    assert auxiliary_loss(Transformer(ModelConfig(layers=1))) is None


# --- config.json

MIXTRAL_8X7B = {
    "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "output_router_logits": False,
    "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 32000,
}  # fmt: skip
DEEPSEEK_V2_LITE = {
    "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "auto_map": {"AutoModelForCausalLM": "modeling_deepseek.DeepseekV2ForCausalLM"}, "aux_loss_alpha": 0.001,
    "bos_token_id": 100000, "eos_token_id": 100001, "first_k_dense_replace": 1, "hidden_act": "silu",
    "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 10944, "kv_lora_rank": 512,
    "max_position_embeddings": 163840, "model_type": "deepseek_v2", "moe_intermediate_size": 1408, "moe_layer_freq": 1,
    "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": False, "num_attention_heads": 16,
    "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16, "pretraining_tp": 1,
    "q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 4096, "type": "yarn",
    },
    "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": True,
    "tie_word_embeddings": False, "topk_group": 1, "topk_method": "greedy", "v_head_dim": 128, "vocab_size": 102400,
}  # fmt: skip
DEEPSEEK_V3 = DEEPSEEK_V2_LITE | {
    "model_type": "deepseek_v3", "ep_size": 1, "first_k_dense_replace": 3, "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_group": 8, "n_routed_experts": 256,
    "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536,
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_group": 4, "topk_method": "noaux_tc",
    "vocab_size": 129280,
}  # fmt: skip
PUBLISHED = [MIXTRAL_8X7B, DEEPSEEK_V2_LITE, DEEPSEEK_V3]


@pytest.mark.parametrize(
    ("data", "parameters"),
    [(MIXTRAL_8X7B, 46_702_792_704), (DEEPSEEK_V2_LITE, 15_706_484_224)],
    ids=["Mixtral 8x7B", "DeepSeek-V2-Lite"],
)
def test_published_models_have_their_published_sizes(data, parameters):
    with torch.device("meta"):
        assert Transformer(read_config(data)).parameter_count() == parameters


def test_deepseek_v3_as_published():
    config = read_config(DEEPSEEK_V3)
    assert config.experts == Experts(
        count=256, per_token=8, inner=2048, shared=1, router="sigmoid", normalize=True, scale=2.5, bias_correction=True,
        groups=8, groups_kept=4, dense_layers=3,
    )  # fmt: skip
    assert config.latent == Latent(kv_rank=512, q_rank=1536, rope_dim=64, value_dim=128)
    assert (config.head_dim, config.rope_interleaved, config.rope_scaling.mscale_all_dim) == (192, True, 0.707)
    assert read_config(write_config(config)) == config


INERT = {"router_aux_loss_coef": 0.5, "output_router_logits": True}


@pytest.mark.parametrize("data", PUBLISHED, ids=lambda data: data["model_type"])
def test_fields_of_training_do_nothing(data):
    assert read_config(data | INERT) == read_config(data)


@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        ("mixtral", {"num_local_experts": 0}, "num_local_experts"),
        ("mixtral", {"num_experts_per_tok": 9}, "per_token"),
        ("mixtral", {"unheard_router": 1}, "unheard_router"),
        ("mixtral", {"hidden_act": "relu"}, "hidden_act"),
        ("mixtral", {"sliding_window": -3}, "sliding_window"),
        ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step"),
        ("qwen3_moe", {"mlp_only_layers": [1]}, "mlp_only_layers"),
        ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob"),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method"),
        ("deepseek_v2", {"scoring_func": "sigmoid"}, "scoring_func"),
        ("deepseek_v2", {"moe_layer_freq": 2}, "moe_layer_freq"),
        ("deepseek_v2", {"num_key_value_heads": 1}, "num_key_value_heads"),
        ("deepseek_v3", {"topk_method": "greedy"}, "topk_method"),
        ("deepseek_v3", {"n_group": 3}, "groups"),
        ("deepseek_v3", {"topk_group": 9}, "groups_kept"),
        ("deepseek_v3", {"qk_rope_head_dim": 5}, "even"),
        ("deepseek_v3", {"kv_lora_rank": None}, "kv_lora_rank"),
        ("deepseek_v3", {"q_lora_rank": 0}, "q_lora_rank"),
        ("deepseek_v3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(family, change, named):
    with pytest.raises(UserError, match=named):
        read_config(parity.random_fields(family, 1) | change)


def test_queries_without_a_rank_are_said():
    data = parity.random_fields("deepseek_v2", 1)
    del data["q_lora_rank"]
    with pytest.raises(UserError, match="q_lora_rank"):
        read_config(data)


STRANGE = [-1, 0, 1, 10**9, 10**400, 0.5, float("nan"), float("inf"), -2.5, "x", True, None, [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("family", parity.NAMES)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_strange_values_are_refused_or_understood(family, data):
    """A UserError, or a configuration that is written and read again; never another exception."""
    fields = parity.random_fields(family, data.draw(st.integers(0, 9)))
    name = data.draw(st.sampled_from([f for f in fields if f != "model_type"]))
    fields[name] = data.draw(st.sampled_from(STRANGE))
    try:
        config = read_config(fields)
    except UserError:
        return
    assert config.family in FAMILIES
    assert read_config(json.loads(json.dumps(write_config(config)))) == config
