"""A binary heap of int64 in an array with room for it: the smallest item stands at index 0. Plain twin: `heapq`."""

from cairn.kernels.jit import inlined


@inlined
def push(heap, size, item):
    """Add an item to a heap of `size` items; it has size + 1 then."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent] <= item:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = item


@inlined
def pop(heap, size):
    """Remove heap[0] (read it before) from a heap of `size` items; it has size - 1 then."""
    item = heap[size - 1]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size - 1:
            break
        if child + 1 < size - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = item
