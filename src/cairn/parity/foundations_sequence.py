"""Attention by hand, recurrent layers and the GPT in NumPy against torch and `transformers`: values and every gradient, float64.

The oracle gets the same weights and inputs; all sizes differ from one another, so that no two axes can be taken for each other.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cairn.foundations import attention
from cairn.foundations.gpt import GPT, GPTConfig
from cairn.foundations.network import cross_entropy
from cairn.foundations.recurrent import CELLS, Recurrent
from cairn.foundations.tensor import Tensor, stack
from cairn.parity import Check

TOLERANCE = 1e-10


def largest_error(pairs: Iterable[tuple[Any, Any]]) -> float:
    """Largest absolute difference of arrays and tensors, pair by pair; shapes must agree."""
    error = 0.0
    for ours, theirs in pairs:
        theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
        assert ours.shape == theirs.shape, f"ours {ours.shape}, theirs {theirs.shape}"
        difference = np.abs(ours - theirs).max() if ours.size else 0.0
        error = max(error, float(difference)) if np.isfinite(difference) else np.inf
    return error


def leaves(arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """Tensors of the oracle that gather gradients."""
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def sizes(rng: np.random.Generator, count: int) -> list[int]:
    """`count` different sizes."""
    return [int(size) for size in rng.choice(np.arange(2, 10), count, replace=False)]


# --- attention, by hand


def masked_attention(seed: int, kind: str = "none") -> float:
    """`attend` and `attend_backward` against SDPA, without a mask, causal, or with texts of different lengths."""
    rng = np.random.default_rng(seed)
    B, H, T, S, K, V = sizes(rng, 6)
    S = T if kind == "causal" else S
    q, k, v = (rng.normal(size=(B, H, *shape)) * 2 for shape in ((T, K), (S, K), (S, V)))
    grad = rng.normal(size=(B, H, T, V))
    mask = None
    if kind == "causal":
        mask = attention.causal_mask(T, S)
    elif kind == "padded":
        mask = attention.padding_mask(rng.integers(1, S + 1, B), S)
    output, weights = attention.attend(q, k, v, mask)
    grads = attention.attend_backward(grad, q, k, v, weights)
    their_q, their_k, their_v = theirs = leaves((q, k, v))
    wanted = F.scaled_dot_product_attention(
        their_q, their_k, their_v, attn_mask=None if mask is None else torch.tensor(mask)
    )
    wanted.backward(torch.tensor(grad))
    return largest_error([(output, wanted), *zip(grads, (leaf.grad for leaf in theirs))])


def causal_attention(seed: int) -> float:
    return masked_attention(seed, "causal")


def padded_attention(seed: int) -> float:
    return masked_attention(seed, "padded")


def online_attention(seed: int, causal: bool = False) -> float:
    """Blocks of keys, forward and backward, against SDPA."""
    rng = np.random.default_rng(seed)
    B, H, T, S, K, V, block = sizes(rng, 7)
    S = T if causal else S
    q, k, v = (rng.normal(size=(B, H, *shape)) * 2 for shape in ((T, K), (S, K), (S, V)))
    grad = rng.normal(size=(B, H, T, V))
    output, log_sum = attention.flash_attend(q, k, v, block, causal)
    grads = attention.flash_attend_backward(grad, q, k, v, output, log_sum, block, causal)
    their_q, their_k, their_v = theirs = leaves((q, k, v))
    wanted = F.scaled_dot_product_attention(their_q, their_k, their_v, is_causal=causal)
    wanted.backward(torch.tensor(grad))
    return largest_error([(output, wanted), *zip(grads, (leaf.grad for leaf in theirs))])


def online_causal_attention(seed: int) -> float:
    return online_attention(seed, causal=True)


def multi_head(seed: int, cross: bool = False) -> float:
    """All weights' and inputs' gradients of `MultiHeadAttention` against torch's; cross: it reads another text."""
    rng = np.random.default_rng(seed)
    B, T, S, H, K = sizes(rng, 5)
    D = H * K
    ours = attention.MultiHeadAttention.random(D, H, rng)
    for part in "qkvo":
        ours.weights[f"b{part}"] = rng.normal(size=D)
    x, memory, grad = (rng.normal(size=(B, length, D)) for length in (T, S, T))
    mask = None if cross else attention.causal_mask(T, T)
    output, trace = ours.forward(x, memory if cross else None, mask)
    grads, grad_x, grad_memory = ours.backward(grad, trace)

    oracle = torch.nn.MultiheadAttention(D, H, batch_first=True, dtype=torch.float64)
    weights = {name: torch.tensor(array) for name, array in ours.weights.items()}
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([weights[f"w{part}"] for part in "qkv"]))
        oracle.in_proj_bias.copy_(torch.cat([weights[f"b{part}"] for part in "qkv"]))
        oracle.out_proj.weight.copy_(weights["wo"])
        oracle.out_proj.bias.copy_(weights["bo"])
    their_x, their_memory = leaves((x, memory))
    source = their_memory if cross else their_x
    hidden = None if mask is None else torch.tensor(~mask)  # theirs is True where one may not look
    wanted, shares = oracle(their_x, source, source, attn_mask=hidden, average_attn_weights=False)
    wanted.backward(torch.tensor(grad))
    inputs = (
        [(grad_x, their_x.grad), (grad_memory, their_memory.grad)] if cross else [(grad_x + grad_memory, their_x.grad)]
    )
    in_weight, in_bias = oracle.in_proj_weight.grad, oracle.in_proj_bias.grad
    assert in_weight is not None
    assert in_bias is not None
    return largest_error(
        [
            (output, wanted),
            (trace.weights_BHTS, shares),
            (np.concatenate([grads[f"w{part}"] for part in "qkv"]), in_weight),
            (np.concatenate([grads[f"b{part}"] for part in "qkv"]), in_bias),
            (grads["wo"], oracle.out_proj.weight.grad),
            (grads["bo"], oracle.out_proj.bias.grad),
            *inputs,
        ]
    )


def cross_attention(seed: int) -> float:
    return multi_head(seed, cross=True)


# --- recurrent layers


def recurrent(seed: int, kind: str = "lstm", padded: bool = False) -> float:
    """Outputs, last states and every gradient of a stack against torch's; padded: texts of different lengths."""
    rng = np.random.default_rng(seed)
    B, T, D, H = sizes(rng, 4)
    layers = int(rng.integers(1, 4))
    ours = Recurrent(kind, D, H, rng, layers)
    parts = CELLS[kind].states
    x, grad = rng.normal(size=(B, T, D)), rng.normal(size=(B, T, H))
    begin, grad_end = (rng.normal(size=(parts, layers, B, H)) for _ in range(2))
    length = rng.integers(1, T + 1, B) if padded else np.full(B, T)

    our_x, our_begin = Tensor(x, requires_grad=True), Tensor(begin, requires_grad=True)
    states = [tuple(our_begin[part, layer] for part in range(parts)) for layer in range(layers)]
    output, ends = ours.run(our_x, states, length if padded else None)
    end = stack([stack([state[part] for state in ends]) for part in range(parts)])
    ((output * grad).sum() + (end * grad_end).sum()).backward()

    settings: dict[str, Any] = {"num_layers": layers, "batch_first": True, "dtype": torch.float64}
    if kind in ("tanh", "relu"):
        oracle: torch.nn.RNNBase = torch.nn.RNN(D, H, nonlinearity=kind, **settings)
    else:
        oracle = (torch.nn.LSTM if kind == "lstm" else torch.nn.GRU)(D, H, **settings)
    weights = ((*name.split("."), weight) for name, weight in ours.parameters().items())
    names = {f"{name}_l{number}": weight for number, name, weight in weights}
    oracle.load_state_dict({name: torch.tensor(weight.data) for name, weight in names.items()})
    their_x, their_begin = leaves((x, begin))
    packed = pack_padded_sequence(their_x, torch.tensor(length), batch_first=True, enforce_sorted=False)
    packed_output, their_end = oracle(packed, tuple(their_begin) if parts == 2 else their_begin[0])
    wanted, _ = pad_packed_sequence(packed_output, batch_first=True, total_length=T)
    wanted_end = torch.stack(their_end) if parts == 2 else their_end[None]
    ((wanted * torch.tensor(grad)).sum() + (wanted_end * torch.tensor(grad_end)).sum()).backward()
    return largest_error(
        [
            (output.data, wanted),
            (end.data, wanted_end),
            (our_x.grad, their_x.grad),
            (our_begin.grad, their_begin.grad),
            *((names[name].grad, weight.grad) for name, weight in oracle.named_parameters()),
        ]
    )


def recurrent_check(kind: str, padded: bool) -> Callable[[int], float]:
    return lambda seed: recurrent(seed, kind, padded)


# --- the GPT


def gpt2(seed: int) -> float:
    """Logits, loss and every gradient against `transformers` with the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    rng = np.random.default_rng(seed)
    B, T, H, K, L = sizes(rng, 5)
    V, context = 11 + int(rng.integers(9)), T + 3
    ours = GPT(GPTConfig(V, context, H * K, L, H, dtype="float64"))
    for weight in ours.weights.values():  # biases and norms too, so that each of them counts
        weight.data += rng.normal(0, 0.2, weight.shape)
    ids, wanted = rng.integers(V, size=(2, B, T))
    logits = ours(ids)
    loss = cross_entropy(logits, wanted)
    loss.backward()

    settings = {"vocab_size": V, "n_positions": context, "n_embd": H * K, "n_layer": L, "n_head": H}
    dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    special: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0}
    oracle = GPT2LMHeadModel(GPT2Config(**settings, **dropouts, **special)).double()
    weights = {f"transformer.{name}": torch.tensor(weight.data) for name, weight in ours.weights.items()}
    oracle.load_state_dict({**weights, "lm_head.weight": weights["transformer.wte.weight"]})
    their_logits = oracle(torch.tensor(ids)).logits
    their_loss = F.cross_entropy(their_logits.flatten(0, 1), torch.tensor(wanted).flatten())
    their_loss.backward()
    theirs = dict(oracle.named_parameters())
    gradients = [(weight.grad, theirs[f"transformer.{name}"].grad) for name, weight in ours.weights.items()]
    return largest_error([(logits.data, their_logits), (loss.data, their_loss), *gradients])


_PARTS: list[tuple[str, str, Any]] = [
    ("attention by hand: value and gradients", "torch", masked_attention),
    ("attention by hand, causal: value and gradients", "torch", causal_attention),
    ("attention by hand, padded: value and gradients", "torch", padded_attention),
    ("attention in blocks (online softmax): value and gradients", "torch", online_attention),
    ("attention in blocks, causal: value and gradients", "torch", online_causal_attention),
    ("multi-head attention by hand: value and gradients", "torch", multi_head),
    ("multi-head attention to another text: value and gradients", "torch", cross_attention),
    *(
        (f"{kind} layers{', padded' * padded}: value and gradients", "torch", recurrent_check(kind, padded))
        for kind in CELLS
        for padded in (False, True)
    ),
    ("GPT-2 in NumPy: logits, loss and all gradients", "transformers", gpt2),
]
CHECKS = [Check(part, oracle, TOLERANCE, run) for part, oracle, run in _PARTS]
