"""What a device can do: memory, bandwidth, rates, links, and a price that is a setting.

Rates are dense (without 2:4 sparsity), products accumulated in float32. Memory is what the driver reports, a little below
the name of the card; the runtime's own share is counted in `memory.py`.
"""

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cairn.core.errors import UserError

if TYPE_CHECKING:
    import torch

GIB = 2**30
T, G = 1e12, 1e9

PRICES_OF = "2026-11"  # when the guesses below were made


@dataclass(frozen=True)
class Device:
    """One accelerator (or processor) of a kind.

    memory: bytes. bandwidth: bytes a second of that memory. fp32, bf16, fp16, fp8: FLOP/s, 0 where the hardware has no
    such products. link: bytes a second one device sends to others of its node; network: to other nodes; both in one
    direction, 0 where devices cannot be joined. node: devices of a node. watts: board power. price: US dollars an hour.
    """

    name: str
    title: str
    kind: str  # cuda, rocm, mps, cpu
    memory: float
    bandwidth: float
    fp32: float
    bf16: float
    fp16: float
    fp8: float
    link: float
    network: float
    node: int
    watts: float
    price: float

    def rate(self, precision: str) -> float:
        """FLOP/s of matrix products in `precision`; a format without hardware computes at float32's rate."""
        return {"fp32": self.fp32, "bf16": self.bf16, "fp16": self.fp16, "fp8": self.fp8}[precision] or self.fp32

    @property
    def precision(self) -> str:
        """What training uses here by default: 16 bits where products in them are fast, bfloat16 before float16."""
        if self.kind == "mps":
            return "fp32"
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "fp32"


def _device(
    name: str, title: str, kind: str, gib: float, bandwidth: float, rates: tuple[float, float, float, float],
    link: float, network: float, node: int, watts: float, price: float,
) -> Device:  # fmt: skip
    """Units of the data sheets: GiB, GB/s, TFLOP/s in (fp32, bf16, fp16, fp8), GB/s in one direction."""
    fp32, bf16, fp16, fp8 = (rate * T for rate in rates)
    return Device(
        name, title, kind, gib * GIB, bandwidth * G, fp32, bf16, fp16, fp8, link * G, network * G, node, watts, price
    )


# Sources: NVIDIA's data sheets and architecture white papers (Volta, Turing, Ampere, Ada, Hopper, Blackwell; sparse
# rates halved; GeForce cards by the white papers' rows for FP32 accumulation), DGX B200 data sheet / 8 for the B200, AMD's
# MI300X data sheet. NVLink and Infinity Fabric are sold by the sum of both directions: halved here; PCIe 3, 4, 5 x16 are
# 16, 32, 64 GB/s a direction. Networks: 400 Gbit/s a device (DGX H100, H200, B200, MI300X), 200 (DGX A100), 100 (V100),
# else 25 Gbit/s a node of the usual cloud machine. float32 is the rate of ordinary units, TF32 off as in torch's default.
# Apple gives no FLOP/s: cores * 128 lanes * 2 * clock. A laptop: 8 cores * 16 FLOP * 3 GHz * 2, two channels of DDR5-4800
# at a third less than their name. Prices: a guess of what an hour on demand costs; owned machines: electricity alone.
_TABLE = (
    _device("b200", "B200 SXM", "cuda", 179.1, 8000, (75, 2250, 2250, 4500), 900, 50, 8, 1000, 5.50),
    _device("h200", "H200 SXM", "cuda", 140.4, 4800, (67, 989, 989, 1979), 450, 50, 8, 700, 3.50),
    _device("h100", "H100 SXM", "cuda", 79.6, 3350, (67, 989, 989, 1979), 450, 50, 8, 700, 2.80),
    _device("h100-pcie", "H100 PCIe", "cuda", 79.6, 2000, (51, 756, 756, 1513), 64, 50, 8, 350, 2.40),
    _device("a100-80", "A100 SXM 80 GB", "cuda", 80.0, 2039, (19.5, 312, 312, 0), 300, 25, 8, 400, 1.80),
    _device("a100-40", "A100 SXM 40 GB", "cuda", 39.6, 1555, (19.5, 312, 312, 0), 300, 25, 8, 400, 1.30),
    _device("l40s", "L40S", "cuda", 45.0, 864, (91.6, 362, 362, 733), 32, 3.1, 8, 350, 1.00),
    _device("l4", "L4", "cuda", 22.5, 300, (30.3, 121, 121, 242), 32, 3.1, 8, 72, 0.70),
    _device("a10g", "A10G", "cuda", 22.5, 600, (35, 70, 70, 0), 32, 3.1, 8, 300, 1.00),
    _device("t4", "T4", "cuda", 15.0, 320, (8.1, 0, 65, 0), 16, 3.1, 8, 70, 0.40),
    _device("v100", "V100 SXM2 32 GB", "cuda", 32.0, 900, (15.7, 0, 125, 0), 150, 12.5, 8, 300, 0.80),
    _device("rtx-3090", "GeForce RTX 3090", "cuda", 24.0, 936, (35.6, 71, 71, 0), 32, 3.1, 4, 350, 0.25),
    _device("rtx-4090", "GeForce RTX 4090", "cuda", 24.0, 1008, (82.6, 165, 165, 330), 32, 3.1, 4, 450, 0.45),
    _device("rtx-5090", "GeForce RTX 5090", "cuda", 31.8, 1792, (104.8, 209, 209, 419), 64, 3.1, 4, 575, 0.70),
    _device("rtx-6000", "RTX 6000 Ada", "cuda", 48.0, 960, (91.1, 364, 364, 728), 32, 3.1, 4, 300, 0.90),
    _device("mi300x", "Instinct MI300X", "rocm", 192.0, 5300, (163.4, 1307, 1307, 2615), 448, 50, 8, 750, 2.50),
    _device("m2-ultra", "Apple M2 Ultra, 192 GB", "mps", 192.0, 800, (27.2, 0, 27.2, 0), 0, 0, 1, 215, 0.05),
    _device("m4-max", "Apple M4 Max, 128 GB", "mps", 128.0, 546, (18.4, 0, 18.4, 0), 0, 0, 1, 140, 0.03),
    _device("m4", "Apple M4, 16 GB", "mps", 16.0, 120, (4.3, 0, 4.3, 0), 0, 0, 1, 40, 0.01),
    _device("laptop", "laptop, 8 cores, 16 GB", "cpu", 15.5, 50, (0.77, 0, 0, 0), 0, 0, 1, 45, 0.01),
)
DEVICES = {device.name: device for device in _TABLE}
HERE = "here"


def find_device(name: str, price: float | None = None) -> Device:
    """The device of the table, or `here`: this machine, measured. price: dollars an hour in place of the guess."""
    if name != HERE and name not in DEVICES:
        raise UserError(f"unknown hardware {name!r}; known: {HERE} (this machine, measured), {', '.join(DEVICES)}")
    if price is not None and not 0 <= price < float("inf"):
        raise UserError(f"--price is in dollars an hour, 0 or more; got {price}")
    found = measure_here() if name == HERE else DEVICES[name]
    return found if price is None else replace(found, price=price)


def refuse_unjoined(device: Device, devices: int) -> None:
    """Raises UserError for several devices that nothing joins."""
    if devices > 1 and not device.link:
        raise UserError(f"{device.title} cannot be joined to others here: plan for --devices 1")


def match_device(name: str) -> Device | None:
    """The entry of the table that a driver's name of a card stands for: `NVIDIA H100 80GB HBM3` is h100.

    >>> match_device("NVIDIA H200").name, match_device("Tesla T4").name, match_device("NVIDIA L40S").name
    ('h200', 't4', 'l40s')
    """
    words = name.upper().replace("-", " ").split()
    if "A100" in words:
        return DEVICES["a100-80" if "80GB" in words else "a100-40"]
    if "H100" in words:
        return DEVICES["h100-pcie" if "PCIE" in words else "h100"]
    for device in _TABLE:
        wanted = device.name.upper().replace("-", " ").split()
        if device.kind in ("cuda", "rocm") and set(wanted) <= set(words):
            return device
    return None


def measure_here() -> Device:
    """This machine: its first GPU, or its processor with as many threads as torch uses. Takes a second or two.

    Rates are the best of a few products of square matrices, bandwidth that of a copy; devices are not joined.
    """
    import torch

    from cairn.core.compute import cpu_multiplies_bf16

    cuda = torch.cuda.is_available()
    if cuda:
        properties = torch.cuda.get_device_properties(0)
        title, memory, size, copied = properties.name, float(properties.total_memory), 8192, GIB
    else:
        title, memory, size, copied = (
            f"this processor with {torch.get_num_threads()} threads",
            _memory(),
            1024,
            GIB // 4,
        )
    where = torch.device("cuda" if cuda else "cpu")
    types = {"fp32": torch.float32}
    if cuda or cpu_multiplies_bf16():
        types["bf16"] = torch.bfloat16
    if cuda:
        types["fp16"] = torch.float16
    rates = {name: _product_rate(where, dtype, size) for name, dtype in types.items()}
    known = match_device(title) if cuda else None
    watts, price = (known.watts, known.price) if known else (65.0, 0.01)
    bf16, fp16 = rates.get("bf16", 0.0), rates.get("fp16", 0.0)
    bandwidth = _bandwidth(where, copied)
    kind = "cuda" if cuda else "cpu"
    return Device(HERE, title, kind, memory, bandwidth, rates["fp32"], bf16, fp16, 0.0, 0.0, 0.0, 1, watts, price)


def _memory() -> float:
    """Bytes of memory that this process may have: the machine's, or its control group's if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as handle:
            return float(min(total, int(handle.read())))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return float(total)


def _seconds(function, where: "torch.device", runs: int = 5) -> float:
    """The shortest of a few runs, the first left out."""
    import torch

    best = float("inf")
    for run in range(runs + 1):
        start = time.perf_counter()
        function()
        if where.type == "cuda":
            torch.cuda.synchronize()
        if run:
            best = min(best, time.perf_counter() - start)
    return best


def _product_rate(where: "torch.device", dtype: "torch.dtype", size: int) -> float:
    import torch

    a, b = (torch.randn(size, size, device=where).to(dtype) for _ in range(2))
    return 2.0 * size**3 / _seconds(lambda: a @ b, where)


def _bandwidth(where: "torch.device", size: int) -> float:
    import torch

    a, b = (torch.zeros(size, dtype=torch.uint8, device=where) for _ in range(2))
    return 2.0 * size / _seconds(lambda: b.copy_(a), where)  # read once, written once
