"""The engine on numbers and gradient descent against torch: the checks of `cairn parity` with more seeds, graphs that
hypothesis looks for, and that the checks can fail."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.foundations.descent import LANDSCAPES, walk
from cairn.foundations.scalar.value import Value
from cairn.parity import foundations_scalar as parity

SEEDS = {"descent": 2, "scalar M": 3}  # the others are quick


@pytest.mark.parametrize("check", parity.CHECKS, ids=lambda check: check.part)
def test_check(check):
    seeds = next((n for start, n in SEEDS.items() if check.part.startswith(start)), 5)
    for seed in range(seeds):
        assert check.run(seed) <= check.tolerance  # never true of NaN


NUMBER = st.floats(-3, 3, allow_subnormal=False)


@settings(max_examples=60, deadline=None)
@given(
    choices=st.lists(
        st.tuples(st.sampled_from(list(parity.GROWTH)), st.integers(0, 99), st.integers(0, 99)), max_size=30
    ),
    numbers=st.lists(NUMBER, min_size=1, max_size=4),
)
def test_any_graph(choices, numbers):
    assert parity.difference(parity.grown(choices), numbers) <= 1e-10


@settings(max_examples=40, deadline=None)
@given(uses=st.integers(1, 300), number=st.floats(0.9, 1.1))
def test_a_value_that_is_used_again_and_again(uses, number):
    """Each use reads what the one before made, so the paths to the number double."""

    def expression(numbers):
        total = numbers[0]
        for i in range(uses):
            total = (total + total * numbers[0]).tanh() if i % 3 else total - numbers[0] * 0.5
        return total

    assert parity.difference(expression, [number]) <= 1e-10


def test_two_results_that_share_nodes_add_up_in_the_leaves():
    """As torch: the second backward adds to the leaves, and passes on nothing of the first."""

    def gradient(x):
        shared = (x * x).tanh()
        first, second = shared * 2.0, shared * x
        first.backward(**({"retain_graph": True} if isinstance(x, torch.Tensor) else {}))
        second.backward()
        return x.grad

    wanted = gradient(torch.tensor(0.7, dtype=torch.float64, requires_grad=True))
    assert gradient(Value(0.7)) == pytest.approx(wanted.item(), abs=1e-12)


@pytest.mark.parametrize("number", [-2.0, -0.5, 0.0, 1.5])
@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, -1])
def test_powers_at_the_edges(number, exponent):
    """At 0, and of negative numbers; where torch has NaN or infinity as value, ours is an error."""
    theirs = torch.tensor(number, dtype=torch.float64, requires_grad=True)
    wanted = theirs**exponent
    wanted.backward()
    ours = Value(number)
    if not torch.isfinite(wanted):
        with pytest.raises(ValueError, match="to the power"):
            ours**exponent
        return
    out = ours**exponent
    out.backward()
    assert out.data == pytest.approx(wanted.item(), abs=1e-12)
    assert ours.grad == pytest.approx(theirs.grad.item(), abs=1e-12)


def test_a_wrong_rule_is_seen(monkeypatch):
    """The checks can fail: a derivative that is off, a setting that is not torch's."""
    monkeypatch.setattr(Value, "tanh", lambda self: Value(torch.tensor(self.data).tanh(), "tanh", self, 0.5))
    assert next(c for c in parity.CHECKS if "tanh: value" in c.part).run(0) > 1e-3
    for method, make in (
        ("momentum", lambda w, lr: torch.optim.SGD(w, lr=lr, momentum=0.9, nesterov=True)),
        ("RMSProp", lambda w, lr: torch.optim.RMSprop(w, lr=lr, alpha=0.9)),
        ("Adam", lambda w, lr: torch.optim.Adam(w, lr=lr, betas=(0.9, 0.99))),
    ):
        path = walk(LANDSCAPES["bowl"], method, 0.01, 50)
        assert abs(path - parity.torch_path(LANDSCAPES["bowl"], make, 0.01, 50)).max() > 1e-3


@pytest.mark.parametrize("land", LANDSCAPES.values(), ids=lambda land: land.name)
def test_derivatives_of_landscapes(land):
    """Gradient and Hessian at random points against torch's derivatives of the value."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        w = torch.rand(2, generator=generator, dtype=torch.float64) * 4 - 2
        gradient = torch.autograd.functional.jacobian(land.value, w).numpy()
        hessian = torch.autograd.functional.hessian(land.value, w).numpy()
        assert land.gradient(w.numpy()) == pytest.approx(gradient, abs=1e-10, rel=1e-10)
        assert land.hessian(w.numpy()) == pytest.approx(hessian, abs=1e-10, rel=1e-10)
