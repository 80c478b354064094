"""Halves of a kernel's work on threads of their own: kernels run without the interpreter lock."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="cairn-kernel")


def in_parts(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call work(first, last) over 0 .. count in `threads` parts; the caller's thread takes the last one.

    >>> seen = []
    >>> in_parts(lambda first, last: seen.extend(range(first, last)), 5, 2)
    >>> sorted(seen)
    [0, 1, 2, 3, 4]
    """
    threads = max(1, min(threads, count))
    if threads == 1:
        return work(0, count)
    borders = [count * part // threads for part in range(threads + 1)]
    pool = _pool(threads - 1)
    started = [pool.submit(work, *borders[part : part + 2]) for part in range(threads - 1)]
    work(borders[-2], borders[-1])
    for part in started:
        part.result()
