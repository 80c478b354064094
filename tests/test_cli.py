"""The command line: fast to answer, one line for a mistake, exit code 2."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from cairn.cli.main import COMMANDS, main, parser_for


def run(capsys, *words):
    code = main([str(w) for w in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_names_every_command_and_imports_no_torch():
    code = "import sys; from cairn.cli.main import main; main(['--help']); sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    text = parser_for(command).format_help()
    assert f"cairn {command}" in text.partition("\n\n")[2]  # an example to copy
    assert "None)" not in text


def test_help_shows_the_defaults_that_apply():
    from cairn.journey.recipe import RECIPES

    text = " ".join(parser_for("journey").format_help().split())
    assert f"--sft.items INT questions to learn from (default: {RECIPES['stone'].sft.items})" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretain"], "did you mean 'pretrain'"),
        (["xyzzy"], "cairn --help"),
        (["eval", "nowhere", "--corpus", "nowhere"], "nowhere"),
        (["sft", "--model", "nowhere", "--corpus", "nowhere", "--out", "x"], "nowhere"),
        (["tokenizer", "--corpus", "nowhere", "--out", "x"], "corpus directory"),
        (["corpus", "--data", "nowhere", "--out", "x"], "does not exist"),
        (["corpus", "--valid-share", "1.5", "--out", "x"], "between 0 and 1"),
        (["pretrain", "--corpus", "x", "--out", "y"], "tokenizer"),
        (["journey", "--recipe", "nowhere.toml"], "nowhere.toml"),
        (["journey", "--data", "nowhere", "--out", "x"], "nowhere"),
        (["generate", "nowhere", "hello"], "nowhere"),
        (["chat", "nowhere"], "nowhere"),
        (["serve", "nowhere"], "nowhere"),
        (["quantize", "nowhere", "--bits", "8", "--out", "x"], "nowhere"),
        (["rag", "nowhere", "--corpus", "nowhere", "--question", "?"], "nowhere"),
        (["inspect", "nowhere", "--out", "x"], "nowhere"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words)
    lines = [line for line in err.splitlines() if line.startswith("cairn: ")]
    assert code == 2
    assert out == ""
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words", [["eval", "x", "--corpus", "y", "--nonsense"], ["sft"], ["journey", "--sft.items", "many"]]
)
def test_unknown_options_exit_with_2(capsys, words):
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


DAMAGE = {
    "missing weights": (lambda d: (d / "model.safetensors").unlink(), "has no model.safetensors"),
    "truncated weights": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-100]),
        "truncated",
    ),
    "foreign weights": (lambda d: (d / "model.safetensors").write_bytes(b"GGUF" * 100), "not a safetensors file"),
    "pickle instead": (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "never read"),
    "truncated config": (lambda d: (d / "config.json").write_text('{"model_type": "lla'), "not valid JSON"),
    "foreign config": (lambda d: (d / "config.json").write_text('{"model_type": "mamba"}'), "mamba"),
    "no config": (lambda d: (d / "config.json").unlink(), "config.json"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json"),
    "truncated tokenizer": (lambda d: (d / "tokenizer.json").write_text('{"model": {'), "tokenizer.json"),
    "foreign tokenizer": (lambda d: (d / "tokenizer.json").write_text('{"model": {"type": "Sorcery"}}'), "Sorcery"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_model_directory(capsys, tmp_path, model_directory, kind):
    directory = tmp_path / "model"
    shutil.copytree(model_directory, directory)
    damage, message = DAMAGE[kind]
    damage(directory)
    code, _, err = run(capsys, "generate", directory, "hello")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_vocabulary_that_does_not_fit_the_model(capsys, tmp_path, model_directory):
    from cairn.tokenizers import train_tokenizer

    directory = tmp_path / "model"
    shutil.copytree(model_directory, directory)
    train_tokenizer(["some other text with many different words in it " * 9], 264 + 30).save(directory)
    config = json.loads((directory / "config.json").read_text())
    assert run(capsys, "generate", directory, "hello", "--max-tokens", "2")[0] == 0  # fewer ids than rows is fine
    (directory / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    code, _, err = run(capsys, "generate", directory, "hello")
    assert code == 2
    assert "do not belong together" in err


def test_out_that_is_something_else_is_never_overwritten(capsys, tmp_path, corpus):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for words in (
        ["corpus", "--out", tmp_path / "mine"],
        ["tokenizer", "--corpus", corpus.path, "--out", tmp_path / "mine"],
        ["journey", "--preset", "pebble", "--out", tmp_path / "mine"],
    ):
        code, _, err = run(capsys, *words)
        assert code == 2, words
        assert "mine" in err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_generate_in_a_given_form(capsys, tmp_path, model_directory):
    code, out, _ = run(capsys, "generate", model_directory, "x", "--regex", "[0-9]{3}", "--threads", "1")
    assert code == 0
    assert re.fullmatch(r"[0-9]{3}\n", out)
    (tmp_path / "schema.json").write_text(
        '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}'
    )
    code, out, _ = run(capsys, "generate", model_directory, "x", "--schema", tmp_path / "schema.json", "--threads", "1")
    assert code == 0
    assert json.loads(out)["a"] in (1, 2)
    code, _, err = run(capsys, "generate", model_directory, "x", "--regex", "(")
    assert (code, len(err.strip().splitlines())) == (2, 1)


def test_generate_with_beams_and_drafts(capsys, tmp_path, model_directory):
    rest = ("--max-tokens", "12", "--threads", "1")
    code, greedy, _ = run(capsys, "generate", model_directory, "once upon", *rest)
    for draft in ("lookup", model_directory):
        assert run(capsys, "generate", model_directory, "once upon", "--draft", draft, *rest)[:2] == (0, greedy)
    report = tmp_path / "beams.json"
    code, out, _ = run(capsys, "generate", model_directory, "once upon", "--beams", "3", "--json", report, *rest)
    found = json.loads(report.read_text())
    assert (code, out) == (0, found["text"] + "\n")
    scores = [beam["score"] for beam in found["beams"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    code, _, err = run(capsys, "generate", model_directory, "x", "--beams", "2", "--temperature", "1")
    assert code == 2
    assert "--max-tokens" in err


def test_generate_with_an_encoder(capsys, tmp_path, tokenizer):
    import cairn
    from cairn.models import EncoderDecoder, ModelConfig

    config = ModelConfig(
        family="t5", vocab_size=tokenizer.vocab_size, dim=16, layers=1, encoder_layers=1, heads=2, kv_heads=2, ffn_dim=20,
        max_positions=64, positions="relative", score_scale=1.0, activation="relu", gated=False, norm_eps=1e-6,
        logit_scale=16**-0.5,
    )  # fmt: skip
    cairn.save(tmp_path / "t5", EncoderDecoder(config).initialize(0), tokenizer)
    report = tmp_path / "out.json"
    code, out, err = run(capsys, "generate", tmp_path / "t5", "a text", "--max-tokens", "5", "--json", report)
    assert (code, err) == (0, "")
    assert out == json.loads(report.read_text())["text"] + "\n"
    assert 0 < json.loads(report.read_text())["completion_tokens"] <= 5
    code, _, err = run(capsys, "generate", tmp_path / "t5", "a text", "--temperature", "1")
    assert code == 2
    assert "--max-tokens" in err


@pytest.mark.parametrize(
    "command", ["generate DIR x", "chat DIR", "inspect DIR --out OUT", "quantize DIR --bits 8 --out OUT"]
)
def test_an_encoder_is_told_apart(capsys, tmp_path, tokenizer, command):
    import cairn
    from cairn.models import ModelConfig, Transformer

    config = ModelConfig(
        family="bert", vocab_size=tokenizer.vocab_size, dim=16, layers=1, heads=2, kv_heads=2, ffn_dim=20,
        max_positions=64, causal=False, norm="layernorm", norm_place="post", norm_eps=1e-12, final_norm=False,
        positions="learned", embed_norm=True, token_types=2, qkv_bias=True, out_bias=True, activation="gelu",
        gated=False, ffn_bias=True, head="none", pooler=True,
    )  # fmt: skip
    cairn.save(tmp_path / "bert", Transformer(config).initialize(0), tokenizer)
    words = command.replace("DIR", str(tmp_path / "bert")).replace("OUT", str(tmp_path / "out")).split()
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "bert" in err
    assert len(err.strip().splitlines()) == 1
