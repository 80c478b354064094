"""What a monitoring system reads at /metrics, in Prometheus' text form."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cairn.serving.errors import CLIENT_GONE

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds. The first token waits for a slot and the prompt; a token of a small model takes under a millisecond.
FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PER_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

GAUGES = {
    "running": "generations that have a place in the engine",
    "waiting": "generations that wait for one",
    "pages_total": "pages of the key/value cache",
    "pages_free": "pages that no running generation holds",
}
COUNTERS = {
    "prompt_tokens": "tokens of prompts",
    "cached_tokens": "tokens of prompts whose keys and values were there already",
    "generated_tokens": "tokens generated",
    "preemptions": "generations put back because pages ran out",
}


class Metrics:
    """One server's figures, in a registry of their own: two servers in one process do not mix.

    engine_stats: the latest `EngineStats`; read when somebody asks for the figures.
    """

    def __init__(self, engine_stats: Callable[[], Any]):
        self._registry = CollectorRegistry()
        self._registry.register(_EngineFigures(engine_stats))
        self._requests = Counter("cairn_requests", "requests answered", ["route", "status"], registry=self._registry)
        self._first_token = Histogram(
            "cairn_time_to_first_token_seconds",
            "from a generation's arrival to its first token",
            buckets=FIRST_TOKEN_BUCKETS,
            registry=self._registry,
        )
        self._per_token = Histogram(
            "cairn_time_per_token_seconds",
            "between tokens of one generation, the first excepted",
            buckets=PER_TOKEN_BUCKETS,
            registry=self._registry,
        )

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def answered(self, route: str, status: int) -> None:
        self._requests.labels(route, str(status)).inc()

    def clock(self) -> "TokenClock":
        """For one generation that arrives now."""
        return TokenClock(self._first_token, self._per_token)


class TokenClock:
    """Times the tokens of one generation."""

    def __init__(self, first: Histogram, later: Histogram):
        self._histogram, self._later = first, later
        self._last = time.perf_counter()

    def tick(self, tokens: int) -> None:
        """`tokens` of them came at once."""
        now = time.perf_counter()
        self._histogram.observe((now - self._last) / (tokens if self._histogram is self._later else 1))
        self._histogram, self._last = self._later, now


class _EngineFigures(Collector):
    def __init__(self, stats: Callable[[], Any]):
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(f"cairn_{name}", meaning, value=getattr(stats, name))
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"cairn_{name}", meaning, value=getattr(stats, name))


class CountRequests:
    """ASGI middleware: counts answers by route and status. Paths without a route are one, or anybody could add names."""

    def __init__(self, app: Any, *, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = CLIENT_GONE  # unless an answer begins

        async def watch(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            status = 500  # as it is answered further out
            raise
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.answered(route, status)
