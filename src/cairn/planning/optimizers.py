"""What an optimizer holds beside the weights, and what its step takes for a moment. The rules of training/optimizers."""

import math
from collections import Counter

from cairn.planning.parameters import Parameters, Weight

MUON_CHUNK = 1 << 22  # values that Muon orthogonalizes at once, or one matrix
BLOCK, FEW, SHORTEST = 256, 4096, 32  # of 8-bit states: values that share a scale; what stays in float32
ADAMW = 8.0  # bytes a weight: two moments in float32


def is_matrix(w: Weight) -> bool:
    """What Muon takes: matrices between the embeddings."""
    return len(w.shape) == 2 and w.block >= 0


def state_bytes(w: Weight, optimizer: str) -> float:
    """Bytes of the optimizer's state for one copy of a weight."""
    if optimizer == "muon":
        return w.size * (4.0 if is_matrix(w) else ADAMW)
    if optimizer == "sgd":
        return w.size * 4.0
    if optimizer == "adafactor":
        return 4.0 * (w.size if len(w.shape) < 2 else sum(w.shape))
    if optimizer == "adamw8bit":
        length = block_length(w.shape)
        return w.size * ADAMW if not length else 2 * (w.size + 4.0 * w.size / length)
    return w.size * ADAMW


def block_length(shape: tuple[int, ...]) -> int:
    """Values of a row that share a scale, 0 where the moments stay in float32."""
    if len(shape) < 2 or math.prod(shape) < FEW:
        return 0
    best = max(d for d in range(1, min(BLOCK, shape[-1]) + 1) if shape[-1] % d == 0)
    return best if best >= SHORTEST else 0


def step_bytes(found: Parameters, optimizer: str, parts: int = 1) -> float:
    """What a step holds for a moment, beside weights, gradients and state. parts: processes that share each weight.

    AdamW changes one tensor after the other in place; SGD with Nesterov's momentum makes the update of one. Adafactor has
    two of the largest weight's size, its squares and its update. Muon has, of the matrices it takes at once, their updates
    twice, or once beside the result and four of their Gram matrices.
    """
    if optimizer == "adafactor":
        return 2 * 4.0 * max(w.size for w in found.weights) / parts
    if optimizer == "sgd":
        return 4.0 * max(w.size for w in found.weights) / parts
    if optimizer != "muon":
        return 0.0
    alike: Counter[tuple[int, ...]] = Counter()  # Muon takes matrices of one shape together
    for w in found.weights:
        if is_matrix(w):
            alike[w.shape] += w.copies
    most = 0.0
    for (rows, columns), copies in alike.items():
        size = rows * columns
        count = min(copies, max(1, MUON_CHUNK // size))
        most = max(most, 4.0 * count * (2 * size + 4 * min(rows, columns) ** 2))
    return most
