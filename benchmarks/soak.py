"""A soak: thousands of mixed requests over 32 connections, with clients that leave in the middle.

    python benchmarks/soak.py [--quick] [--json FILE]

Answers, streams, several choices, tools, JSON by schema, scored prompts, embeddings and mistakes against `cairn serve` in a
process of its own. Fails when an answer is a 5xx, when a page is not free at the end, or when the server has grown. The rows'
peer is the goal itself: requests a second, and the share of memory before that is left after.
"""

import asyncio
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from measure import Row, main, row

from cairn.models import Transformer, preset, save
from cairn.tokenizers import train_tokenizer

CONNECTIONS = 32
WORDS = "the stones mark the trail over the hill and every walker adds one more to the pile beside the path".split()
SCHEMA = {"type": "object", "properties": {"stone": {"enum": ["granite", "slate"]}}, "required": ["stone"]}
TOOL = {"type": "function", "function": {"name": "place", "parameters": SCHEMA}}
GROWTH = 1.25  # of the resident set, from the end of the warm-up


def make_request(random_: random.Random) -> tuple[str, dict[str, Any]]:
    """One of the mixture: path and body."""
    text = " ".join(random_.choices(WORDS, k=random_.randrange(1, 60)))
    chat = {"messages": [{"role": "user", "content": text}], "max_tokens": random_.randrange(1, 40)}
    plain = {"prompt": text, "max_tokens": random_.randrange(1, 40), "ignore_eos": True}
    stream = {"stream": random_.random() < 0.5, "seed": random_.randrange(1000)}
    forced = chat | {"tools": [TOOL], "tool_choice": "required", "max_tokens": 60}
    shaped = chat | {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}}
    return random_.choice(
        [
            ("/v1/completions", plain | stream),
            ("/v1/completions", plain | stream | {"n": random_.randrange(2, 5), "stop": ["hill"], "top_p": 0.9}),
            (
                "/v1/completions",
                {"prompt": [text, "the"], "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0},
            ),
            ("/v1/chat/completions", chat | stream | {"logprobs": True, "top_logprobs": 3}),
            ("/v1/chat/completions", chat | stream | {"frequency_penalty": 1, "logit_bias": {"300": -5}}),
            ("/v1/chat/completions", forced | stream),
            ("/v1/chat/completions", shaped | stream),
            ("/v1/embeddings", {"input": [text, "a stone"]}),
            ("/v1/completions", plain | {"n": 99}),
            ("/v1/completions", {"prompt": [10**9]}),
            ("/v1/chat/completions", {"messages": text}),
            ("/nowhere", {}),
        ]
    )


async def send(client: httpx.AsyncClient, random_: random.Random, seen: collections.Counter) -> None:
    path, body = make_request(random_)
    leaves = random_.random() < 0.25
    patience = random_.uniform(0.0, 0.3) if leaves else 120.0
    try:
        async with asyncio.timeout(patience), client.stream("POST", path, json=body) as response:
            seen[response.status_code] += 1
            content = await response.aread()
            if body.get("stream") and response.status_code == 200:
                seen["streams"] += 1
                seen["cut streams"] += not content.endswith(b"data: [DONE]\n\n")
                seen["errors in streams"] += b'"error":{' in content
    except TimeoutError:
        seen["left" if leaves else "hung"] += 1


async def soak(base: str, count: int, seed: int) -> collections.Counter:
    seen: collections.Counter = collections.Counter()
    numbers = iter(range(count))

    async def connection(own: int) -> None:
        random_ = random.Random(f"{seed} {own}")
        async with httpx.AsyncClient(base_url=base, timeout=None) as client:
            for _ in numbers:  # shared: a connection takes the next request that nobody has
                await send(client, random_, seen)

    await asyncio.gather(*(connection(i) for i in range(CONNECTIONS)))
    return seen


def resident(process: int) -> float:
    """MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def figures(base: str) -> dict[str, float]:
    lines = [line for line in httpx.get(f"{base}/metrics").text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def settle(base: str) -> dict[str, float]:
    """The figures when nothing runs any more."""
    for _ in range(200):
        found = figures(base)
        if not found["cairn_running"] and not found["cairn_waiting"]:
            return found
        time.sleep(0.05)
    raise SystemExit("requests run on whose clients have left")


@contextlib.contextmanager
def server(folder: Path):
    """Base URL and process number of `cairn serve` on a small random model."""
    tokenizer = train_tokenizer([" ".join(WORDS) * 20], 400)
    save(folder / "model", Transformer(preset("pebble")).initialize(1), tokenizer)
    command = [sys.executable, "-m", "cairn.cli.main", "serve", str(folder / "model"), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"CAIRN_API_KEY": ""})
    assert process.stdout is not None
    try:
        yield process.stdout.readline().partition(" at ")[2].partition(" ")[0], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise SystemExit(f"the server ended with {process.returncode}")


def measure(quick: bool) -> list[Row]:
    count = 200 if quick else 2000
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (base, process):
        asyncio.run(soak(base, count // 4, seed=1))  # libraries load, buffers grow to their size
        settle(base)
        before, start = resident(process), time.perf_counter()
        seen = asyncio.run(soak(base, count, seed=2))
        seconds = time.perf_counter() - start
        end, after = settle(base), resident(process)
    print(", ".join(f"{key}: {number}" for key, number in sorted(seen.items(), key=str)))
    print(
        f"resident {before:.0f} MiB before, {after:.0f} MiB after; pages free {end['cairn_pages_free']:.0f} of "
        f"{end['cairn_pages_total']:.0f}; preemptions {end['cairn_preemptions_total']:.0f}"
    )
    failures = [
        *(
            f"{seen[status]} answers with status {status}"
            for status in seen
            if isinstance(status, int) and status >= 500
        ),
        *(f"{seen[name]} {name}" for name in ("hung", "cut streams", "errors in streams") if seen[name]),
    ]
    if end["cairn_pages_free"] != end["cairn_pages_total"]:
        failures.append("pages that are not free")
    if after > GROWTH * before:
        failures.append("a server that grows")
    if failures:
        raise SystemExit("the soak failed: " + "; ".join(failures))
    return [
        row(
            f"soak, {count} requests, {CONNECTIONS} connections",
            "goal",
            count / seconds,
            20,
            "requests/s",
            1.0,
            less_is_better=False,
        ),
        row("resident set after the soak", "before it", after, before, "MiB", 1 / GROWTH, less_is_better=True),
    ]


if __name__ == "__main__":
    main(__doc__ or "", measure)
