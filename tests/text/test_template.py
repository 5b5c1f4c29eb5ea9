"""Chat templates are strangers' programs: the good render as they should, the rest ends soon and in a UserError."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from raison.errors import UserError
from raison.text import budget
from raison.text.chat import TEMPLATE, Turn, prompt_ids
from raison.text.template import MAX_SOURCE, ChatTemplate
from raison.text.tokenizer import BOS, EOS, Tokenizer
from tests.text.templates import CHATML, CONSTRUCTS, DEEPSEEK_R1, LLAMA_3, QWEN2_5, QWEN3, SMOLLM2, TEMPLATES
from tests.work import calls

CHAT = [
    {"role": "user", "content": "Make 46 from 3, 7, 25"},
    {"role": "assistant", "content": "<think>hm</think>25 + 7 * 3"},
    {"role": "user", "content": "<b>&'語\n"},
]
BIG = "{% set ns = namespace(x='a' * 4000000) %}"
GROW = "{% set ns = namespace(x=START) %}{% for i in range(100000) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x }}"


def grow(start: str, step: str) -> str:
    return GROW.replace("START", start).replace("STEP", step)


ATTACKS = {
    "repeated text": "{{ 'a' * 10**10 }}",
    "repeated list": "{{ [1] * 10**10 }}",
    "wide percent": "{{ '%1000000000d' % 1 }}",
    "wide percent of a name": "{{ '%(a)1000000000d' % {'a': 1} }}",
    "wide percent of a nested name": "{{ '%(a(b)c)1000000000d' % {'a(b)c': 1} }}",
    "variable percent": "{{ '%*d' % (1000000000, 1) }}",
    "precise percent": "{{ '%.1000000000f' % 1 }}",
    "wide filter": "{{ '%1000000000d'|format(1) }}",
    "wide braces": "{{ '{:>1000000000}'.format(1) }}",
    "variable braces": "{{ '{:>{}}'.format(1, 1000000000) }}",
    "wide map": "{{ '{a:>1000000000}'.format_map({'a': 1}) }}",
    "center": "{{ 'a'|center(10**9) }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "range": "{% for x in range(10**9) %}{% endfor %}",
    "list of range": "{{ range(10**9)|list }}",
    "loops": "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}",
    "loops without turns": "{% for x in range(99999) %}{% for y in range(99999) if false %}{% endfor %}{% endfor %}",
    "costly conditions": BIG + "{% set y = ns.x[:-1] + 'b' %}{% for x in range(99999) if ns.x == y %}{% endfor %}",
    "loops over a text": BIG + "{% for a in ns.x %}{% for b in ns.x %}{% endfor %}{% endfor %}",
    "double by concatenation": grow("'a'", "ns.x ~ ns.x"),
    "double by addition": grow("'a'", "ns.x + ns.x"),
    "double by join": grow("'a'", "[ns.x, ns.x]|join"),
    "double by the method": grow("'a'", "ns.x.join([ns.x, ns.x])"),
    "double by replace": grow("'a'", "ns.x.replace('a', 'aa')"),
    "double by the filter": grow("'a'", "ns.x|replace('a', 'aa')"),
    "double a list": grow("[1]", "ns.x + ns.x"),
    "double a set block": "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set y %}{{ ns.x }}{{ ns.x }}"
    "{% endset %}{% set ns.x = y %}{% endfor %}",
    "double a number": grow("10", "ns.x * ns.x"),
    "shared lists": grow("[1]", "[ns.x, ns.x]"),
    "shared tuples as keys": grow("(1,)", "(ns.x, ns.x)") + "{{ {ns.x: 1} }}",
    "shared arguments": "{% macro m() %}{{ m(varargs, varargs) }}{% endmacro %}{{ m(1) }}",
    "deep tuples": grow("(1,)", "(ns.x,)") + "{{ {ns.x: 1} }}",
    "deep generators": grow("[1]", "ns.x|map('upper')"),
    "namespace of itself": "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
    "macro for ever": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macro tree": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(90) }}",
    "recursive loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "full buffers": BIG
    + "{% macro m() %}{% for i in range(9999) %}{{ ns.x }}{% endfor %}{% endmacro %}{% set y = m() %}",
    "constant text": "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "many slices": BIG + "".join(f"{{% set a{i}=ns.x[1:] %}}" for i in range(2000)),
    "power": "{{ 10 ** 100000000 }}",
    "huge literal": "{{ 0x" + "F" * 5000 + " * 2 }}",
    "precise round": "{{ 1.5|round(10**9, 'ceil') }}",
    "wide indent": "{{ 'a'|indent(10**9, true) }}",
    "wide json": "{{ [1]|tojson(indent=10**9) }}",
    "separated json": BIG + "{{ range(9999)|list|tojson(separators=(ns.x, ':')) }}",
    "quadratic search": BIG + "{{ ns.x.rfind('b' + 'a' * 1000000) }}",
    "quadratic strip": BIG + "{{ ns.x.strip('bcdef' * 500000) }}",
    "quadratic sum": "{{ ([[1]] * 50000)|sum(start=[]) }}",
    "many parts": BIG + "{{ ns.x.split('a')|length }}",
    "characters": BIG + "{{ ns.x|list|length }}",
    "text to number": BIG + "{{ ns.x|int(0, 16) }}",
    "escaped": "{{ ('<' * 4000000)|e }}",
    "long date": "{{ strftime_now('%c' * 1000000) }}",
    "class": "{{ ''.__class__.__mro__ }}",
    "class by subscript": "{{ ''['__class__']['__mro__'] }}",
    "class by filter": "{{ ''|attr('__class__') }}",
    "class by format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "globals": "{{ raise_exception.__globals__['x'] }}",
    "underscore": "{% set ns = namespace() %}{% set ns.__html__ = 1 %}",
    "bytes": "{{ 'a'.encode() }}",
    "number's method": "{{ (5).to_bytes(10**10, 'big') }}",
    "change the messages": "{{ messages.append(1) }}",
    "include": "{% include 'x' %}",
    "import": "{% import 'os' as os %}",
    "block": "{% block a %}{{ self.a() }}{% endblock %}",
    "autoescape": "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "chain": "{{ " + " == ".join("a" * 5000) + " }}",
    "deep source": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "long sum": "{{ " + " + ".join("1" * 9000) + " }}",
    "nested ifs": "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
    "nested loops": "{% for x in [1] %}" * 90 + "{% endfor %}" * 90,
    "break alone": "{% break %}",
    "syntax": "{% if %}",
    "open": "{{ ",
    "no such filter": "{{ 1|nope }}",
    "no such name": "{{ a.b.c }}",
    "zero": "{{ 1 / 0 }}",
    "too long": "a" * (MAX_SOURCE + 1),
}


def rendered(source: str, chat: list[dict[str, Any]] = CHAT, prompt: bool = True, **variables: Any) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(chat, add_generation_prompt=prompt, **variables)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_end_in_a_user_error(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is the process's own, and four times what the longest takes."""
    monkeypatch.setattr(budget, "SECONDS", 0.2)
    start = time.process_time()
    with pytest.raises(UserError, match="chat template"):
        rendered(ATTACKS[attack])
    assert time.process_time() - start < 6


def test_time_is_bounded_as_promised() -> None:
    start = time.process_time()
    with pytest.raises(UserError, match="more than 1 s"):
        rendered(ATTACKS["loops"])
    assert time.process_time() - start < 4


def test_attacks_in_little_memory() -> None:
    """All of them in a process that may not have more than 700 MB of addresses."""
    pytest.importorskip("resource", reason="limits of memory are POSIX's")
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))\n"
        "from raison.errors import UserError\n"
        "from raison.text import budget\n"
        "from tests.text.test_template import ATTACKS, rendered\n"
        "budget.SECONDS = 0.2\n"
        "for name, source in ATTACKS.items():\n"
        "    try:\n        rendered(source)\n"
        "    except UserError as error:\n"
        "        if 'MemoryError' in str(error): sys.exit(name)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_attack_in_a_thread_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "SECONDS", 0.2)
    good = ChatTemplate(QWEN3, "", "")
    expected = good.render(CHAT, add_generation_prompt=True)
    results: list[str] = []

    def attack() -> None:
        with pytest.raises(UserError):
            rendered(ATTACKS["loops"])
        results.append("ended")

    def work() -> None:
        results.extend(good.render(CHAT, add_generation_prompt=True) for _ in range(10))

    threads = [threading.Thread(target=target) for target in (attack, work, work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == sorted(["ended", *[expected] * 20])


def test_state_does_not_leak_from_one_rendering_to_the_next() -> None:
    template = ChatTemplate(
        "{% if messages|length > 1 %}{{ 'a' * 10**10 }}{% endif %}{{ messages[0].content }}", "", ""
    )
    for _ in range(3):
        with pytest.raises(UserError):
            template.render(CHAT, add_generation_prompt=True)
        assert template.render(CHAT[:1], add_generation_prompt=True) == CHAT[0]["content"]


def test_its_own_words_and_its_line() -> None:
    with pytest.raises(UserError, match="refuses the messages: Roles must alternate"):
        rendered("{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(UserError, match="line 3"):
        rendered("a\n\n{{ 1 / 0 }}")
    with pytest.raises(UserError, match="line 2"):
        rendered("a\n{% if %}")


@pytest.mark.parametrize(
    "messages", [[{"role": "user", "content": object()}], ["hi"], [{"role": "user", "content": b""}]]
)
def test_only_plain_data_goes_in(messages: Any) -> None:
    with pytest.raises(UserError, match="message"):
        rendered(CHATML, messages)


def test_known_texts() -> None:
    hello = [{"role": "user", "content": "hi"}]
    start = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    assert rendered(SMOLLM2, hello) == start + "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert rendered(LLAMA_3, hello, prompt=False) == "<s><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
    assert rendered(QWEN3, hello, enable_thinking=False).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_tools_are_written_without_html_escapes() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "<b> & 'é'"}}
    expected = '{"type": "function", "function": {"name": "f", "description": "<b> & \'é\'"}}'
    assert f"<tools>\n{expected}\n</tools>" in rendered(QWEN2_5, tools=[tool])


def test_our_own_template_says_what_our_prompt_says() -> None:
    tokenizer = Tokenizer.build()
    history = [Turn("user", "Make 46"), Turn("assistant", "7")]
    messages = [{"role": turn.role, "content": turn.content} for turn in (*history, Turn("user", "again"))]
    text = ChatTemplate(TEMPLATE, BOS, EOS).render(messages, add_generation_prompt=True)
    assert tokenizer.encode(text) == prompt_ids(tokenizer, "again", history)


def test_an_ordinary_chat_is_rendered_in_a_few_thousand_calls() -> None:
    """2,000 are usual, some 1 ms: bounding what a template may do costs little beside rendering it."""
    template = ChatTemplate(QWEN3, "", "")
    assert calls(lambda: template.render(CHAT, add_generation_prompt=True)) < 6_000


def test_a_long_chat_is_no_attack() -> None:
    chat = [{"role": role, "content": "word " * 400} for role in ("user", "assistant")] * 250
    for source in TEMPLATES.values():
        assert len(rendered(source, chat)) > 10**6


SCRAPS = (
    *(
        "{% for x in range(99999) %}",
        "{% endfor %}",
        "{% if x %}",
        "{% endif %}",
        "{{ ",
        " }}",
        "{% break %}",
        "{#",
        "#}",
    ),
    *(
        "{% set ns.x = ns.x ~ ns.x %}",
        "{% macro m() %}{{ m() }}{% endmacro %}",
        "{%- raw %}",
        "\0",
        "\\",
        "'",
        '"',
        "%",
    ),
    *(" * 10**9", " ~ content", "|join", "[::-1]", ".__class__", "(", ")", "|tojson(indent=9)", "loop(", " recursive"),
    *("not ", " is defined", "word", " ", "\n", "-", "|trim", "|upper", "[0]", " + 1"),
)


def mutated(numbers: random.Random, sources: list[str]) -> str:
    text = numbers.choice(sources)
    for _ in range(numbers.randint(1, 2)):
        a = numbers.randrange(len(text))
        b = a + numbers.choice((1, 1, 2, 5, 40))
        other = numbers.choice(sources)
        at = numbers.randrange(len(other))
        text = numbers.choice(
            (
                text[:a] + text[b:],
                text[:b] + text[a:],
                text[:a] + numbers.choice(SCRAPS) + text[a:],
                text[:a] + numbers.choice(SCRAPS) + text[b:],
                text[:a] + other[at : at + 40] + text[b:],
            )
        )
    return text


def test_2000_damaged_templates_render_or_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "SECONDS", 0.05)
    lines = CONSTRUCTS.split("\n")
    pieces = ("\n".join(lines[i : i + n]) for i, n in ((0, 5), (5, 2), (7, 5), (12, 3)))
    sources = [CHATML, SMOLLM2, LLAMA_3, DEEPSEEK_R1, QWEN3, *pieces]
    numbers = random.Random(0)
    fine = 0
    for _ in range(2000):
        source = mutated(numbers, sources)
        start = time.process_time()
        with contextlib.suppress(UserError):
            fine += isinstance(rendered(source), str)
        assert time.process_time() - start < 4, source
    assert 200 < fine < 1800
