"""Training of word vectors, a chunk of text a call: word2vec and fastText differ only in what a word's bag of rows holds.

Twin: `cairn.embeddings.plain`, which says what is computed, and what `bags` and `targets` hold. Threads may train the same
matrices at once without locks (Hogwild, Niu et al. 2011): a lost update now and then is noise beside the gradient's own.

Names carry shapes: D dimensions, R rows of inputs, O rows of outputs, V words.
"""

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types, uint32, uint64
from numba.extending import intrinsic

from cairn.kernels.jit import kernel

# Sums in any order, so that dot products use the widest registers. NaN and infinity keep their meaning: of a score that
# is no number nothing is learned.
RELAXED = {"reassoc", "contract", "nsz", "arcp"}
# A part of the kernel, compiled with it and never called from Python.
_INNER: dict[str, Any] = {"nogil": True, "fastmath": RELAXED, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_inner: Any = functools.partial(njit, **_INNER)

LIMIT = np.float32(6)  # `plain.LIMIT`
ONE = np.float32(1)
CACHE_LINE = 64
ALWAYS = np.uint32(0xFFFFFFFF)


def _prefetching(typing, matrix_RD, row, byte):
    """Ask for a cache line of a row before it is used. The rows of noise lie anywhere: with 30,000 words and more, training
    was measured 1.5 times faster for it."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.bitcast(array.data, ir.IntType(8).as_pointer())
        offset = builder.mul(arguments[1], builder.extract_value(array.strides, 0))
        pointer = builder.gep(pointer, [builder.add(offset, arguments[2])])
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        call = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        builder.call(call, [pointer, number(1), number(3), number(1)])  # to write, keep near, data
        return context.get_dummy_value()

    return types.void(matrix_RD, types.int64, types.int64), generate


_prefetch: Any = intrinsic(_prefetching)


@_inner
def _random(state):
    """64 random bits: SplitMix64 (Steele et al. 2014)."""
    state[0] += uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return z ^ (z >> uint64(31))


@_inner
def _below(bits, n):
    """A number from 0 to n - 1 of 64 random bits: their upper half, scaled."""
    return np.int64((bits >> uint64(32)) * uint64(n) >> uint64(32))


@_inner
def _choose(word, targets, ids, labels, at, outputs_OD, state):
    """Write the targets of a word, and what each should be told (1 or 0), from place `at`; returns the place after them."""
    first = at
    if targets.negative > 0:
        ids[at], labels[at] = word, 1
        at += 1
        for _ in range(targets.negative):
            bits = _random(state)
            urn = _below(bits, len(targets.threshold))
            drawn = urn if uint32(bits) < targets.threshold[urn] else np.int64(targets.other[urn])
            if drawn != word:
                ids[at], labels[at] = drawn, 0
                at += 1
    else:
        for k in range(targets.starts[word], targets.starts[word + 1]):
            ids[at], labels[at] = targets.nodes[k], 1 - targets.turns[k]
            at += 1
    for k in range(first, at):
        for byte in range(0, outputs_OD.shape[1] * outputs_OD.itemsize, CACHE_LINE):
            _prefetch(outputs_OD, ids[k], byte)
    return at


@_inner
def _move(score, label, saturate, rate):
    """The rate times label - logistic(score); 0 where a target is left alone."""
    if -LIMIT < score < LIMIT:
        told = ONE / (ONE + np.exp(-score))  # a table of it, as word2vec.c has, was measured no faster
    elif saturate:
        told = ONE if score > 0 else np.float32(0)
    else:
        return np.float32(0)
    return rate * (np.float32(label) - told)


@_inner
def _learn(hidden_D, outputs_OD, ids, labels, start, end, saturate, rate, change_D):
    """Move the targets' rows towards (label 1) or from (0) the hidden vector; change_D: how it should move itself.

    Two different targets do not touch each other's rows, so they are taken together: the hidden vector and its change are
    read and written half as often, which was measured 1.1 times faster.
    """
    dim = hidden_D.shape[0]
    for d in range(dim):
        change_D[d] = 0
    k = start
    while k < end:
        a = ids[k]
        b = ids[k + 1] if k + 1 < end else a
        a_score, b_score = np.float32(0), np.float32(0)
        if a != b:
            for d in range(dim):
                a_score += hidden_D[d] * outputs_OD[a, d]
                b_score += hidden_D[d] * outputs_OD[b, d]
            a_move = _move(a_score, labels[k], saturate, rate)
            b_move = _move(b_score, labels[k + 1], saturate, rate)
            for d in range(dim):
                hidden, a_weight, b_weight = hidden_D[d], outputs_OD[a, d], outputs_OD[b, d]
                change_D[d] += a_move * a_weight + b_move * b_weight
                outputs_OD[a, d] = a_weight + a_move * hidden
                outputs_OD[b, d] = b_weight + b_move * hidden
            k += 2
        else:
            for d in range(dim):
                a_score += hidden_D[d] * outputs_OD[a, d]
            a_move = _move(a_score, labels[k], saturate, rate)
            for d in range(dim):
                a_weight = outputs_OD[a, d]
                change_D[d] += a_move * a_weight
                outputs_OD[a, d] = a_weight + a_move * hidden_D[d]
            k += 1


@_inner
def _add_bag(word, bags, inputs_RD, sum_D):
    for k in range(bags.starts[word], bags.starts[word + 1]):
        row = bags.rows[k]
        for d in range(sum_D.shape[0]):
            sum_D[d] += inputs_RD[row, d]
    return bags.starts[word + 1] - bags.starts[word]


@_inner
def _move_bag(word, bags, inputs_RD, change_D):
    for k in range(bags.starts[word], bags.starts[word + 1]):
        row = bags.rows[k]
        for d in range(change_D.shape[0]):
            inputs_RD[row, d] += change_D[d]


@_inner
def _prefetch_bag(word, bags, inputs_RD):
    for k in range(bags.starts[word], bags.starts[word + 1]):
        for byte in range(0, inputs_RD.shape[1] * inputs_RD.itemsize, CACHE_LINE):
            _prefetch(inputs_RD, bags.rows[k], byte)


@_inner
def _mean(sum_D, count):
    scale = ONE / np.float32(count)
    for d in range(sum_D.shape[0]):
        sum_D[d] *= scale


@_inner
def _skipgram(words, i, low, high, bags, targets, inputs_RD, outputs_OD, saturate, rate, state, work):
    """The word at i tells each word from low to high but itself.

    Its bag is read and written once: after each neighbour the mean moves by the change times `gain`, and at the end the
    rows take all changes together. That is what reading and writing the bag for every neighbour comes to.
    """
    ids, labels, ends, hidden_D, change_D, total_D = work
    at = 0
    for j in range(low, high):
        if j != i:
            at = _choose(words[j], targets, ids, labels, at, outputs_OD, state)
            ends[j - low] = at
    hidden_D[:] = 0
    total_D[:] = 0
    _mean(hidden_D, _add_bag(words[i], bags, inputs_RD, hidden_D))
    gain = bags.gain[words[i]]
    at = 0
    for j in range(low, high):
        if j != i:
            _learn(hidden_D, outputs_OD, ids, labels, at, ends[j - low], saturate, rate, change_D)
            at = ends[j - low]
            for d in range(hidden_D.shape[0]):
                hidden_D[d] += gain * change_D[d]
                total_D[d] += change_D[d]
    _move_bag(words[i], bags, inputs_RD, total_D)


@_inner
def _cbow(words, i, low, high, bags, targets, inputs_RD, outputs_OD, saturate, rate, state, work):
    """The mean of all bags from low to high, but for the word at i itself, tells that word."""
    ids, labels, _, hidden_D, change_D, _ = work
    end = _choose(words[i], targets, ids, labels, 0, outputs_OD, state)
    hidden_D[:] = 0
    count = 0
    for j in range(low, high):
        if j != i:
            count += _add_bag(words[j], bags, inputs_RD, hidden_D)
    _mean(hidden_D, count)
    _learn(hidden_D, outputs_OD, ids, labels, 0, end, saturate, rate, change_D)
    for j in range(low, high):
        if j != i:
            _move_bag(words[j], bags, inputs_RD, change_D)


@kernel(fastmath=RELAXED)
def train_chunk(numbers, rows, keep, bags, targets, inputs_RD, outputs_OD, skipgram, saturate, window, rate, seed):
    """Train on the sentences of a chunk. The matrices (float32) change in place; returns the words trained on.

    numbers: int32, a number for each word and a negative one after each sentence; rows: int32, the word v of a number, or
    -1 where it is ignored; keep: uint32[V], see `cairn.embeddings.sampling.thresholds`; skipgram, saturate: bool; rate:
    float32; seed: uint64.
    """
    state = np.array([seed], np.uint64)
    dim = inputs_RD.shape[1]
    most = targets.most * (2 * window if skipgram else 1)
    work = (
        np.empty(most, np.int64),
        np.empty(most, np.uint8),
        np.empty(2 * window + 1, np.int64),
        np.empty(dim, np.float32),
        np.empty(dim, np.float32),
        np.empty(dim, np.float32),
    )
    words = np.empty(len(numbers), np.int64)
    length = trained = 0
    for k in range(len(numbers) + 1):
        number = numbers[k] if k < len(numbers) else -1
        if number >= 0:
            word = rows[number]
            if word >= 0 and (keep[word] == ALWAYS or uint32(_random(state) >> uint64(32)) <= keep[word]):
                words[length] = word
                length += 1
            continue
        for i in range(length):
            if not skipgram and i + window + 1 < length:
                _prefetch_bag(words[i + window + 1], bags, inputs_RD)
            reach = window - _below(_random(state), window)
            low, high = max(i - reach, 0), min(i + reach + 1, length)
            if high - low > 1:
                if skipgram:
                    _skipgram(words, i, low, high, bags, targets, inputs_RD, outputs_OD, saturate, rate, state, work)
                else:
                    _cbow(words, i, low, high, bags, targets, inputs_RD, outputs_OD, saturate, rate, state, work)
        trained += length
        length = 0
    return trained
