"""Efficient attention against exact attention (torch's scaled_dot_product_attention) as texts grow: error, time, memory.

    python benchmarks/attention.py [--quick] [--json FILE]

One head of size 64 in float32 on one thread. Queries and keys come from one slowly drifting signal, so that attention is
mostly local, as that of trained models. Error is |z - exact| / |exact|; its peer is chance, the mean of the values seen.
Times are medians of interleaved runs; memory is what a call needs beyond its inputs. ratio > 1 means better than the peer.
Also drawn: attention.svg beside the JSON file.
"""

import io
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import Row, fresh, interleaved, main, row

from cairn.core.files import write_bytes
from cairn.models.efficient import (
    block_layout,
    block_sparse_attention,
    flash_attention,
    linformer_attention,
    orthogonal_features,
    performer_attention,
    random_projection,
    sliding_window_attention,
)

SIZE = 64
SHARPNESS = 0.85  # a token's score with itself is about 6, with one 100 tokens away 2, with a far one 0
LENGTHS, QUICK_LENGTHS = (512, 1024, 2048, 4096, 8192), (256, 512)
NAMES = ("flash", "sliding window", "block sparse", "performer", "linformer")
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    """The textbook's formula with its T x T matrix."""
    scores = q @ k.mT / SIZE**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(-1) @ v


def signal(tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k, v (1, 1, T, K): x_t = .99 x_{t-1} + noise, seen by queries and keys alike; values drift as slowly."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(tokens, 2 * SIZE, generator=generator)
    x = [noise[0]]
    for new in noise[1:]:
        x.append(0.99 * x[-1] + (1 - 0.99**2) ** 0.5 * new)
    drift, v = torch.stack(x).split(SIZE, dim=1)
    q = SHARPNESS * drift
    k = SHARPNESS * (drift + 0.3 * torch.randn(tokens, SIZE, generator=generator))
    return q[None, None], k[None, None], v[None, None].contiguous()


def attention(name: str, tokens: int) -> tuple[Attention, bool]:
    """The function, and whether it is causal."""
    if name == "linformer":
        return partial(linformer_attention, causal=False, keys_PT=random_projection(128, tokens)), False
    function: Attention = {
        "exact": partial(exact, causal=True),
        "written out": partial(written_out, causal=True),
        "flash": partial(flash_attention, causal=True, block=256),
        "sliding window": partial(sliding_window_attention, causal=True, window=128),
        "block sparse": partial(
            block_sparse_attention, causal=True, block=64, layout_NN=block_layout(-(-tokens // 64), local=2, stride=8)
        ),
        "performer": partial(performer_attention, causal=True, directions_FK=orthogonal_features(256, SIZE)),
    }[name]
    return function, True


def peaks(name: str, lengths: Sequence[int]) -> dict[int, float]:
    """For each number of tokens, MB that a call needs beyond its inputs, in a fresh process that gives back what it frees."""
    code = """
import ctypes, json, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from attention import attention, signal
resident = lambda key: int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith(key)))
found = {}
with torch.inference_mode():
    attention(sys.argv[2], 256)[0](*signal(256))
    for tokens in map(int, sys.argv[3:]):
        inputs, (function, _) = signal(tokens), attention(sys.argv[2], tokens)
        ctypes.CDLL(None).malloc_trim(0)  # what making the inputs left in the heap would serve the call
        open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
        before = resident("VmRSS")
        function(*inputs)
        found[tokens] = (resident("VmHWM") - before) / 1024
print(json.dumps(found))
"""
    found = fresh(code, Path(__file__).parent, name, *lengths, environment={"MALLOC_MMAP_THRESHOLD_": "65536"})
    return {tokens: max(found[str(tokens)], 0.1) for tokens in lengths}  # below a tenth it is the noise of pages


def measure(quick: bool) -> list[Row]:
    torch.set_num_threads(1)
    lengths = QUICK_LENGTHS if quick else LENGTHS
    rows: list[Row] = []
    memory = {name: peaks(name, lengths) for name in ("written out", *NAMES)}
    with torch.inference_mode():
        for tokens in lengths:
            q, k, v = signal(tokens)
            for name in NAMES:
                function, causal = attention(name, tokens)
                truth = exact(q, k, v, causal)
                mean = v.cumsum(2) / torch.arange(1, tokens + 1)[:, None] if causal else v.mean(2, keepdim=True)
                error, chance = (float((z - truth).norm() / truth.norm()) for z in (function(q, k, v), mean))
                case = f"{name}, {tokens} tokens"
                goal = 1e4 if name == "flash" else 1.0
                rows.append(
                    row(f"{case}: error", "mean of the values", error, chance, "of |z|", goal, less_is_better=True)
                )
                ours, theirs = interleaved(
                    [partial(function, q, k, v), partial(exact, q, k, v, causal)], 3 if quick or tokens > 4000 else 7
                )
                goal = 0.1 if name == "flash" else tokens / 16384
                rows.append(
                    row(f"{case}: time", "exact (SDPA)", ours * 1e3, theirs * 1e3, "ms", goal, less_is_better=True)
                )
                needed, dense, goal = memory[name][tokens], memory["written out"][tokens], tokens / 2048
                rows.append(row(f"{case}: memory", "T x T matrix", needed, dense, "MB", goal, less_is_better=True))
    if "--json" in sys.argv:
        write_bytes(Path(sys.argv[sys.argv.index("--json") + 1]).with_name("attention.svg"), picture(rows, lengths))
    return rows


def picture(rows: Sequence[Row], lengths: Sequence[int]) -> bytes:
    """Three panels over the number of tokens: error, time, memory."""
    import matplotlib
    from matplotlib.figure import Figure

    values = {r["name"]: (r["value"], r["peer_value"]) for r in rows}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "attention", "axes.spines.top": False}):
        figure = Figure(figsize=(11.0, 3.4), layout="constrained")
        for axes, (what, unit) in zip(figure.subplots(1, 3), (("error", "of |z|"), ("time", "ms"), ("memory", "MB"))):
            for name in NAMES:
                axes.plot(lengths, [values[f"{name}, {t} tokens: {what}"][0] for t in lengths], marker="o", label=name)
            if what == "time":
                exact_line = [values[f"flash, {t} tokens: {what}"][1] for t in lengths]
                axes.plot(lengths, exact_line, color="black", linestyle="--", label="exact (SDPA)")
                axes.legend(frameon=False, fontsize=8)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(lengths, [str(t) for t in lengths])
            axes.set_xlabel("tokens")
            axes.set_title(f"{what} ({unit})", loc="left", size=11)
            axes.spines["right"].set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


if __name__ == "__main__":
    main(__doc__ or "", measure)
