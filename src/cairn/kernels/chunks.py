"""Distinct chunks of bytes in an open-addressing table: counting them, and looking them up.

Integers are int64 throughout: numba turns a mix of int64 and uint64 into floats. Plain twin: `collections.Counter`.
"""

from cairn.kernels.jit import inlined, kernel

GOLDEN = (
    -7046029254386353131
)  # 2^64 / golden ratio, odd, as int64: spreads keys over a power of two (Knuth, vol. 3, 6.4)
PRIME = 1099511628211  # FNV-1a


@inlined
def chunk_key(data, start, end):
    """A key of the bytes start..end: up to seven bytes the key is the content itself, beyond that a negative hash."""
    if end - start < 8:
        key = end - start
        for i in range(start, end):
            key = key << 8 | data[i]
        return key
    key = -3750763034362895579  # FNV's offset basis
    for i in range(start, end):
        key = (key ^ data[i]) * PRIME
    return (key ^ key >> 32) | -9223372036854775808


@inlined
def slot_of(key, mask):
    return (key * GOLDEN >> 24) & mask


@inlined
def same_bytes(a, i, b, j, length):
    for k in range(length):
        if a[i + k] != b[j + k]:
            return False
    return True


@inlined
def find_chunk(data, start, end, key, slots, entries, bytes_, starts):
    """Slot of the chunk in the open-addressing table, or of the free place where it belongs."""
    mask = len(slots) - 1
    slot = slot_of(key, mask)
    while slots[slot] != 0:
        if slots[slot] == key:
            at = entries[slot]
            if key > 0:
                return slot
            known = starts[at]
            if starts[at + 1] - known == end - start and same_bytes(data, start, bytes_, known, end - start):
                return slot
        slot = (slot + 1) & mask
    return slot


@kernel
def count_chunks(data, start, ends, weights, slots, entries, bytes_, starts, counts, used):
    """Add chunks to the table. data: uint8; chunk k spans ends[k-1] (or start) to ends[k] and counts weights[k] (or 1).

    slots: int64 keys (a power of two, 0 = free); entries: int32 entry of a slot; entry e is bytes_[starts[e]:starts[e+1]]
    and occurred counts[e] times; used[0] = number of entries. Returns how many chunks were added: fewer than all means
    that the table must grow first.
    """
    for k in range(len(ends)):
        end = ends[k]
        if end > start:
            key = chunk_key(data, start, end)
            slot = find_chunk(data, start, end, key, slots, entries, bytes_, starts)
            if slots[slot] == 0:
                entry = used[0]
                first = starts[entry]
                if entry + 2 > len(starts) or 2 * (entry + 1) > len(slots) or first + end - start > len(bytes_):
                    return k
                bytes_[first : first + end - start] = data[start:end]
                slots[slot], entries[slot] = key, entry
                starts[entry + 1] = first + end - start
                counts[entry] = 0
                used[0] = entry + 1
            counts[entries[slot]] += weights[k] if len(weights) else 1
        start = end
    return len(ends)


@kernel
def refill(slots, entries, bytes_, starts, count):
    """Enter `count` known chunks into an empty, larger table."""
    for entry in range(count):
        key = chunk_key(bytes_, starts[entry], starts[entry + 1])
        slot = slot_of(key, len(slots) - 1)
        while slots[slot] != 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot], entries[slot] = key, entry
