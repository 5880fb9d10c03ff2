from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from time import process_time
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import catalog
from providers.base import Batch, Stream
from providers.errors import Unsupported
from providers.lenient import dumps
from providers.prompt_template import LONGEST, Template, Templated, WrongTemplate, compiled
from providers.types import Call, Card, Hints, Json, Model, Reply, Tally, Timeouts

MODEL = Model("local", "vllm", "llama", catalog.lookup("openai", "llama"))
CHATML = """\
{% for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""
TOOLED = "{% if tools %}{{ tools | tojson }}{% endif %}" + CHATML
TOOLS = [{"type": "function", "function": {"name": "look"}}]


class Completing:
    """Completions that say the same to all."""

    def __init__(self, *texts: str) -> None:
        self.asked: list[Call] = []
        self.texts = texts

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        self.asked.append(call)
        choices = [{"index": 0, "text": "".join(self.texts), "logprobs": None, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        body = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "local"}
        return Reply(dumps({**body, "choices": choices, "usage": usage}), Tally(), {}, ("suffix",))

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        self.asked.append(call)

        async def events() -> AsyncIterator[Batch]:
            head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "local"}
            for text in self.texts:
                yield [dumps({**head, "choices": [{"index": 0, "text": text, "finish_reason": None}]})]
            yield [
                dumps({**head, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}),
                dumps(
                    {**head, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
                ),
            ]

        return Stream(events(), lambda: None, Tally(), {}, ())


def a_call(*messages: Json, **fields: Any) -> Call:
    body = {"model": "local", "messages": list(messages) or [{"role": "user", "content": "Hi"}], **fields}
    needs = {"tools": "tools"} if "tools" in fields else {}
    return Call("1", "chat", b"", body, "local", False, False, needs, Hints(), 0.0, 60.0, "")


def sent(template: str, call: Call) -> Json:
    inner = Completing("Hello.")
    asyncio.run(Templated(inner, Template(template)).complete(call, MODEL, Timeouts()))
    return inner.asked[0].body


def test_a_conversation_is_written_as_its_template_says() -> None:
    parts = [{"type": "text", "text": "How "}, {"type": "text", "text": "far?"}]
    call = a_call({"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}, temperature=0.1)
    assert sent(CHATML, call) == {
        "model": "local",
        "temperature": 0.1,
        "max_tokens": 4096,
        "prompt": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHow far?<|im_end|>\n<|im_start|>assistant\n",
    }


def test_the_output_limit_goes_by_the_name_that_completions_have() -> None:
    assert sent(CHATML, a_call(max_completion_tokens=5))["max_tokens"] == 5
    assert sent(CHATML, a_call(max_tokens=5))["max_tokens"] == 5


@pytest.mark.parametrize(
    ("card", "limit"),
    [
        (Card("llama", "openai"), 4096),
        (Card("llama", "openai", max_output=9000), 9000),
        (Card("llama", "openai", max_output=9000, context=100_000), 9000),
        (Card("llama", "openai", context=4096), 4096 - len("user: " + "x" * 994)),
        (Card("llama", "openai", context=1000), 250),
    ],
)
def test_an_answer_without_a_limit_is_not_cut_where_completions_would_cut_it(card: Card, limit: int) -> None:
    inner, template = Completing("Hello."), Template("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}")
    call = a_call({"role": "user", "content": "x" * 994})
    asyncio.run(Templated(inner, template).complete(call, replace(MODEL, card=card), Timeouts()))
    assert inner.asked[0].body["max_tokens"] == limit


def test_what_only_chat_has_is_left_out_and_named() -> None:
    inner = Completing("Hello.")
    call = a_call(reasoning_effort="low", store=False, service_tier="flex")
    reply = asyncio.run(Templated(inner, Template(CHATML)).complete(call, MODEL, Timeouts()))
    assert reply.dropped == ("suffix", "reasoning_effort", "service_tier")
    assert (inner.asked[0].operation, inner.asked[0].needs) == ("completions", {})


def test_a_whole_answer_is_a_chat_answer() -> None:
    reply = asyncio.run(Templated(Completing("Hel", "lo."), Template(CHATML)).complete(a_call(), MODEL, Timeouts()))
    answer = ChatCompletion.model_validate(json.loads(reply.body))
    assert (answer.id, answer.object) == ("chatcmpl-1", "chat.completion")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello.", "stop")
    assert answer.usage is not None


def test_a_stream_is_a_chat_stream() -> None:
    async def read() -> list[bytes]:
        stream = await Templated(Completing("Hel", "lo."), Template(CHATML)).stream(a_call(), MODEL, Timeouts())
        return [data async for batch in stream for data in batch]

    state = ChatCompletionStreamState()
    for data in asyncio.run(read()):
        state.handle_chunk(ChatCompletionChunk.model_validate(json.loads(data)))
    answer = state.get_final_completion()
    assert (answer.choices[0].message.role, answer.choices[0].message.content) == ("assistant", "Hello.")
    assert (answer.choices[0].finish_reason, answer.usage and answer.usage.total_tokens) == ("stop", 2)


def test_tools_are_for_templates_that_write_them() -> None:
    assert sent(TOOLED, a_call(tools=TOOLS))["prompt"].startswith('[{"type": "function"')
    assert sent(TOOLED, a_call(tools=TOOLS, tool_choice="none"))["prompt"].startswith("<|im_start|>")
    assert (Template(TOOLED).takes_tools, Template(CHATML).takes_tools) == (True, False)


@pytest.mark.parametrize(
    ("template", "fields", "param"),
    [
        (CHATML, {"tools": TOOLS}, "tools"),
        (TOOLED, {"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
        (CHATML, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content"),
        ("{{ raise_exception('no') if messages | length == 1 }}" + CHATML, {}, "messages"),
        ("{{ messages[1].content.nothing.at.all if messages | length == 1 }}" + CHATML, {}, "messages"),
    ],
)  # fmt: skip
def test_what_a_template_cannot_write_is_refused(template: str, fields: Json, param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        sent(template, a_call(**fields))
    assert refused.value.param == param


def test_a_template_without_a_place_for_the_system_message_may_say_so() -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    assert "Hi" in Template(refusing).render([{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{% for message in messages %}", "line 1"),
        ("\n{{ messages | nothing }}", "nothing"),
        ("Hello.", "does not write the messages"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{% if 1 %}" * 200 + "{% endif %}" * 200, "indentation"),
        ("{{ " + "(" * 500 + "1" + ")" * 500 + " }}" + CHATML, "recursion"),
        ("{{ x" + ".a" * 9000 + " }}" + CHATML, "recursion"),
        (CHATML + " " * LONGEST, "longer than"),
        ("{{ [1] | slice(20000000) | list }}" + CHATML, "slice"),
        ("{{ (1).to_bytes(999999999, 'big') }}" + CHATML, "unsafe"),
        ("{{ ('x' | safe).ljust(999999999) }}" + CHATML, "unsafe"),
        ("{{ '%999999999d' is divisibleby 1 }}" + CHATML, "int"),
        ("{% set a = namespace() %}{% set a.x = [a, a] %}{{ a }}" + CHATML, "in a list"),
        ("{{ namespace() }}" + CHATML, "written"),
        ("{{ undefined.attribute }}", "undefined"),
        ("{% include 'secrets.txt' %}" + CHATML, "loader"),
        ("{{ ''.__class__.__mro__ }}" + CHATML, "unsafe"),
        ("{{ messages.append(1) }}" + CHATML, "unsafe"),
        ("{{ 'x' * 999999999 }}" + CHATML, "plain numbers"),
        ("{{ 2 ** 999999999 }}" + CHATML, "plain numbers"),
        ("{{ '%999999999d' % 1 }}" + CHATML, "plain numbers"),
        ("{{ 'x'.ljust(999999999) }}" + CHATML, "unsafe"),
        ("{{ '{:>999999999}'.format(1) }}" + CHATML, "unsafe"),
        ("{{ 'x' | center(999999999) }}" + CHATML, "center"),
        (
            "{% for a in range(99999) %}{% for b in range(999) %}" + "x" * 4096 + "{% endfor %}{% endfor %}" + CHATML,
            "more than",
        ),
    ],
)
def test_a_template_that_is_none_is_refused_when_it_is_read(text: str, words: str) -> None:
    with pytest.raises(WrongTemplate, match=words):
        Template(text)


GROWING = {
    "text by ~": ("{% set x = 'xxxxxxxx' %}", "{% set x = x ~ x %}", 22),
    "text by +": ("{% set x = 'xxxxxxxx' %}", "{% set x = x + x %}", 22),
    "text by a block": ("{% set x = 'xxxxxxxx' %}", "{% set x %}{{ x }}{{ x }}{% endset %}", 22),
    "text by replace": ("{% set x = 'x' * 1 if false else 'xxxxxxxx' %}", "{% set x = x | replace('x', x) %}", 9),
    "text by .replace": ("{% set x = 'xxxxxxxx' %}", "{% set x = x.replace('x', x) %}", 9),
    "text by join": ("{% set x = 'xxxxxxxx' %}", "{% set x = x | join(x) %}", 9),
    "text by .join": ("{% set x = 'xxxxxxxx' %}", "{% set x = x.join(x) %}", 9),
    "list by +": ("{% set x = [1] %}", "{% set x = x + x %}", 30),
    "lists in lists": ("{% set x = [1] %}", "{% set x = [x, x] %}", 50),
    "tuples in tuples": ("{% set x = (1, 1) %}", "{% set x = (x, x) %}", 50),
    "mappings in mappings": ("{% set x = {} %}", "{% set x = {'a': x, 'b': x} %}", 50),
    "a number": ("{% set x = 999999999999 %}", "{% set x = x * x %}", 60),
}


@pytest.mark.parametrize("way", GROWING)
def test_nothing_grows_without_a_bound(way: str) -> None:
    start, step, times = GROWING[way]
    Template(start + step + CHATML)
    began = process_time()
    with pytest.raises(WrongTemplate, match=r"more than|longer than"):
        Template(start + step * times + CHATML)
    assert process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) if range(99999) | max < 0 %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        "{{ range(99999)" + " | map('string')" * 99 + " | list | length }}",
    ],
)
def test_nothing_goes_on_without_a_bound(text: str) -> None:
    with pytest.raises(WrongTemplate, match=r"more than|longer than"):
        Template(text + CHATML)


def test_what_takes_long_for_one_conversation_is_refused_for_that_one() -> None:
    slow = (
        "{% if messages | length == 1 %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    )
    template = Template(slow + "{% endif %}" + CHATML)
    with pytest.raises(Unsupported):
        template.render([{"role": "user", "content": "Hi"}], seconds=0.05)


def test_a_long_conversation_is_no_work_for_its_template() -> None:
    messages: list[Json] = [{"role": "user", "content": " " + "x" * 5000}] * 400
    words = "{% set ns = namespace(all=[]) %}{% for m in messages %}{% set ns.all = ns.all + [m.content | trim] %}{% endfor %}"
    assert len(Template(words + "{{ ns.all | join('\n') ~ '\n' }}").render(messages)) == 400 * 5001


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("{{ [1, 'a', none] | tojson }}", '[1, "a", null]'),
        ("{{ messages | map(attribute='role') | join(', ') }}", "system, user"),
        ("{{ messages | join('+', attribute='role') }}", "system+user"),
        ("{{ messages | join(attribute='role') }}", "systemuser"),
        ("{{ ', '.join(['a', 'b']) }}", "a, b"),
        ("{{ 'a-b-c' | replace('-', '+', 1) }}{{ 'a-b'.replace('-', '') }}", "a+b-cab"),
        ("{{ 'a</t>b'.split('</t>')[-1].strip() ~ 1 ~ true }}", "b1True"),
        ("{% for a, b in {'x': 1}.items() %}{{ a }}{{ b }}{{ loop.last }}{{ loop.length }}{% endfor %}", "x1True1"),
        ("{% for m in messages[1:] if m.role == 'user' %}{{ loop.index }}{% endfor %}", "1"),
        ("{% set a, b = 1, 2 %}{{ a + b }}{{ 4 is divisibleby 2 }}{{ 'x' in ['x', 'y'] }}", "3TrueTrue"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{% macro say(m) %}<{{ m.content }}>{% endmacro %}{{ say({'content': 'x'}) | upper }}", "<X>"),
        ("{% for a in [1, 2, 3] %}{% if a == 2 %}{% continue %}{% endif %}{{ a }}{% endfor %}", "13"),
    ],
)
def test_what_templates_are_published_with_works(written: str, text: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert Template(written + "|{{ messages[-1].content }}").render(messages) == text + "|Hi"


def test_a_template_is_compiled_once() -> None:
    assert compiled(CHATML) is compiled(CHATML)


def test_what_a_caller_says_is_never_a_template() -> None:
    said = "{{ 7 * 7 }}{% include 'x' %}"
    assert said in Template(CHATML).render([{"role": "user", "content": said}])


def test_jinja2_is_imported_only_for_a_template() -> None:
    code = "import sys, gateway.app; assert 'jinja2' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
