"""Reads a YAML 1.2 document as plain data, and remembers where everything stands.

A scalar is its text, or None where it is empty: what the text means is up to the field it stands in. So `on`, `1.10`
and `0.025` arrive as they were written, and no price ever passes through a float. `${VAR}` and `${VAR:-default}` are
filled in here, in values only and after parsing, so that no variable can add structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]
"""Where in the data: keys of mappings and indices of lists, from the top."""

MAX_BYTES = 1024 * 1024
MAX_NODES = 200_000
"""Aliases count as often as they are used: ten short lines can stand for a billion values."""
MAX_DEPTH = 64
ECHO = 80
"""How much of a value messages repeat at most."""

_TAGS = frozenset(f"tag:yaml.org,2002:{word}" for word in ("str", "int", "float", "bool", "null", "timestamp", "merge"))
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_VARIABLE = re.compile(
    r"(?P<escape>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<wrong>[^}]*\}?))"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth a word, and where."""

    file: str
    line: int
    column: int
    path: str
    """`models.mercury.prices.input`, `routes[0].candidates[1]`; empty where it concerns the text as such."""
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        words = (self.path, self.message) if self.path else (self.message,)
        level = ("warning",) if self.severity == "warning" else ()
        return ": ".join((f"{self.file}:{self.line}:{self.column}", *level, *words))


@dataclass(slots=True)
class Document:
    """What a text says. `problems` are all errors; `data` is what could be read in spite of them."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Line and column, both from 1: of the key in a mapping, of the item itself in a list."""
    unset: set[Path] = field(default_factory=set)
    """Values that are unknown, because a variable is."""
    problems: list[Problem] = field(default_factory=list)
    filled: set[str] = field(default_factory=set)
    """What variables stood for: likely secrets, so never to be repeated in a message."""

    def problem(self, path: Path, message: str, severity: Literal["error", "warning"] = "error") -> Problem:
        """A problem at `path`, or at the nearest place above it that is in the text."""
        place = path
        while place and place not in self.marks:
            place = place[:-1]
        line, column = self.marks.get(place, (1, 1))
        for text in sorted(self.filled, key=len, reverse=True):
            message = message.replace(text, "***").replace(text[:ECHO], "***")
        return Problem(self.name, line, column, spell(path), message, severity)


def spell(path: Path) -> str:
    """`("routes", 0, "candidates", 1)` as `routes[0].candidates[1]`."""
    words = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(words).removeprefix(".")


def read(text: str | bytes, name: str, environ: Mapping[str, str]) -> Document:
    """The document in `text`; never raises for what stands in it."""
    document = Document(name)
    if len(text) > MAX_BYTES:
        document.problems.append(Problem(name, 1, 1, "", f"is larger than {MAX_BYTES} bytes"))
        return document
    if isinstance(text, bytes):
        raw = text
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = raw[: error.start]
            line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            document.problems.append(Problem(name, line, column, "", "is not UTF-8"))
            return document
    root = _compose(text, document)
    if document.problems:
        return document
    if root is None or _is_null(root):
        document.problems.append(Problem(name, 1, 1, "", "is empty; the smallest file says `version: 1`"))
    elif not isinstance(root, MappingNode):
        line, column = _mark(root)
        document.problems.append(Problem(name, line, column, "", "must be a mapping of keys to values at the top"))
    else:
        reader = _Reader(document, environ)
        try:
            document.data = reader.mapping(root, ())
        except _TooMuch as error:
            document.problems.append(document.problem(error.path, str(error)))
    return document


def _compose(text: str, document: Document) -> Node | None:
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False
    try:
        node: Node | None = yaml.compose(text)
        return node
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        document.problems.append(Problem(document.name, line, column, "", _plainly(error, text, line)))
    except RecursionError:
        document.problems.append(Problem(document.name, 1, 1, "", "is nested too deeply"))
    except Exception as error:  # on broken text the parser also fails with errors that are not its own
        position = getattr(error, "position", None)
        position = position if isinstance(position, int) else 0
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)
        what = "holds a character that YAML does not allow" if hasattr(error, "character") else "cannot be read as YAML"
        document.problems.append(Problem(document.name, line, column, "", what))
    return None


def _plainly(error: MarkedYAMLError, text: str, line: int) -> str:
    problem = str(error.problem or error.context or "cannot be read").strip()
    lines = text.splitlines()
    here = lines[line - 1] if line <= len(lines) else ""
    before = lines[line - 2] if 2 <= line <= len(lines) + 1 else ""
    if "\t" in here[: len(here) - len(here.lstrip())] or "'\\t'" in problem:
        return "not valid YAML: a tab where only spaces may indent"
    if "but found another document" in problem or "expected a single document" in str(error):
        return "holds more than one document; only one is read"
    hint = '; inside {...} a variable needs quotes: "${NAME}"' if re.search(r"[^\"'\w]\$\{", here or before) else ""
    return f"not valid YAML: {problem}{hint}"


def _mark(node: Node) -> tuple[int, int]:
    mark = node.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and str(node.tag).endswith(":null") and node.value in _NULLS


class _TooMuch(Exception):
    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class _Reader:
    """Turns nodes into data, and notes what is wrong with them on the way."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self.document = document
        self.environ = environ
        self.nodes = 0

    def complain(self, path: Path, message: str) -> None:
        self.document.problems.append(self.document.problem(path, message))

    def value(self, node: Node, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise _TooMuch("stands for too many values, or is nested too deeply", path[:8])
        if isinstance(node, MappingNode):
            self.check_tag(node, path, "tag:yaml.org,2002:map")
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            self.check_tag(node, path, "tag:yaml.org,2002:seq")
            return list(self.items(node, path))
        if not isinstance(node, ScalarNode) or str(node.tag) not in _TAGS:
            self.complain(path, f"tags such as {_short(node)} are not taken")
            return None
        if _is_null(node):
            return None
        return self.fill(self.text(node, path), path)

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.document.marks.setdefault((*path, "?"), _mark(key_node))
                self.complain((*path, "?"), "a key must be a word")
                continue
            key = self.text(key_node, path)
            here = (*path, key)
            if key in data:
                line, column = _mark(key_node)
                first = self.document.marks[here][0]
                self.document.problems.append(
                    Problem(self.document.name, line, column, spell(here), f"is there twice; first in line {first}")
                )
                continue
            self.document.marks[here] = _mark(key_node)
            if key == "<<":
                self.complain(here, "merge keys are not YAML 1.2; write the keys out")
                continue
            data[key] = self.value(value_node, here)
        return data

    def items(self, node: SequenceNode, path: Path) -> Iterator[Any]:
        for index, item in enumerate(node.value):
            here = (*path, index)
            self.document.marks[here] = _mark(item)
            yield self.value(item, here)

    def check_tag(self, node: Node, path: Path, plain: str) -> None:
        if str(node.tag) != plain:
            self.complain(path, f"tags such as {_short(node)} are not taken")

    def text(self, node: ScalarNode, path: Path) -> str:
        text = str(node.value)
        if _CONTROL.search(text):
            self.complain(path, "holds a control character")
            return _CONTROL.sub("?", text)
        return text

    def fill(self, text: str, path: Path) -> str:
        if "${" not in text:
            return text

        def remember(found: str) -> str:
            if len(found) >= 6:
                self.document.filled.add(found)
            return found

        def replace(match: re.Match[str]) -> str:
            if match["escape"]:
                return "${"
            if match["name"] is None:
                self.complain(path, "not a variable: write ${NAME} or ${NAME:-default}, and $${ for a plain ${")
                self.document.unset.add(path)
                return ""
            found = self.environ.get(match["name"])
            if match["default"] is not None:
                return remember(found) if found else match["default"]
            if found is None:
                self.complain(path, f"the variable {match['name']} is not set; ${{{match['name']}:-}} would allow that")
                self.document.unset.add(path)
                return ""
            return remember(found)

        return _VARIABLE.sub(replace, text)


def _short(node: Node) -> str:
    return str(node.tag).replace("tag:yaml.org,2002:", "!!")[:40]
