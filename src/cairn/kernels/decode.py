"""All layers of a decoder for a few tokens in one call: a small tensor operation costs more to start than to compute.

The pass is a row of phases; those that read matrices or the cache split into parts for several threads. Twin:
`Transformer.hidden` of models/transformer.py with a `CacheStep`, which models/fast.py stands in for.

Shapes: N tokens, D width, H query heads, G key/value heads, K size of a head, F inner width, L layers, P positions,
S places of the cache, W slots.
"""

from typing import NamedTuple

import numpy as np

from cairn.kernels.attention import attend_pages
from cairn.kernels.jit import inlined, kernel
from cairn.kernels.linear import BLOCK, multiply_rows
from cairn.kernels.rows import activate, helper, layer_norm_row, matrix_at, rms_norm_row, tensor_at, vector_at

# The modules of a block whose weights are read, by their paths in it; each has two slots, of its weight and its bias.
BLOCK_PARTS = (
    "norm_attention", "attention.q", "attention.k", "attention.v", "attention.norm_q", "attention.norm_k",
    "attention.out", "norm_attention_out", "norm_feed_forward", "feed_forward.gate", "feed_forward.up",
    "feed_forward.down", "norm_feed_forward_out",
)  # fmt: skip
(NORM_1, Q, K, V, NORM_Q, NORM_K, OUT, NORM_1_OUT, NORM_2, GATE, UP, DOWN, NORM_2_OUT) = range(0, 26, 2)
CACHE_K, CACHE_V = 26, 27
SLOTS = 28
# The modules outside of blocks; their slots are in the row after those of the blocks.
OUTER_PARTS = ("embed", "embed_position", "embed_norm", "norm")
EMBED, EMBED_POSITION, EMBED_NORM, FINAL_NORM = range(0, 8, 2)

# The phases of a block. Those marked can be split: what a part computes, no other part of the phase reads.
NORM, QKV, ROTATE, ATTEND, ATTEND_OUT, ADD_ATTENTION, INNER, DOWN_AGAIN, ADD_FEED_FORWARD = range(9)
SPLITS = (False, True, False, True, True, False, True, True, False)
PHASES = len(SPLITS)


class Shape(NamedTuple):
    """What a configuration fixes. `norm_offset` is 1 where a weight is stored as its distance from 1."""

    layers: int
    head_dim: int
    vocabulary: int
    positions: int  # rows of learned positions, 0 without
    position_offset: int
    embed_scale: float
    layer_norm: bool
    norm_eps: float
    norm_offset: float
    qk_norm_head: bool
    parallel: bool
    shared_norm: bool
    page: int
    scale: float
    sinks: int
    cap: float
    activation: int


class Work(NamedTuple):
    """Arrays kept from one step to the next, each of the most rows a step may have. X is heads * K."""

    x_ND: np.ndarray  # the residual stream
    normed_ND: np.ndarray  # what attention reads
    normed_2_ND: np.ndarray  # what the feed-forward layer reads
    y_ND: np.ndarray  # what attention adds
    y_2_ND: np.ndarray  # what the feed-forward layer adds
    q_NX: np.ndarray
    k_NX: np.ndarray
    v_NX: np.ndarray
    z_NX: np.ndarray
    q_NHK: np.ndarray  # the same memory as q_NX
    z_NHK: np.ndarray  # the same memory as z_NX
    inner_NF: np.ndarray
    gate_NF: np.ndarray  # 0 wide without a gate


class Tokens(NamedTuple):
    """The tokens of a step: their ids, their positions, their sequences' rows in the table of pages, their places in the
    cache, and tables by position. cos/sin: (rotary tables, P, half of what is rotated of a head)."""

    ids_N: np.ndarray
    position_N: np.ndarray
    row_N: np.ndarray
    place_N: np.ndarray
    table_RP: np.ndarray
    places: int
    cos_TPK: np.ndarray
    sin_TPK: np.ndarray
    bias_HP: np.ndarray


# --- layers


@helper
def norm_rows(shape, weight, bias, x_ND, out_ND):
    """The norm at two addresses over every row, which may be the same memory; a copy where a model has no such norm."""
    width = x_ND.shape[1]
    weight_D, bias_D = vector_at(weight, width), vector_at(bias, width)
    for n in range(x_ND.shape[0]):
        if weight == 0:
            for d in range(width):
                out_ND[n, d] = x_ND[n, d]
        elif shape.layer_norm:
            layer_norm_row(x_ND[n], weight_D, bias_D, shape.norm_eps, out_ND[n])
        else:
            rms_norm_row(x_ND[n], weight_D, shape.norm_eps, shape.norm_offset, out_ND[n])


@helper
def add_rows(x_ND, y_ND):
    for n in range(x_ND.shape[0]):
        for d in range(x_ND.shape[1]):
            x_ND[n, d] += y_ND[n, d]


@inlined
def borders(size, part, parts):
    """Where a part of `size` outputs begins and ends: at whole blocks, so that parts change no sum."""
    first, last = size * part // parts // BLOCK * BLOCK, size * (part + 1) // parts // BLOCK * BLOCK
    return first, size if part + 1 == parts else last


@helper
def linear(weight, bias, x_NI, out_NO, part, parts):
    """Outputs of one part of the matrix at an address."""
    size = out_NO.shape[1]
    first, last = borders(size, part, parts)
    weight_OI, bias_O = matrix_at(weight, size, x_NI.shape[1]), vector_at(bias, size)
    multiply_rows(x_NI, weight_OI, bias_O, out_NO, first, last)


@helper
def norm_heads(shape, weight, x_NX):
    """The norm of queries or keys: of every head, or of all of a token's heads together."""
    size = shape.head_dim if shape.qk_norm_head else x_NX.shape[1]
    weight_X = vector_at(weight, size)
    if weight == 0:
        return
    for n in range(x_NX.shape[0]):
        for begin in range(0, x_NX.shape[1], size):
            row = x_NX[n, begin : begin + size]
            rms_norm_row(row, weight_X, shape.norm_eps, shape.norm_offset, row)


@helper
def rotate(shape, tokens, table, x_NX):
    """Turn the pairs (i, i + half) of every head in place. Twin: models/positions.py, rotate."""
    half = tokens.cos_TPK.shape[2]
    for n in range(x_NX.shape[0]):
        position = tokens.position_N[n]
        for begin in range(0, x_NX.shape[1] if half > 0 else 0, shape.head_dim):
            for i in range(half):
                cos, sin = tokens.cos_TPK[table, position, i], tokens.sin_TPK[table, position, i]
                first, second = x_NX[n, begin + i], x_NX[n, begin + half + i]
                x_NX[n, begin + i] = first * cos - second * sin
                x_NX[n, begin + half + i] = second * cos + first * sin


@helper
def store(tokens, x_NX, cache):
    """Keys or values into the cache at an address."""
    cache_SX = matrix_at(cache, tokens.places, x_NX.shape[1])
    for n in range(x_NX.shape[0]):
        for i in range(x_NX.shape[1]):
            cache_SX[tokens.place_N[n], i] = x_NX[n, i]


@helper
def activate_columns(kind, gate_NF, inner_NF, first, last):
    """inner = activation(gate) * inner, or activation(inner) without a gate."""
    for n in range(inner_NF.shape[0]):
        if gate_NF.shape[1] > 0:
            for f in range(first, last):
                inner_NF[n, f] *= activate(kind, gate_NF[n, f])
        else:
            for f in range(first, last):
                inner_NF[n, f] = activate(kind, inner_NF[n, f])


@helper
def embed_tokens(shape, slots_W, tokens, x_ND):
    """The residual stream before the first block. False where an id, position or place is outside what there is: no later
    phase looks, and none may run then."""
    width = x_ND.shape[1]
    embed_VD = matrix_at(slots_W[EMBED], shape.vocabulary, width)
    position_PD = matrix_at(slots_W[EMBED_POSITION], shape.positions, width)
    for n in range(x_ND.shape[0]):
        token, position = tokens.ids_N[n], tokens.position_N[n] + shape.position_offset
        if not (0 <= token < shape.vocabulary and 0 <= tokens.place_N[n] < tokens.places):
            return False
        for d in range(width):
            x_ND[n, d] = embed_VD[token, d] * np.float32(shape.embed_scale)
        if shape.positions > 0:
            if not 0 <= position < shape.positions:
                return False
            for d in range(width):
                x_ND[n, d] += position_PD[position, d]
    norm_rows(shape, slots_W[EMBED_NORM], slots_W[EMBED_NORM + 1], x_ND, x_ND)
    return True


# --- a block, phase by phase


@inlined
def run_phase(phase, shape, slots_W, window, table, work, tokens, part, parts):
    """One part of a phase of the block whose weights are in slots_W. `table`: which rotary table it turns by."""
    N = tokens.ids_N.shape[0]
    x_ND, normed_ND, normed_2_ND = work.x_ND[:N], work.normed_ND[:N], work.normed_2_ND[:N]
    y_ND, y_2_ND, inner_NF, gate_NF = work.y_ND[:N], work.y_2_ND[:N], work.inner_NF[:N], work.gate_NF[:N]
    q_NX, k_NX, v_NX, z_NX = work.q_NX[:N], work.k_NX[:N], work.v_NX[:N], work.z_NX[:N]
    if phase == NORM:
        norm_rows(shape, slots_W[NORM_1], slots_W[NORM_1 + 1], x_ND, normed_ND)
        if shape.parallel:
            second = NORM_1 if shape.shared_norm else NORM_2
            norm_rows(shape, slots_W[second], slots_W[second + 1], x_ND, normed_2_ND)
    elif phase == QKV:
        linear(slots_W[Q], slots_W[Q + 1], normed_ND, q_NX, part, parts)
        linear(slots_W[K], slots_W[K + 1], normed_ND, k_NX, part, parts)
        linear(slots_W[V], slots_W[V + 1], normed_ND, v_NX, part, parts)
    elif phase == ROTATE:
        norm_heads(shape, slots_W[NORM_Q], q_NX)
        norm_heads(shape, slots_W[NORM_K], k_NX)
        rotate(shape, tokens, table, q_NX)
        rotate(shape, tokens, table, k_NX)
        store(tokens, k_NX, slots_W[CACHE_K])
        store(tokens, v_NX, slots_W[CACHE_V])
    elif phase == ATTEND:
        groups = k_NX.shape[1] // shape.head_dim
        k_SGK = tensor_at(slots_W[CACHE_K], tokens.places, groups, shape.head_dim)
        v_SGK = tensor_at(slots_W[CACHE_V], tokens.places, groups, shape.head_dim)
        attend_pages(
            work.q_NHK, k_SGK, v_SGK, tokens.row_N, tokens.position_N, tokens.table_RP, shape.page, shape.scale,
            window, shape.sinks, shape.cap, tokens.bias_HP, work.z_NHK,
            N * groups * part // parts, N * groups * (part + 1) // parts,
        )  # fmt: skip
    elif phase == ATTEND_OUT:
        linear(slots_W[OUT], slots_W[OUT + 1], z_NX, y_ND, part, parts)
    elif phase == ADD_ATTENTION:
        norm_rows(shape, slots_W[NORM_1_OUT], slots_W[NORM_1_OUT + 1], y_ND, y_ND)
        add_rows(x_ND, y_ND)
        if not shape.parallel:
            norm_rows(shape, slots_W[NORM_2], slots_W[NORM_2 + 1], x_ND, normed_2_ND)
    elif phase == INNER:
        first, last = borders(inner_NF.shape[1], part, parts)
        linear(slots_W[UP], slots_W[UP + 1], normed_2_ND, inner_NF, part, parts)
        if gate_NF.shape[1] > 0:
            linear(slots_W[GATE], slots_W[GATE + 1], normed_2_ND, gate_NF, part, parts)
        activate_columns(shape.activation, gate_NF, inner_NF, first, last)
    elif phase == DOWN_AGAIN:
        linear(slots_W[DOWN], slots_W[DOWN + 1], inner_NF, y_2_ND, part, parts)
    else:
        norm_rows(shape, slots_W[NORM_2_OUT], slots_W[NORM_2_OUT + 1], y_2_ND, y_2_ND)
        add_rows(x_ND, y_2_ND)


@kernel(fastmath=True)
def run_phases(begin, end, shape, slots_LW, window_L, table_L, work, tokens, hidden_ND, part, parts):
    """Phases begin .. end of a pass: 0 embeds, then PHASES of every block, and the last is the final norm, which fills
    hidden_ND. Each is computed for one part of what it splits into. False where the tokens cannot be embedded."""
    x_ND, outer_W = work.x_ND[: hidden_ND.shape[0]], slots_LW[shape.layers]
    for number in range(begin, end):
        layer, phase = (number - 1) // PHASES, (number - 1) % PHASES
        if number == 0:
            if not embed_tokens(shape, outer_W, tokens, x_ND):
                return False
        elif layer == shape.layers:
            norm_rows(shape, outer_W[FINAL_NORM], outer_W[FINAL_NORM + 1], x_ND, hidden_ND)
        else:
            run_phase(phase, shape, slots_LW[layer], window_L[layer], table_L[layer], work, tokens, part, parts)
    return True
