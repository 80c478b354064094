"""`cairn chat`, `cairn generate` and `cairn serve` as a person or a pipe uses them."""

import builtins
import io
import json
import os
import socket
import sys

import pytest
import torch

import cairn
from cairn.cli.chat import Conversation
from cairn.cli.main import main
from taught import CONVERSATIONS, GREETING, taught


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("models") / "taught"
    cairn.save(path, *taught())
    return path


@pytest.fixture
def typed(monkeypatch):
    """Give a command its standard input."""

    def give(data: bytes):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return give


@pytest.fixture
def terminal(monkeypatch):
    """A person at a terminal who types `lines`; an exception among them is raised in place of a line."""

    def sit_down(*lines):
        left = iter(lines)

        def ask(_prompt):
            line = next(left, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(builtins, "input", ask)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    return sit_down


def chat(directory, *options):
    return main(["chat", str(directory), "--threads", "1", *options])


def generate(directory, *options):
    return main(["generate", str(directory), "--threads", "1", *options])


def test_piped_chat_answers_a_line_with_a_line_and_runs_tools(directory, typed, capsys):
    typed(b"What is 12*7?\n\n/reset\nHello\n/quit\nHello\n")
    assert chat(directory) == 0
    assert capsys.readouterr().out == f"Let me see.It is 84.\n{GREETING}\n"


def test_piped_chat_drops_the_oldest_turns_and_says_so_once(directory, typed, capsys):
    typed(b"Hello\n" * 6)
    assert chat(directory, "--max-tokens", "60") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(GREETING + "\n")
    assert printed.out.count("\n") == 6
    assert printed.err.count("oldest turns are dropped") == 1


def test_terminal_chat_streams_and_ctrl_c_stops_an_answer(directory, terminal, capsys, monkeypatch):
    step, pressed = cairn.Engine.step, iter([False] * 6 + [True])

    def pressing(engine):
        if next(pressed, False):
            raise KeyboardInterrupt
        return step(engine)

    monkeypatch.setattr(cairn.Engine, "step", pressing)
    terminal("Hello", KeyboardInterrupt(), "/reset", "long " * 200, "Hello")
    assert chat(directory) == 0
    printed = capsys.readouterr()
    stopped, *_, whole, _, _ = printed.out.split("\n")
    assert 0 < len(stopped) < len(GREETING)
    assert GREETING.startswith(stopped)
    assert whole == GREETING
    assert "Ctrl-D or /quit ends" in printed.err
    assert "ask a shorter one" in printed.err.replace("\n", " ")


def test_generate_prints_what_the_model_adds(directory, typed, capsys, tmp_path):
    wanted = cairn.Engine(*taught()).generate(["It is"], cairn.SamplingParams(max_tokens=5, ignore_eos=False))[0]
    assert generate(directory, "It is", "--max-tokens", "5", "--json", str(tmp_path / "out.json")) == 0
    assert capsys.readouterr().out == wanted.text + "\n"
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["text"] == wanted.text
    assert result["finish_reason"] == wanted.finish_reason
    assert result["completion_tokens"] == len(wanted.output_ids)
    for prompt in ([], ["-"]):
        typed(b"It is\n")
        assert generate(directory, *prompt, "--max-tokens", "5") == 0
        assert capsys.readouterr().out == wanted.text + "\n"


def test_generate_chat_uses_the_template_and_the_tools(directory, capsys, tmp_path):
    assert generate(directory, "What is 12*7?", "--chat", "--json", str(tmp_path / "out.json")) == 0
    assert capsys.readouterr().out == "Let me see.It is 84.\n"
    messages = json.loads((tmp_path / "out.json").read_text())["messages"]
    assert [m["role"] for m in messages] == [m["role"] for m in CONVERSATIONS[1]]


def test_a_stop_text_ends_an_answer(directory, capsys):
    assert generate(directory, "Hello", "--chat", "--stop", "東") == 0
    assert capsys.readouterr().out == GREETING.split("東")[0] + "\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "nowhere", "x"], "not a model directory"),
        (["generate", "DIR", "x", "--temperature", "-1"], "temperature"),
        (["generate", "DIR", "x", "--seed", "-1"], "seed"),
        (["generate", "DIR", "x", "--max-tokens", "0"], "max_tokens"),
        (["generate", "DIR", "-"], "not UTF-8"),
        (["generate", "DIR", "long " * 200], "shorten"),
        (["chat", "BASE"], "cairn sft"),
        (["generate", "BASE", "x", "--chat"], "cairn sft"),
        (["serve", "DIR", "--host", "0.0.0.0"], "--api-key"),
        (["serve", "DIR", "--port", "USED"], "choose another --port"),
        (["serve", "nowhere", "--port", "0"], "not a model directory"),
        (["serve", "DIR", "--slots", "0"], "--slots"),
        (["serve", "DIR", "--slots", "100000000"], "--slots"),
        (["serve", "DIR", "--threads", "-1"], "--threads"),
        (["generate", "DIR", "x", "--threads", str(4 * (os.cpu_count() or 1) + 1)], "--threads"),
        (["chat", "DIR"], "not UTF-8"),
    ],
)
def test_mistakes_are_one_line(directory, tmp_path, typed, capsys, monkeypatch, arguments, words):
    monkeypatch.delenv("CAIRN_API_KEY", raising=False)
    monkeypatch.setattr("cairn.serving.server.serve", lambda *_: True)  # one that is let through must not run for ever
    typed(b"\xff\xfe\n")
    model, tokenizer = taught()
    plain = type(tokenizer)(tokenizer.model, tokenizer.special, names={"eos": tokenizer.eos})
    cairn.save(tmp_path / "base", model, plain)
    with socket.create_server(("127.0.0.1", 0)) as used:
        places = {"DIR": str(directory), "BASE": str(tmp_path / "base"), "USED": str(used.getsockname()[1])}
        assert main([places.get(a, a) for a in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("cairn")
    assert words in printed.err


def test_piped_questions_are_utf8_whatever_the_locale_says(directory, monkeypatch, capsys):
    latin = io.TextIOWrapper(io.BytesIO("Grüße\n".encode("latin-1")), encoding="latin-1")
    monkeypatch.setattr(sys, "stdin", latin)
    assert chat(directory) == 2
    assert "not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("call", [1, 2])
def test_ctrl_c_before_an_answer_takes_the_question_back(call):
    """The prompt is made twice: to see whether it fits, and for the engine."""
    engine = cairn.Engine(*taught())
    make, calls = engine.chat_prompt, 0

    def interrupted(messages):
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return make(messages)

    engine.chat_prompt = interrupted
    conversation = Conversation(engine, cairn.SamplingParams(max_tokens=60), None)
    with pytest.raises(KeyboardInterrupt):
        list(conversation.ask("one"))
    assert conversation.messages == []
    assert "".join(conversation.ask("Hello")) == GREETING
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"]


@pytest.mark.parametrize("failed", [False, True])
def test_serve_ends_with_the_code_of_its_engine(directory, monkeypatch, failed):
    monkeypatch.setattr("cairn.serving.server.serve", lambda *_: not failed)
    assert main(["serve", str(directory), "--port", "0", "--threads", "1"]) == int(failed)
