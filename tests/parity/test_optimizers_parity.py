"""Optimizers, schedules and averages against torch, `transformers` and bitsandbytes: the checks of `cairn parity` with more
seeds, and what their tolerances leave open."""

import pytest
import torch
from torch import nn

from cairn.parity import optimizers as parity
from cairn.training.averaging import Average
from cairn.training.initial import initialize
from cairn.training.optimizers import AdamW8bit
from cairn.training.optimizers.eightbit import dequantize, dynamic_map, quantize


@pytest.mark.parametrize("check", parity.CHECKS, ids=lambda check: f"{check.part} ({check.oracle})")
def test_check(check):
    pytest.importorskip(check.oracle)
    assert max(check.run(seed) for seed in range(5)) <= check.tolerance


def test_a_wrong_setting_is_seen():
    """The checks can fail: each of these is one setting away from its oracle."""
    for ours, theirs in (
        (parity.built(optimizer="adamw", beta2=0.96), parity.grouped(torch.optim.AdamW, betas=(0.9, 0.95))),
        (parity.built(optimizer="adamw", weight_decay=0.2), parity.grouped(torch.optim.AdamW, betas=(0.9, 0.95))),
        (parity.built(optimizer="sgd"), parity.grouped(torch.optim.SGD, momentum=0.9, nesterov=False)),
    ):
        assert parity.exact(ours, theirs)(0) > 1e-4


def test_eight_bits_stay_closer_to_adamw_than_the_oracle():
    """bitsandbytes rounds small second moments to 0, and its codes on a CPU are not always the nearest."""
    pytest.importorskip("bitsandbytes")
    kind = {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.1}

    def distance(make):
        return parity.near(make, lambda w: torch.optim.AdamW(w, **kind), [(64, 256), (16, 256)], 20)(0)

    ours, theirs = distance(lambda w: AdamW8bit(w, **kind)), distance(parity.bitsandbytes_adamw)
    assert ours < 0.05
    assert ours < theirs


@pytest.mark.parametrize("signed", [True, False])
def test_blocks_of_eight_bits(signed):
    functional = pytest.importorskip("bitsandbytes.functional")
    torch.manual_seed(0)
    x_NB = torch.randn(16, 256) if signed else torch.randn(16, 256).square()
    code, theirs = functional.quantize_blockwise(x_NB.flatten(), code=dynamic_map(signed), blocksize=256)
    ours, scale_N = quantize(x_NB, signed)
    assert torch.equal(scale_N, theirs.absmax)
    assert (ours.flatten() == code).float().mean() > 0.95
    values = functional.dequantize_blockwise(ours.flatten(), theirs).view_as(x_NB)
    assert torch.equal(values, dequantize(ours, scale_N, signed))


def test_the_average_of_a_constant_decay_is_torch_s():
    """Below 0.1 the warm-up of the decay never holds."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = nn.Linear(6, 4)
    ours, theirs = Average(model, 0.1), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.1))
    theirs.update_parameters(model)
    for _ in range(20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update()
        theirs.update_parameters(model)
    for name, parameter in theirs.module.named_parameters():
        torch.testing.assert_close(ours.tensors()[name], parameter.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [
        ("gpt2", lambda w: nn.init.normal_(w, std=0.02)),
        ("xavier", nn.init.xavier_uniform_),
        ("he", lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
    ],
)
def test_fresh_weights_have_the_spread_of_torch_s(kind, oracle):
    from cairn.models import ModelConfig, Transformer

    model = initialize(Transformer(ModelConfig(vocab_size=64, dim=256, layers=2, ffn_dim=1024)), kind, 7)
    ours = model.blocks[1].feed_forward.gate.weight.detach()
    theirs = oracle(torch.empty(ours.shape))
    for share in (0.01, 0.25, 0.75, 0.99):
        assert float(ours.flatten().quantile(share)) == pytest.approx(float(theirs.flatten().quantile(share)), rel=0.03)
    assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=0.2)
