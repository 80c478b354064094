"""Where the arithmetic runs: device, number format, threads, seeds."""

import ctypes
import hashlib
import os
import random
import sys
import time

import numpy as np
import torch

from cairn.core.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA when there is one, else the CPU. MPS only when asked for: it is not verified here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r} is not known; use auto, cpu, cuda or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was asked for, but torch sees no GPU; use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps was asked for, but torch sees none; use --device cpu")
    return device


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has AVX-512 BF16 (AMD since Zen 4, Intel since Cooper Lake): products in it take half the time."""
    return torch.cpu._is_avx512_bf16_supported()


# Parameters of mallopt in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, for the next tensor of a training step, instead of giving it back to the system.

    glibc maps large blocks anew each time, and the system fills every page with zeros when it is first touched: a step on the
    CPU was measured 1.15 times slower for it on one thread and 1.28 times on two. Elsewhere than on Linux nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # musl has none
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_step(seed: int, step: int, part: int = 0) -> None:
    """Make torch's random numbers a function of the step, and of which rows a process works on.

    A run that goes on, also on another number of processes, then needs no state of a generator.
    """
    torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {step} {part}".encode()).digest()[:7], "big"))


def thread_counts(limit: int) -> list[int]:
    """Thread counts worth trying: the powers of two up to `limit`, and `limit` itself.

    >>> thread_counts(6)
    [1, 2, 4, 6]
    """
    return sorted({2**k for k in range(limit.bit_length()) if 2**k <= limit} | {limit})


def probe_threads(limit: int | None = None, seconds: float = 0.4) -> int:
    """The thread count (a power of two, or all cores) that multiplies small matrices fastest right now.

    More is not always better: OpenMP threads spin while they wait, and on a machine where another process holds one
    core, two threads were measured twelve times slower than one. So ask the machine instead of trusting its core count.
    """
    if limit is None:
        limit = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    before = torch.get_num_threads()
    a, b = torch.randn(2048, 128), torch.randn(128, 384)
    best, best_rate = 1, 0.0
    for count in thread_counts(limit):
        torch.set_num_threads(count)
        for _ in range(10):
            torch.relu(a @ b)
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            torch.relu(a @ b)
            done += 1
        rate = done / (time.perf_counter() - start)
        if rate > best_rate * 1.15:  # an extra thread must earn its keep
            best, best_rate = count, rate
    torch.set_num_threads(before)
    return best


def set_threads(count: int) -> int:
    """Use `count` CPU threads, or as many as the probe recommends when 0. Returns the number in use."""
    if count < 0:
        raise UserError(f"--threads must be at least 0, got {count}")
    count = count or probe_threads()
    torch.set_num_threads(count)
    return count
