"""Attention by hand, recurrent layers and the GPT in NumPy against torch and `transformers`, with more seeds."""

import pytest

from cairn.parity import foundations_sequence as parity


@pytest.mark.parametrize("check", parity.CHECKS, ids=lambda check: f"{check.part} ({check.oracle})")
def test_check(check):
    pytest.importorskip(check.oracle)
    assert max(check.run(seed) for seed in range(5)) <= check.tolerance


def test_a_wrong_gradient_is_seen(monkeypatch):
    """The checks can fail: a softmax backward without its average is far away."""
    monkeypatch.setattr("cairn.foundations.attention.scaled_dot_product.softmax_backward", lambda grad_p, p: grad_p * p)
    assert parity.masked_attention(0) > 1e-3
    assert parity.multi_head(0) > 1e-3


def test_a_wrong_gate_and_a_wrong_bend_are_seen(monkeypatch):
    """One of the gates in another place, or the exact GELU where GPT-2 has the approximate one."""
    from cairn.foundations.recurrent import cells
    from cairn.foundations.tensor import gelu

    right = cells._gates
    monkeypatch.setattr(cells, "_gates", lambda x_BG, count: right(x_BG, count)[::-1])
    assert parity.recurrent(0, "gru") > 1e-3
    assert parity.recurrent(0, "lstm") > 1e-3
    monkeypatch.setattr("cairn.foundations.tensor.gelu", lambda x, approximate: gelu(x))
    assert parity.gpt2(0) > 1e-6
