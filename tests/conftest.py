"""What the tests share: one thread (they must not depend on the machine), a small text, a small model directory."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from cairn.corpus import CorpusConfig, build_corpus
from cairn.models import Transformer, preset, save
from cairn.tokenizers import train_tokenizer

torch.set_num_threads(1)

TEXT = (
    "The cairn marks the trail. Stone upon stone, it grows; every walker adds one.\n"
    "def add(first, second):\n    return first + second  # 1 + 2 == 3\n"
    "Naïve café, 数字 42, emoji 🪨 and\ttabs.\r\n"
) * 20


@pytest.fixture(scope="session")
def text():
    return TEXT


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer([TEXT], 400)


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory, tokenizer):
    """A random model of the smallest preset, with its tokenizer."""
    path = tmp_path_factory.mktemp("models") / "pebble"
    save(path, Transformer(preset("pebble")).initialize(1), tokenizer, {"stage": "test"})
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A small piece of the offline default corpus."""
    config = CorpusConfig(general_bytes=120_000, domain_bytes=60_000, valid_bytes=8_000)
    return build_corpus(config, tmp_path_factory.mktemp("corpus") / "corpus")


# --- a server of the taught model, and its clients; what they need is imported by the tests of the server alone


@pytest.fixture(scope="module")
def base():
    """The address of a server that runs as long as a file's tests."""
    from live import running

    with running() as address:
        yield address


@pytest.fixture(scope="module")
def client(base):
    """OpenAI's client of it, which reports errors instead of trying again."""
    import openai

    return openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def http(base):
    import httpx

    with httpx.Client(base_url=base, timeout=30) as connection:
        yield connection
