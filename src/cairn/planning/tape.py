"""Autograd in miniature: operations that know sizes alone.

A layer is told as the operations of its forward pass. The tape then says what stays for the backward pass, and plays that
backward pass to find the moment at which most is held: each operation, last first, makes the gradients of its inputs and
weights, and lets go of what it kept.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

FULL, HALF, INDEX, FLAG = 4, 2, 8, 1  # bytes of a number: float32; bfloat16 or float16; an index; a truth value


@dataclass(eq=False)
class Tensor:
    """`count` numbers of `width` bytes; views are the same tensor. given: it lies outside of what the tape tells (tables
    that all blocks share) and is counted there."""

    count: float
    width: int
    given: bool = False

    @property
    def size(self) -> float:
        return self.count * self.width


@dataclass
class Operation:
    """inputs: what gradients go back to. keeps: what its backward pass needs. weights: numbers of its own weights.

    scratch: bytes that the backward pass takes for a moment. passes: the output's gradient is that of the inputs, nothing
    is made. also: outputs that no gradient goes back through.
    """

    inputs: tuple[Tensor, ...]
    output: Tensor
    keeps: tuple[Tensor, ...]
    weights: float = 0.0
    scratch: float = 0.0
    product: bool = False
    passes: bool = False
    also: tuple[Tensor, ...] = ()

    @property
    def gives(self) -> tuple[Tensor, ...]:
        return (self.output, *self.also)


@dataclass
class Tape:
    """mixed: matrix products in 16 bits on a float32 stream. fused: with the operations of accelerators, which keep less.

    casts: bytes of 16-bit copies of weights, which products keep too.
    """

    mixed: bool = False
    fused: bool = False
    operations: list[Operation] = field(default_factory=list)
    casts: float = 0.0

    # --- telling

    def op(
        self,
        inputs: Sequence[Tensor],
        output: Tensor,
        keeps: Sequence[Tensor] = (),
        *,
        weights: float = 0.0,
        scratch: float = 0.0,
        product: bool = False,
        passes: bool = False,
        also: Sequence[Tensor] = (),
    ) -> Tensor:
        self.operations.append(
            Operation(tuple(inputs), output, tuple(keeps), weights, scratch, product, passes, tuple(also))
        )
        return output

    def linear(
        self,
        x: Tensor,
        rows: float,
        columns: float,
        outputs: float,
        bias: bool = False,
        *,
        copies: int = 1,
        exact=False,
    ) -> Tensor:
        """x (rows, columns) @ weight (columns, outputs): keeps what it read, in mixed precision a 16-bit copy of it.

        copies: matrices that some of the rows each go through. exact: in float32 always.
        """
        mixed = self.mixed and not exact
        x = self.cast(x, HALF if mixed else FULL)
        numbers = copies * columns * outputs
        self.casts += HALF * numbers if mixed else 0.0
        # In mixed precision the gradient of a weight is made in 16 bits first, one matrix at a time.
        scratch = HALF * columns * outputs if mixed else 0.0
        output = Tensor(rows * outputs, x.width)
        weights = numbers + (copies * outputs if bias else 0)
        return self.op([x], output, [x], weights=weights, scratch=scratch, product=True)

    def cast(self, x: Tensor, width: int) -> Tensor:
        """A copy in another format, none where it has that already."""
        return x if x.width == width else self.op([x], Tensor(x.count, width))

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x + y: keeps nothing, and the gradient of the sum is that of both."""
        width = max(x.width, y.width)
        y = self.cast(y, width)
        return self.op([x, y], Tensor(x.count, width), passes=True)

    def function(self, x: Tensor, *, keeps_output: bool = False) -> Tensor:
        """A function of each number: keeps its input, or where that is enough its output."""
        output = Tensor(x.count, x.width)
        return self.op([x], output, [output if keeps_output else x])

    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        return self.op([x, y], Tensor(x.count, x.width), [x, y])

    # --- asking

    @property
    def kept(self) -> float:
        """Bytes that stay for the backward pass, copies of weights aside."""
        return _total(t for op in self.operations for t in op.keeps)

    @property
    def products(self) -> float:
        """Bytes that matrix products and attention gave: what `recompute=selective` keeps."""
        return _total(t for op in self.operations if op.product for t in op.gives)

    @property
    def weights(self) -> float:
        """Numbers of all weights that operations own."""
        return sum(op.weights for op in self.operations)

    def peak(self, gradient: Tensor, *, accumulate: bool) -> float:
        """Most bytes at any time of the backward pass: what is kept still, gradients of tensors, gradients of weights.

        gradient: the tensor whose gradient the pass begins with. accumulate: gradients of weights are there from an earlier
        micro-batch (and counted there); what is made is added to them.
        """
        uses = Counter(t for op in self.operations for t in op.keeps if not t.given)
        held = _Held(self.kept)
        waiting: dict[Tensor, _Buffer] = {gradient: held.make(gradient.size)}
        for op in reversed(self.operations):
            arrived = waiting.pop(op.output, None)
            weights = FULL * op.weights
            held.add(weights + op.scratch)
            for t in op.inputs:
                if op.passes:
                    assert arrived is not None
                    arrived.users += 1
                    held.receive(waiting, t, arrived)
                else:
                    held.receive(waiting, t, held.make(t.size))
            held.add(-op.scratch - (weights if accumulate else 0.0))
            if arrived is not None:
                held.drop(arrived)
            for t in op.keeps:
                if not t.given:
                    uses[t] -= 1
                    if not uses[t]:
                        held.add(-t.size)
        return held.most


def _total(tensors) -> float:
    return sum({t: t.size for t in tensors if not t.given}.values())


@dataclass(eq=False)
class _Buffer:
    """A gradient, and how many hold it."""

    size: float
    users: int = 1


@dataclass
class _Held:
    """Bytes held now, and the most so far."""

    now: float
    most: float = 0.0

    def __post_init__(self) -> None:
        self.most = self.now

    def add(self, size: float) -> None:
        self.now += size
        self.most = max(self.most, self.now)

    def make(self, size: float) -> _Buffer:
        self.add(size)
        return _Buffer(size)

    def drop(self, buffer: _Buffer) -> None:
        buffer.users -= 1
        if not buffer.users:
            self.add(-buffer.size)

    def receive(self, waiting: dict[Tensor, _Buffer], t: Tensor, new: _Buffer) -> None:
        """A tensor that is used twice gets the sum of two gradients: in place where nobody else holds the first."""
        old = waiting.get(t)
        if old is None:
            waiting[t] = new
            return
        if old.users > 1:
            waiting[t] = self.make(t.size)
            self.drop(old)
        self.drop(new)
