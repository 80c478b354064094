"""Chat templates from strangers: equal to transformers' where they are honest, an error in bounded time where not."""

import json
import os
import time

import pytest

from cairn.core.errors import UserError
from cairn.tokenizers import templates
from cairn.tokenizers.chat import CHAT_TEMPLATE, render

MESSAGES = [
    {"role": "system", "content": "Be kind.\n"},
    {"role": "user", "content": " Grüße, <b>東京</b> & \U0001f642 "},
    {"role": "assistant", "content": "Yes", "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, "é"]}}}]},
    {"role": "tool", "content": "84"},
    {"role": "user", "content": "And?"},
]

# In the manner of the families' templates: what they use of Jinja, in a few lines each.
HONEST = {
    "cairn": CHAT_TEMPLATE,
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama": "{{- bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}<<SYS>>{{ system }}<</SYS>>\n"
    "{%- for m in messages %}\n    {%- if loop.index0 % 2 == 0 and not loop.last %}[INST] {{ m.content | trim }} [/INST]"
    "\n    {%- else %} {{ m.content }} {{ eos_token }}{%- endif %}\n{%- endfor %}",
    "tools": "{%- if tools %}{{ tools | tojson }}{%- endif %}{% for m in messages if m.role != 'system' %}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson(indent=4) }}{{ c | tojson }}</tool_call>"
    "{% endfor %}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0, last='') %}{% macro turn(m, mark='#') %}{{ mark }}{{ m.content }}{% endmacro %}"
    "{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.last = m.role %}{{ turn(m) }}{{ loop.cycle('a', 'b') }}"
    "{% endfor %}{{ ns.n }}{{ ns.last | upper }}{{ messages | map(attribute='role') | join(', ') }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ 'x' if strftime_now is defined }}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content.strip().split(' ')[0] | replace('e', 'E') }}{% endif %}{% endfor %}",
    "documents": "{{ documents is none }}{{ tools is none }}{{ messages[1:][::2] | tojson(ensure_ascii=true) }}{{ 7 // 2 }}",
}

GROWING = "{% set a = 'a' %}" + "{% set a = a ~ a %}" * 60
NESTING = "{% set a = [1] %}{% set b = [1] %}" + "{% set a = [a, a] %}{% set b = [b, b] %}" * 60
CALLING = "{% macro m0() %}{% endmacro %}" + "".join(
    f"{{% macro m{i + 1}() %}}{{{{ m{i}() }}}}{{{{ m{i}() }}}}{{% endmacro %}}" for i in range(60)
)
HOSTILE = {
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "loops": "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}",
    "quiet loops": "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "product": "{{ ('a' * 10**9) | length }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "concatenation": GROWING + "{{ a | length }}",
    "comparison": NESTING + "{{ a == b }}",
    "writing": NESTING + "{{ a | tojson }}",
    "macros": CALLING + "{{ m60() }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "recursive loop": "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}",
    "padding": "{{ 'a'.ljust(10**10) }}",
    "center": "{{ 'a' | center(10**10) }}",
    "format": "{{ '%9999999999d' % 1 }}",
    "str.format": "{{ '{:>9999999999}'.format(1) }}",
    "replace": "{{ ('a' * 99999).replace('a', 'b' * 99999) | length }}",
    "indent": "{{ messages | tojson(indent=10**10) }}",
    "large output": "{% for i in range(99999) %}{{ '0123456789' * 9 }}{% endfor %}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "reaching out": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "reaching by filter": "{{ (messages | attr('__class__')).__base__.__subclasses__() }}",
    "reaching by format": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "raise": "{{ raise_exception('no') }}",
    "not Jinja": "{% for %}",
    "deep": "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    "long": "x" * (templates.MAX_TEMPLATE + 1),
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("generation", [False, True])
def test_renders_as_transformers_does(name, generation):
    from transformers.utils.chat_template_utils import render_jinja_template

    names = {"bos_token": "<s>", "eos_token": "</s>"}
    wanted, _ = render_jinja_template([MESSAGES], chat_template=HONEST[name], add_generation_prompt=generation, **names)
    assert render(HONEST[name], MESSAGES, add_generation_prompt=generation, **names) == wanted[0]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_an_error_in_bounded_time(name, monkeypatch):
    monkeypatch.setattr(templates, "SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"\Athe chat template failed: [^\n]+\Z"):
        render(HOSTILE[name], MESSAGES)
    assert time.monotonic() - start < 20
    assert render("{{ messages | length }}", MESSAGES) == "5"  # the next conversation is rendered as ever


def test_the_renderer_is_one_process_and_comes_back():
    assert render("a", MESSAGES) == "a"
    child = templates._process._child
    assert child is not None
    assert render("b", MESSAGES) == "b"
    assert templates._process._child is child
    child.kill()
    child.wait()
    assert render("c", MESSAGES) == "c"
    assert templates._process._child is not child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_has_a_renderer_of_its_own():
    assert render("a", MESSAGES) == "a"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        own = templates._process._child is None
        os.write(writer, json.dumps([own, render("{{ messages | length }}", MESSAGES)]).encode())
        templates._process.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads(os.read(reader, 100)) == [True, "5"]
    assert render("b", MESSAGES) == "b"


def test_large_conversations_pass_the_pipe():
    content = "東" * 300_000
    assert render("{{ messages[0].content }}", [{"role": "user", "content": content}]) == content
    with pytest.raises(UserError, match="at most"):
        render("{{ messages[0].content * 20 }}", [{"role": "user", "content": content}])


def test_an_interruption_does_not_leave_an_answer_for_the_next_conversation(monkeypatch):
    """The first byte is written and the answer is on its way; then Ctrl-C."""
    first, second = ([{"role": "user", "content": name}] for name in ("first", "second"))
    template = "{{ messages[0].content }}"
    assert render(template, first) == "first"
    exchange = templates._exchange

    def interrupted(child, line, seconds=None):
        child.stdin.write(line)
        raise KeyboardInterrupt

    monkeypatch.setattr(templates, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render(template, first)
    monkeypatch.setattr(templates, "_exchange", exchange)
    assert render(template, second) == "second"


def test_a_process_with_many_descriptors_renders_too():
    resource = pytest.importorskip("resource", reason="this system has no such limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip("so many descriptors are not allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    templates._process.stop()
    files = []
    try:
        files += [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        assert render("{{ messages | length }}", MESSAGES) == "5"
    finally:
        for file in files:
            os.close(file)
        templates._process.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ValueError("filedescriptor out of range")])
def test_a_renderer_that_cannot_start_is_one_line(monkeypatch, error):
    def refuse(*_arguments, **_options):
        raise error

    templates._process.stop()
    monkeypatch.setattr(templates.subprocess, "Popen", refuse)
    with pytest.raises(UserError, match="the process that renders it failed"):
        render("a", MESSAGES)
    monkeypatch.undo()
    assert render("a", MESSAGES) == "a"


def test_our_own_template_needs_no_process(monkeypatch):
    monkeypatch.setattr("cairn.tokenizers.chat.render_apart", None)
    assert render(CHAT_TEMPLATE, [{"role": "user", "content": "a"}]) == "<|user|>a<|end|>"
