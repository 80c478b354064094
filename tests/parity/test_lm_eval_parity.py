"""lm-eval through the server against lm-eval on the same directory in transformers: the same log-likelihoods."""

import os
import subprocess
import sys

import pytest

# lm-eval takes ten seconds to import, so it is imported by the tests and not when they are collected.
pytestmark = pytest.mark.slow

PAIRS = [
    ("The cairn marks", " the trail."),
    ("Stone upon stone, it grows; every walker", " adds one."),
    ("def add(first, second):\n    return first", " + second"),
    ("Naïve café, 数字", " 42, emoji 🪨"),
    ("The cairn marks the trail. ", "Stone upon stone"),  # the space moves to the continuation
    ("", "every walker adds one"),
]
PAGES = ["The cairn marks the trail. " * 60, "Naïve café, 数字 42.", "x"]  # the first is longer than a window
LENGTH = 64


@pytest.fixture(scope="module")
def server(model_directory):
    command = [sys.executable, "-m", "cairn.cli.main", "serve", str(model_directory), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"CAIRN_API_KEY": ""})
    assert process.stdout is not None
    yield process.stdout.readline().partition(" at ")[2].partition(" ")[0]
    process.terminate()
    assert process.wait(30) == 0


@pytest.fixture(scope="module")
def reference(model_directory):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    pytest.importorskip("accelerate", reason="lm-eval's hf model needs accelerate")
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(model_directory), device="cpu", dtype="float32", batch_size=1, max_length=LENGTH)


def requests(kind, arguments):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, pair if isinstance(pair, tuple) else (pair,), i) for i, pair in enumerate(arguments)]


@pytest.mark.parametrize("backend", ["remote", "huggingface"])
def test_log_likelihoods_are_those_of_transformers(server, reference, model_directory, backend):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    ours = LocalCompletionsAPI(
        base_url=f"{server}/v1/completions",
        model=model_directory.name,
        tokenizer=str(model_directory),
        tokenizer_backend=backend,
        batch_size=2,
        max_length=LENGTH + 2,  # it takes off one for the token that is generated and, in windows, one for the first
        max_retries=1,
    )
    wanted = reference.loglikelihood(requests("loglikelihood", PAIRS))
    found = ours.loglikelihood(requests("loglikelihood", PAIRS))
    for (value, greedy), (wanted_value, wanted_greedy) in zip(found, wanted, strict=True):
        assert value == pytest.approx(wanted_value, abs=1e-3)
        assert greedy == wanted_greedy
    wanted = reference.loglikelihood_rolling(requests("loglikelihood_rolling", PAGES))
    found = ours.loglikelihood_rolling(requests("loglikelihood_rolling", PAGES))
    assert found == pytest.approx(wanted, abs=1e-3)
    assert max(map(abs, found)) > 100  # it scored whole pages
