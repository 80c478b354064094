import dataclasses
import json
import math
import xml.dom.minidom

import pytest
import torch

from cairn.cli.main import main
from cairn.core.errors import UserError
from cairn.interpretability import (
    compare,
    induction_scores,
    inspect_models,
    lens_logits,
    linear_cka,
    logit_lens,
    patterns,
    summarize_heads,
    trace,
)
from cairn.interpretability.pictures import attention_maps, induction_bars, lens_heatmap, token_labels, visible
from cairn.models import ModelConfig, Transformer, load, preset, save
from cairn.quantization import quantize_directory
from cairn.tokenizers import train_tokenizer

torch.set_num_threads(1)

GPT2 = dataclasses.replace(
    preset("gpt2-124m"), vocab_size=400, dim=32, layers=3, heads=4, kv_heads=4, head_dim=8, ffn_dim=64, max_positions=64
)
LLAMA = ModelConfig(vocab_size=400, dim=32, layers=3, heads=4, kv_heads=2, ffn_dim=64, max_positions=64)
IDS = torch.randint(0, 400, (2, 20), generator=torch.Generator().manual_seed(0))


def model_of(config, seed=1):
    """A random model whose attention and logits are far from even."""
    model = Transformer(config).initialize(seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter *= 8
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the stones mark the trail over the hill. " * 20], 400)


@pytest.fixture(scope="module", params=[LLAMA, GPT2], ids=["llama", "gpt2"])
def model(request):
    return model_of(request.param)


# --- trace


def test_trace_is_the_forward_pass(model):
    with torch.inference_mode():
        logits = model(IDS)
        found = trace(model, IDS)
        assert torch.equal(found["logits"], logits)
        last = found[f"blocks.{model.config.layers - 1}.hook_resid_post"]
        assert torch.equal(model.unembed(model.norm(last)), logits)
        assert torch.equal(model.unembed(found["ln_final.hook_normalized"]), logits)


def test_trace_names_fit_together(model):
    found = trace(model, IDS)
    B, T = IDS.shape
    heads, kv_heads, size = model.config.heads, model.config.kv_heads, model.config.head_dim
    for layer in range(model.config.layers):
        at = f"blocks.{layer}."
        pre, mid, post = (found[at + f"hook_resid_{n}"] for n in ("pre", "mid", "post"))
        assert torch.equal(pre + found[at + "hook_attn_out"], mid)
        assert torch.equal(mid + found[at + "hook_mlp_out"], post)
        assert layer == 0 or torch.equal(pre, found[f"blocks.{layer - 1}.hook_resid_post"])
        assert found[at + "attn.hook_q"].shape == (B, T, heads, size)
        assert found[at + "attn.hook_k"].shape == (B, T, kv_heads, size)
        pattern = found[at + "attn.hook_pattern"]
        assert torch.allclose(pattern.sum(-1), torch.ones(B, heads, T))
        assert not pattern.triu(1).any()
        # The pattern is written out beside the fused kernel: the values weighted with it are the kernel's answer.
        v = found[at + "attn.hook_v"].repeat_interleave(heads // kv_heads, dim=2)
        z = torch.einsum("bhts,bshk->bthk", pattern, v)
        assert torch.allclose(z, found[at + "attn.hook_z"], atol=1e-5)


def test_trace_leaves_no_hooks_behind(model):
    trace(model, IDS)
    with pytest.raises(ValueError, match="positions"):
        trace(model, torch.zeros(1, 65, dtype=torch.long))
    assert not any(module._forward_hooks for module in model.modules())
    assert set(trace(model, IDS, only="hook_mlp_out")) == {f"blocks.{i}.hook_mlp_out" for i in range(3)}


def test_parity_with_transformers(model, tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    save(tmp_path / "m", model, tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", attn_implementation="eager")
    with torch.inference_mode():
        expected = theirs(IDS, output_attentions=True, output_hidden_states=True)
    found = trace(model, IDS)
    layers = model.config.layers
    assert len(expected.attentions) == layers
    for layer in range(layers):
        assert torch.allclose(found[f"blocks.{layer}.attn.hook_pattern"], expected.attentions[layer], atol=1e-5)
        assert torch.allclose(found[f"blocks.{layer}.hook_resid_pre"], expected.hidden_states[layer], atol=1e-4)
    assert torch.allclose(found["ln_final.hook_normalized"], expected.hidden_states[layers], atol=1e-4)


# --- heads


def test_patterns_are_those_of_the_trace(model):
    assert torch.equal(patterns(model, IDS)[:, 1], trace(model, IDS)["blocks.1.attn.hook_pattern"])


def test_head_summary_on_known_patterns():
    T = 8
    first, previous, even = torch.zeros(T, T), torch.zeros(T, T), torch.ones(T, T).tril()
    first[:, 0] = 1
    previous[0, 0] = 1
    previous[range(1, T), range(T - 1)] = 1
    rows = summarize_heads(torch.stack([first, previous, even / even.sum(-1, keepdim=True)])[None])
    assert [row["head"] for row in rows] == [0, 1, 2]
    assert rows[0]["first"] == 1
    assert rows[0]["entropy"] == 0
    assert rows[1]["previous"] == 1
    assert rows[1]["same"] == 0
    assert rows[1]["first"] == pytest.approx(1 / 7)  # only the second token's previous one is the first
    assert rows[2]["entropy"] == pytest.approx(sum(math.log2(n) for n in range(2, T + 1)) / (T - 1))
    assert rows[2]["same"] == pytest.approx(sum(1 / n for n in range(2, T + 1)) / (T - 1))
    with pytest.raises(UserError):
        summarize_heads(torch.ones(1, 1, 1, 1))


def test_induction_scores_of_known_heads(monkeypatch):
    import cairn.interpretability.attention as attention

    length, seen = 6, []

    def known(model, ids):
        """Head 0 looks one step after the last occurrence of the token, head 1 at all tokens evenly."""
        seen.append(ids)
        B, T = ids.shape
        induction = torch.zeros(B, T, T)
        rows = torch.arange(T)
        induction[:, rows, (rows - length + 1).clamp(min=0)] = 1
        even = torch.ones(T, T).tril()
        return torch.stack([induction, (even / even.sum(-1, keepdim=True)).expand(B, T, T)], dim=1)[:, None]

    monkeypatch.setattr(attention, "patterns", known)
    model = Transformer(preset("pebble"))
    scores = induction_scores(model, range(10, 90), bos=3, length=length, sequences=4)
    assert scores.score_LH[0, 0] == 1
    assert float(scores.score_LH[0, 1]) == pytest.approx(scores.chance, rel=1e-6)
    (ids,) = seen
    assert (ids[:, 0] == 3).all()
    assert torch.equal(ids[:, 1 : 1 + length], ids[:, 1 + length :])
    assert int(ids[:, 1:].min()) >= 10
    assert int(ids[:, 1:].max()) < 90
    assert not torch.equal(ids[0], ids[1])


def test_induction_scores_of_a_random_model_are_near_chance_and_repeatable():
    model = Transformer(LLAMA).initialize(0)  # small weights: attention is almost even
    scores = induction_scores(model, sequences=8)
    assert scores.length == 32  # 64 positions leave room for that much, twice
    assert (scores.score_LH - scores.chance).abs().max() < 0.1 * scores.chance
    assert bool(((scores.low_LH <= scores.score_LH) & (scores.score_LH <= scores.high_LH)).all())
    assert torch.equal(scores.score_LH, induction_scores(model, sequences=8).score_LH)


# --- lens


def test_last_stage_of_the_lens_is_the_logits(model):
    stages = list(lens_logits(model, IDS))
    assert len(stages) == model.config.layers + 1
    with torch.inference_mode():
        assert torch.equal(stages[-1], model(IDS))
    assert not torch.allclose(stages[-2], stages[-1])


def test_lens_reads_probabilities_of_what_follows(model):
    ids = IDS[0]
    lens = logit_lens(model, ids, top=3)
    with torch.inference_mode():
        probability = model(ids[None])[0].softmax(-1)
    assert torch.equal(lens.top_ids_STK[-1], probability.topk(3).indices)
    expected = torch.stack([probability[t, ids[t + 1]] for t in range(len(ids) - 1)])
    assert torch.allclose(lens.next_probability_ST[-1], expected)


# --- changes


def test_compare_finds_what_was_changed(model):
    config = model.config
    same, scaled = Transformer(config), Transformer(config)
    same.load_state_dict(model.state_dict())
    scaled.load_state_dict(model.state_dict())
    with torch.no_grad():
        scaled.blocks[1].attention.v.weight *= 1.5  # type: ignore[union-attr, operator]
    none, some = compare({"a": model, "b": same, "c": scaled}, IDS)
    assert (none.before, none.after, some.after) == ("a", "b", "c")
    assert set(none.weights.values()) == {0.0}
    assert all(abs(row["cosine"]) < 1e-12 and row["cka"] == pytest.approx(1) for row in none.layers)
    changed = {name: value for name, value in some.weights.items() if value}
    assert changed == {"blocks.1.attention.v.weight": pytest.approx(0.5)}
    assert abs(some.layers[0]["cosine"]) < 1e-12  # before the changed block nothing moved
    assert some.layers[1]["cosine"] > 1e-4
    assert some.layers[1]["cka"] < 1 - 1e-6
    assert "attention.v" in some.matrix_kinds()
    assert not any("norm" in kind for kind in some.matrix_kinds())


def test_compare_refuses_models_of_different_shape():
    with pytest.raises(UserError, match="big and small have different shapes"):
        compare({"big": model_of(LLAMA), "small": model_of(GPT2)}, IDS)


def test_linear_cka_is_that_of_its_definition():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, d, generator=generator, dtype=torch.double) for d in (6, 4))
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.double)).Q
    assert linear_cka(x, 3 * x @ turn + 1) == pytest.approx(1)
    # Through the centred Gram matrices: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)).
    center = torch.eye(50, dtype=torch.double) - 1 / 50
    k, m = center @ x @ x.T @ center, center @ y @ y.T @ center
    expected = (k * m).sum() / ((k * k).sum() * (m * m).sum()).sqrt()
    assert linear_cka(x, y) == pytest.approx(float(expected))
    assert linear_cka(x, y) < 0.5


# --- pictures and the command


def test_labels_show_what_cannot_be_seen():
    assert visible(b"$x$ <&>") == "$x$␣<&>"
    assert visible(b"\x07\xe2\x80\xae") == "<U+0007><U+202E>"
    assert visible("é".encode()[:1]) == "<C3>"
    assert visible("\ud800".encode("utf-8", "surrogatepass")) == "<ED><A0><80>"


def test_pictures_are_well_formed_and_repeatable(tokenizer):
    model = model_of(preset("pebble"))
    ids = torch.tensor(tokenizer.encode("a$b$ \x07<the>\\frac{ ]]> é the stones"))
    labels = token_labels(tokenizer, ids.tolist())
    labels[1] = "$b$"  # would be set as a formula
    lens, scores = logit_lens(model, ids), induction_scores(model, sequences=2)

    def draw():
        pattern = patterns(model, ids[None])[0]
        return attention_maps(pattern, labels), lens_heatmap(lens, labels, tokenizer), induction_bars({"a$b$": scores})

    pictures = draw()
    for picture in pictures:
        xml.dom.minidom.parseString(picture.encode())
    assert "&lt;U+0007&gt;" in pictures[0]
    assert pictures[0].count(">$b$</text>") == 2 + 2  # beside two layers, below two heads
    assert ">$b$</text>" in pictures[1]
    assert ">a$b$</text>" in pictures[2]
    assert draw() == pictures


@pytest.fixture(scope="module")
def stages(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("stages")
    for name, seed in (("base", 1), ("sft", 2)):
        save(folder / name, model_of(preset("pebble"), seed), tokenizer)
    quantize_directory(folder / "sft", folder / "int8", 8)
    return folder


def test_command_writes_pictures_and_figures(stages, tmp_path, capsys, tokenizer):
    out = tmp_path / "pictures"
    words = ["inspect", *(str(stages / name) for name in ("base", "sft", "int8")), "--text", "the trail over the hill"]
    assert main([*words, "--out", str(out), "--device", "cpu", "--json", str(tmp_path / "f.json")]) == 0
    printed = capsys.readouterr().out
    assert "base -> sft" in printed
    figures = json.loads((out / "inspect.json").read_text())
    assert figures == json.loads((tmp_path / "f.json").read_text())
    assert [p["file"] for p in figures["pictures"]] == [
        f"pictures/{name}.svg" for name in ("attention", "lens", "induction", "changes")
    ]
    assert all((tmp_path / p["file"]).read_text().startswith("<?xml") for p in figures["pictures"])
    assert list(figures["models"]) == ["base", "sft", "int8"]
    assert [(r["from"], r["to"], r["layer"]) for r in figures["changes"]] == [
        ("base", "sft", 0), ("base", "sft", 1), ("sft", "int8", 0), ("sft", "int8", 1),
    ]  # fmt: skip
    trained, quantized = figures["changes"][0], figures["changes"][2]
    assert trained["q"] > 1  # another seed
    assert 0 < quantized["q"] < 0.02  # eight bits
    # The figures are those of the model on disk.
    model, _ = load(stages / "base")
    ids = torch.tensor([tokenizer.bos_id, *tokenizer.encode("the trail over the hill")])
    expected = logit_lens(model, ids).next_probability_ST.mean(-1)
    assert figures["models"]["base"]["next_probability"] == pytest.approx(expected.tolist())


def test_one_model_has_no_changes(stages, tmp_path):
    result = inspect_models([stages / "base"], "the trail", tmp_path / "one", device="cpu")
    assert result["changes"] == []
    assert not (tmp_path / "one" / "changes.svg").exists()


def test_equal_names_are_numbered_and_mistakes_are_one_line(stages, tmp_path, capsys):
    result = inspect_models([stages / "base", stages / "base"], "the trail", tmp_path / "x", device="cpu")
    assert list(result["models"]) == ["base", "base-2"]
    assert set(result["weights"][0]["changes"].values()) == {0.0}
    narrow = train_tokenizer(["another text altogether " * 20], 300)
    save(tmp_path / "other", model_of(preset("pebble")), narrow)
    with pytest.raises(UserError, match="different tokenizers"):
        inspect_models([stages / "base", tmp_path / "other"], "the stones", tmp_path / "y")
    assert not (tmp_path / "y").exists()
    assert main(["inspect", str(tmp_path / "none"), "--out", str(tmp_path / "z")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["inspect", str(stages / "base"), "--text", "", "--out", str(tmp_path / "z")]) == 2
    assert "too short" in capsys.readouterr().err
