"""The NumPy networks against torch: the checks of `cairn parity` with more seeds, and that they can fail."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cairn.foundations import network
from cairn.foundations.network import schedules
from cairn.foundations.tensor import Tensor
from cairn.parity import foundations_network as parity


@pytest.mark.parametrize("check", parity.CHECKS, ids=lambda check: check.part)
def test_check(check):
    assert max(check.run(seed) for seed in range(8)) <= check.tolerance


def test_dimensions_differ():
    for seed in range(20):
        sizes = parity.distinct(np.random.default_rng(seed), 4)
        assert len(set(sizes)) == 4


def test_wrong_settings_and_formulas_are_seen():
    """Each of these is one step away from its oracle."""
    wrong = [
        parity.layer(lambda rng, s: (network.GELU(True), nn.GELU()), 3),
        parity.layer(lambda rng, s: (network.LayerNorm(s[-1], eps=1e-4), nn.LayerNorm(s[-1])), 3),
        parity.layer(lambda rng, s: (network.BatchNorm(s[1], momentum=0.2), nn.BatchNorm1d(s[1])), 2, uses=3),
        parity.loss(parity._two, network.huber, lambda x, y: F.huber_loss(x, y, delta=1.1), 3),
        parity.loss(parity._scores_and_bits, lambda z, y: network.focal(z, y, gamma=2.1), parity._torch_focal, 3),
        parity.trajectory(network.Adam, torch.optim.Adam, {"eps": 1e-7}, {}),
        parity.trajectory(network.AdamW, torch.optim.Adam, {"weight_decay": 0.1}, {"weight_decay": 0.1}),
        parity.trajectory(
            network.SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "lr": 0.01}
        ),
        parity.schedule(
            lambda rng: (schedules.cosine(20), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 21), 20)
        ),
    ]
    for run in wrong:
        assert run(0) > 1e-8


def test_a_lost_gradient_is_infinitely_wrong():
    assert parity._gap(None, torch.zeros(2)) == float("inf")
    assert parity._gap(np.zeros((2, 1)), torch.zeros(2)) == float("inf")


def test_cross_entropy_over_time_is_torch_s():
    """Classes are last here and second in torch."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(3, 5, 7)), rng.integers(0, 7, size=(3, 5))
    wanted = F.cross_entropy(torch.tensor(z).transpose(1, 2), torch.tensor(y), label_smoothing=0.2)
    assert network.cross_entropy(Tensor(z), y, label_smoothing=0.2).item() == pytest.approx(wanted.item(), abs=1e-12)
