"""The lattices of all runs of a corpus, laid out once: what the training of a unigram model computes on.

At place i of the text begin the pieces[starts[i]:starts[i + 1]] of lengths[...] characters. A run is a stretch of places
[begin, end) that no piece leaves; it occurs `count` times. Plain twins: `cairn.tokenizers.unigram_plain`.
"""

import numpy as np

from cairn.kernels.jit import kernel

LINEAR = 30  # characters: up to here a product of probabilities (each over e^-23) stays above the smallest float


@kernel
def expect(runs, low, high, starts, pieces, lengths, scores, probabilities, expected):
    """Adds to `expected` how often each piece occurs, over all segmentations of runs[low:high] by their probability.

    runs: rows (begin, end, count). Returns the log likelihood. Forward, then backward, which meets the forward sums.
    """
    longest = 0
    for r in range(low, high):
        longest = max(longest, runs[r, 1] - runs[r, 0])
    alpha = np.empty(longest + 1)
    beta = np.empty(longest + 1)
    likelihood = 0.0
    for r in range(low, high):
        begin, end, count = runs[r]
        n = end - begin
        if n > LINEAR:
            likelihood += count * _expect_log(begin, n, count, starts, pieces, lengths, scores, expected, alpha, beta)
            continue
        for i in range(n + 1):
            alpha[i] = 0.0
        alpha[0] = 1.0
        for i in range(n):
            here = alpha[i]
            for e in range(starts[begin + i], starts[begin + i + 1]):
                alpha[i + lengths[e]] += here * probabilities[pieces[e]]
        beta[n] = 1.0
        share = count / alpha[n]
        for i in range(n - 1, -1, -1):
            here = alpha[i] * share
            total = 0.0
            for e in range(starts[begin + i], starts[begin + i + 1]):
                rest = probabilities[pieces[e]] * beta[i + lengths[e]]
                total += rest
                expected[pieces[e]] += here * rest
            beta[i] = total
        likelihood += count * np.log(alpha[n])
    return likelihood


@kernel
def _expect_log(begin, n, count, starts, pieces, lengths, scores, expected, alpha, beta):
    """The same with logarithms, for runs so long that their probability is no float."""
    for i in range(n + 1):
        alpha[i] = -np.inf
    alpha[0] = 0.0
    for i in range(n):
        for e in range(starts[begin + i], starts[begin + i + 1]):
            to = i + lengths[e]
            alpha[to] = np.logaddexp(alpha[to], alpha[i] + scores[pieces[e]])
    beta[n] = 0.0
    for i in range(n - 1, -1, -1):
        beta[i] = -np.inf
        for e in range(starts[begin + i], starts[begin + i + 1]):
            rest = scores[pieces[e]] + beta[i + lengths[e]]
            beta[i] = np.logaddexp(beta[i], rest)
            expected[pieces[e]] += count * np.exp(alpha[i] + rest - alpha[n])
    return alpha[n]


@kernel
def count_best(runs, low, high, starts, pieces, lengths, scores, found):
    """Adds to `found` how often each piece occurs on the best path of runs[low:high]."""
    longest = 0
    for r in range(low, high):
        longest = max(longest, runs[r, 1] - runs[r, 0])
    best = np.empty(longest + 1)
    back = np.empty(longest + 1, np.int64)
    for r in range(low, high):
        begin, end, count = runs[r]
        n = end - begin
        _best(begin, n, starts, pieces, lengths, scores, best, back, -1)
        while n > 0:
            found[pieces[back[n]]] += count
            n -= lengths[back[n]]


@kernel
def _best(begin, n, starts, pieces, lengths, scores, best, back, without):
    """The best path through n places; back: the edge that ends at each. `without`: a piece that may not be used."""
    for i in range(1, n + 1):
        best[i] = -np.inf
    best[0] = 0.0
    for i in range(n):
        for e in range(starts[begin + i], starts[begin + i + 1]):
            to = i + lengths[e]
            if to > n:
                break
            total = best[i] + scores[pieces[e]]
            if total > best[to] and pieces[e] != without:
                best[to] = total
                back[to] = e


@kernel
def losses(low, high, places, sizes, starts, pieces, lengths, scores, found, result):
    """How much likelihood is lost when a piece of [low, high) goes and its best other segmentation takes its place.

    places, sizes: where in the text each piece stands, and its characters. Infinite: it has no other segmentation; -inf: its
    own is not the best, or it is on no best path: it can go.
    """
    total = found.sum()
    log_total = np.log(total)
    best = np.empty(256)  # lengths are one byte
    back = np.empty(256, np.int64)
    for piece in range(low, high):
        n = sizes[piece]
        if n == 1:
            result[piece] = np.inf if found[piece] > 0 else -np.inf
            continue
        _best(places[piece], n, starts, pieces, lengths, scores, best, back, piece)
        if found[piece] == 0 or best[n] > scores[piece]:
            result[piece] = -np.inf
            continue
        steps = 0
        at = n
        others = 0.0
        while at > 0:
            others += np.log(found[pieces[back[at]]] + found[piece])
            steps += 1
            at -= lengths[back[at]]
        others -= steps * np.log(total + found[piece] * (steps - 1))
        result[piece] = found[piece] / total * (np.log(found[piece]) - log_total - others)


@kernel
def compact(starts, pieces, lengths, new):
    """The edges of the pieces that stay. new: number of each piece from now on, -1 when it goes."""
    kept = 0
    for e in range(len(pieces)):
        if new[pieces[e]] >= 0:
            kept += 1
    out_starts = np.zeros_like(starts)
    out_pieces = np.empty(kept, np.int32)
    out_lengths = np.empty(kept, np.uint8)
    kept = 0
    for i in range(len(starts) - 1):
        for e in range(starts[i], starts[i + 1]):
            if new[pieces[e]] >= 0:
                out_pieces[kept] = new[pieces[e]]
                out_lengths[kept] = lengths[e]
                kept += 1
        out_starts[i + 1] = kept
    return out_starts, out_pieces, out_lengths
