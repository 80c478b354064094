"""The chunked loss against torch's cross-entropy over whole logits."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.models import Transformer, preset
from cairn.training import CausalLM, losses, make_batch
from cairn.training.losses import IGNORED, linear_cross_entropy


def plain(hidden, weight, bias, targets, cap, smoothing):
    logits = F.linear(hidden, weight, bias)
    logits = cap * torch.tanh(logits / cap) if cap else logits
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)


def gradients(loss, tensors):
    found = torch.autograd.grad(loss / 7, [t for t in tensors if t is not None])
    return loss.detach(), found


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(1, 60),
    st.integers(2, 300),
    st.integers(1, 24),
    st.booleans(),
    st.sampled_from([0.0, 5.0]),
    st.sampled_from([0.0, 0.1]),
    st.floats(0, 1),
    st.integers(0, 10**6),
)
def test_equals_cross_entropy_of_whole_logits(dtype, tokens, vocabulary, width, biased, cap, smoothing, kept, seed):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    tensors = random(tokens, width), random(vocabulary, width), random(vocabulary) if biased else None
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) > kept] = IGNORED
    ours = gradients(linear_cross_entropy(*tensors, targets, cap, smoothing), tensors)
    theirs = gradients(plain(*tensors, targets, cap, smoothing), tensors)
    tolerance = {"rtol": 2e-6, "atol": 2e-5} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_chunks_are_one(monkeypatch, dtype):
    """At GPT-2's vocabulary and with chunks of 16 rows."""
    monkeypatch.setattr(losses, "CHUNK_BYTES", {"cpu": 1})
    monkeypatch.setattr(losses, "CHUNK_ROWS", 16)
    torch.manual_seed(0)
    tensors = (
        torch.randn(70, 12, dtype=dtype, requires_grad=True),
        torch.randn(50257, 12, dtype=dtype, requires_grad=True),
        None,
    )
    targets = torch.randint(0, 50257, (70,))
    ours = gradients(linear_cross_entropy(*tensors, targets), tensors)
    theirs = gradients(plain(*tensors, targets, 0, 0), tensors)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=0)
    for a, b in zip(ours[1], theirs[1]):
        assert (a - b).norm() < (3e-6 if dtype == torch.float32 else 1e-13) * b.norm()


def test_bfloat16_keeps_to_its_precision():
    torch.manual_seed(0)
    tensors = torch.randn(64, 32, requires_grad=True), torch.randn(500, 32, requires_grad=True), None
    targets = torch.randint(0, 500, (64,))
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(linear_cross_entropy(*tensors, targets), tensors)
    theirs = gradients(plain(*tensors, targets, 0, 0), tensors)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-2, atol=0)
    for a, b in zip(ours[1], theirs[1]):
        assert (a - b).norm() < 0.02 * b.norm()


def test_a_logit_that_is_not_finite_gives_a_loss_that_is_not():
    for value in (float("nan"), float("inf")):
        hidden = torch.ones(3, 4)
        hidden[1, 2] = value
        assert not torch.isfinite(linear_cross_entropy(hidden, torch.randn(9, 4), None, torch.tensor([1, 2, 3])))


def test_the_gradients_are_given_once():
    loss = linear_cross_entropy(torch.ones(2, 3, requires_grad=True), torch.ones(4, 3), None, torch.tensor([0, 1]))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compute the loss again"):
        loss.backward()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_model_learns_by_it_as_by_the_plain_loss(smoothing):
    """The whole way: objective, tied embedding, the rows that carry no loss."""
    model = Transformer(preset("pebble")).initialize(3)
    torch.manual_seed(0)
    ids = torch.randint(0, 512, (3, 20)).tolist()
    batch = make_batch(ids, [[i % 3 > 0 for i in range(20)]] * 3, torch.device("cpu"))
    ours = torch.autograd.grad(CausalLM(smoothing).loss(model, batch)[0], list(model.parameters()))
    logits = model(batch.inputs_BT).flatten(0, 1)
    loss = F.cross_entropy(logits, batch.targets_BT.flatten(), reduction="sum", label_smoothing=smoothing)
    theirs = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
