"""What a vendor's dialect is; each file beside this one is one.

A dialect checks a request as its vendor would, asks `compose` what to say, and renders that in the vendor's shapes.
To add an endpoint, name its path in the dialect's `endpoints` and write the method that turns a `Call` into a `Reply`.
"""

from __future__ import annotations

import hashlib
import random
import string
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from providers.simulator.bill import Usage
from providers.simulator.compose import Answer, Wish, compose
from providers.simulator.models import Model
from providers.simulator.prompt_cache import PromptCache

Headers = list[tuple[str, str]]
REMEMBERED_ANSWERS = 256
_ALPHABET = string.ascii_letters + string.digits
_DELIVERY_ONLY = frozenset(
    {"stream", "stream_options", "diffusing", "reasoning_summary", "reasoning_summary_wait", "logprobs", "top_logprobs"}
)


class Refusal(Exception):
    """The vendor answers with an error."""

    def __init__(
        self, status: int, message: Any, type: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.headers: Headers = []


@dataclass(frozen=True)
class World:
    """What all requests to one simulator share."""

    seed: int
    cache: PromptCache = field(default_factory=PromptCache)
    answers: dict[tuple[int, int], Answer] = field(default_factory=dict)
    """What was said lately, because composing it is most of the work and load tests repeat themselves."""

    @property
    def secret(self) -> bytes:
        return f"simulator/{self.seed}".encode()


@dataclass
class Call:
    """One request that bears a model."""

    world: World
    number: int
    headers: Mapping[str, str]
    body: dict[str, Any]
    requested: str
    model: Model
    withhold_usage: bool = False
    digest: int = 0

    def __post_init__(self) -> None:
        asked = {name: value for name, value in self.body.items() if name not in _DELIVERY_ONLY and name != "model"}
        text = orjson.dumps([self.world.seed, self.model.id, asked], option=orjson.OPT_SORT_KEYS)
        self.digest = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

    def random(self, salt: int = 0) -> random.Random:
        return random.Random(self.digest + salt)

    def compose(self, wish: Wish, choice: int = 0) -> Answer:
        answers = self.world.answers
        key = (self.digest, choice)
        if key not in answers:
            if len(answers) >= REMEMBERED_ANSWERS:
                answers.clear()
            answers[key] = compose(wish, self.random(choice))
        return answers[key]

    def one_in(self, many: int, name: str) -> bool:
        """True for one in so many requests, always the same ones."""
        return (self.digest ^ zlib.crc32(name.encode())) % many == 0

    def identifier(self, prefix: str, length: int, salt: int = 0) -> str:
        """Unique to this request."""
        source = random.Random(self.digest ^ (self.number * 1_000_003 + salt) << 20)
        return prefix + "".join(source.choices(_ALPHABET, k=length))


@dataclass(frozen=True)
class Event:
    data: bytes
    tokens: int
    """Output tokens generated once this event is out."""
    terminal: bool = False
    """Whether it is the vendor's word for the end: `[DONE]`, `message_stop`."""


@dataclass(frozen=True)
class Reply:
    id: str
    usage: Usage | None
    """None for what the vendor does not charge for."""
    body: Any = None
    events: Sequence[Event] | None = None
    """The stream, where one was asked for."""


Endpoint = Callable[[Call], Reply]


class Dialect(Protocol):
    vendor: str
    models: Mapping[str, Model]
    endpoints: Mapping[str, Endpoint]
    broken_event: bytes

    def authenticate(self, headers: Mapping[str, str]) -> None: ...

    def look_up(self, path: str, query: Mapping[str, str]) -> Any:
        """Answers a GET."""

    def find(self, body: dict[str, Any]) -> Model: ...

    def failure(self, status: int, code: str | None) -> Refusal:
        """The vendor's usual error of that status."""

    def unreadable(self) -> Refusal: ...

    def render_error(self, refusal: Refusal, request_id: str) -> Any: ...

    def stream_error(self, code: str | None) -> bytes: ...

    def headers(self, call: Call | None, request_id: str, usage: Usage | None) -> Headers: ...


def data(value: Any) -> bytes:
    """One data-only event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def envelope(refusal: Refusal) -> dict[str, Any]:
    """An error in OpenAI's shape, which Inception's is too."""
    named = {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": refusal.code}
    return {"error": named}


def text_of(content: Any) -> str:
    """What is written in a message's content, be it a text or parts."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or () if isinstance(part, dict))


def misshapen(body: Mapping[str, Any], shapes: Mapping[str, type | tuple[type, ...]]) -> str | None:
    """The first field that is not of the type it must be; null is as good as absent."""
    for name, shape in shapes.items():
        if body.get(name) is not None and not isinstance(body[name], shape):
            return name
    return None


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
