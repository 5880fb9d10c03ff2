"""Where templates run: Jinja2's sandbox, with a bound on what they do.

Whatever a template can do again and again is metered: a turn of a loop, a call, a filter, a test, an attribute, an
operator. So is every text and list that it makes. A meter that is used up ends the rendering; between two of its looks
at the clock lies no more than one operation on values of a bounded size.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from time import thread_time
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

_METHODS = frozenset(
    {
        *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal"),
        *("isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip", "partition"),
        *("removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split"),
        *("splitlines", "startswith", "strip", "swapcase", "title", "upper", "copy", "get", "items", "keys", "values"),
    }
)
_FILTERS = frozenset(
    {
        *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "int"),
        *("items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace"),
        *("reverse", "safe", "select", "selectattr", "sort", "string", "title", "trim", "unique", "upper", "urlencode"),
        *("wordcount",),
    }
)
_DATA = (str, bytes, int, float, list, tuple, dict, range, Undefined)
_PLAIN = (str, int, float, list, tuple, dict, range, Undefined, type(None))


class TooMuch(Exception):
    """A template that makes or does more than it may."""


class Meter:
    """What one rendering has left: `size` of characters and items that it may make, and `seconds` of the processor."""

    def __init__(self, size: int, seconds: float) -> None:
        self._size = self._left = size
        self._seconds = seconds
        self._until = thread_time() + seconds

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooMuch(f"makes more than {self._size} characters and items of what it is given")
        if thread_time() > self._until:
            raise TooMuch(f"takes longer than {self._seconds} s")

    def hold(self, value: Any, deep: bool = False) -> Any:
        """A value that was just made: paid for as it is, and no larger than all that may be made with what is in it."""
        whole = weight(value, self._size)
        self.take(whole if deep or not isinstance(value, list | tuple | dict) else 1 + len(value))
        return value


meter: ContextVar[Meter] = ContextVar("meter")


def weight(value: Any, most: int) -> int:
    """The characters and items in `value`, each as often as it is there. Raises TooMuch above `most`."""
    total, rest = 0, [value]
    while rest:
        each = rest.pop()
        total += 1
        if isinstance(each, str | range):
            total += len(each)
        elif isinstance(each, int):
            total += each.bit_length() >> 3
        elif isinstance(each, list | tuple):
            rest.extend(each)
        elif isinstance(each, dict):
            rest.extend(each)
            rest.extend(each.values())
        elif each is not value and not isinstance(each, _PLAIN):
            raise SecurityError(f"a {type(each).__name__} cannot be in a list")
        if total + len(rest) > most:
            raise TooMuch(f"makes more than {most} characters and items of what it is given")
    return total


def _metered(filter: Callable[..., Any]) -> Callable[..., Any]:
    """The filter or test with what it makes paid for: all at once, or one by one where it is an iterator."""

    @functools.wraps(filter)
    def run(*args: Any, **kwargs: Any) -> Any:
        made = filter(*args, **kwargs)
        return _each(made) if isinstance(made, Iterator) else meter.get().hold(made)

    return run


def _each(values: Iterable[Any]) -> Iterator[Any]:
    now = meter.get()
    for value in values:
        now.take(1)
        yield value


def _joined(pieces: Iterable[Any]) -> str:
    now, said = meter.get(), list[str]()
    for piece in pieces:
        said.append(_text(piece))
        now.take(1 + len(said[-1]))
    return "".join(said)


def _text(value: Any) -> str:
    """As it is written. Only what is bounded in size is."""
    if not isinstance(value, _PLAIN):
        raise SecurityError(f"a {type(value).__name__} cannot be written")
    return str(value)


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = _text(text), _text(old), _text(new)
    meter.get().take(len(text) + text.count(old) * len(new))
    return str(text.replace(old, new, -1 if count is None else count))


def _json(value: Any, indent: int | None = None) -> str:
    # Jinja2's own is for HTML.
    encoder = json.JSONEncoder(ensure_ascii=False, indent=None if indent is None else min(indent, 8))
    return _joined(encoder.iterencode(value))


def _join(values: Iterable[Any], between: Any = "", attribute: Any = None) -> str:
    return _joined(_between(values, between, attribute))


def _between(values: Iterable[Any], between: Any, attribute: Any) -> Iterator[Any]:
    for at, value in enumerate(values):
        if at:
            yield between
        yield value if attribute is None else value[attribute]


def _divisible(number: Any, by: Any) -> bool:
    return int(number) % int(by) == 0


class _Marked(NodeTransformer):
    """Hands what has no hook of its own to a filter, by names that no template can write."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, " each")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.Tuple(node.nodes, "load", lineno=node.lineno), " joined")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx == "store" else _filtered(node, " held")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, " held")

    visit_Dict = visit_List


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """Also without what makes a long text of a short one, and metered."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(_joined)

    def __init__(self, refuse: Callable[[str], None]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], finalize=_text)
        usual = self.globals
        self.globals = {name: usual[name] for name in ("range", "dict", "namespace")} | {"raise_exception": refuse}
        filters = {name: each for name, each in self.filters.items() if name in _FILTERS}
        filters |= {"tojson": _json, "join": _join, "replace": _replace}
        filters |= {" each": iter, " held": lambda value: value, " joined": _joined}
        self.filters = {name: _metered(each) for name, each in filters.items()}
        tests: dict[str, Any] = {**self.tests, "divisibleby": _divisible}
        self.tests = {name: _metered(each) for name, each in tests.items()}

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Marked().visit(source), *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = all(isinstance(each, int | float) for each in (left, right))
        if operator == "**" or (operator != "+" and not numbers):
            raise SecurityError(f"{operator} is for plain numbers only")
        return meter.get().hold(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __called: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(__called, "__self__", None)
        if isinstance(owner, str):
            if __called.__name__ == "join":
                return _join(_each(*args), owner)
            if __called.__name__ == "replace":
                return _replace(owner, *args, **kwargs)
        meter.get().take(1)
        made = super().call(__context, __called, *args, **kwargs)
        return meter.get().hold(made, deep=isinstance(owner, str))

    def getattr(self, obj: Any, attribute: str) -> Any:
        meter.get().take(1)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        meter.get().take(1)
        return super().getitem(obj, argument)

    def wrap_str_format(self, value: Any) -> None:
        """Without it `format` is an attribute like any other."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, _DATA) and attr not in _METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)
