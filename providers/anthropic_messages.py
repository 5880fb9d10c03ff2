"""OpenAI's list of messages as Anthropic's `system` and `messages`."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import orjson

from providers.abilities import name_dropped, neutral
from providers.errors import InvalidRequest, Unsupported
from providers.types import Json, Model

IMAGES = {"image/jpeg": "image/jpeg", "image/jpg": "image/jpeg", "image/png": "image/png"} | {
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
FILLER = "."
"""Stands where Anthropic wants a word of the user's and the caller has none."""

_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]")


class Omissions:
    """What is left out or bent, by name. `on_unsupported` and the card's `drops` say when that is allowed."""

    def __init__(self, model: Model, names: list[str]) -> None:
        self._model = model
        self.names = names

    def note(self, name: str) -> None:
        name_dropped(name, self.names)

    def refuse(self, name: str, place: str | None = None, reason: str = "") -> None:
        """Raises Unsupported at `place`, unless `name` may be left out: then it is."""
        if self._model.on_unsupported != "drop" and name not in self._model.card.drops:
            message = f"{self._model.name} does not support {place or name}{reason and ': '}{reason}"
            raise Unsupported(message, param=place or name, code="unsupported_value")
        self.note(name)

    def leave(self, name: str, value: Any) -> None:
        """Notes what is left out, unless the request says the same without it."""
        if not neutral(name, value):
            self.note(name)


class Names:
    """Spellings that Anthropic takes (https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools):
    one name always gets the same one, two names never do."""

    def __init__(self, longest: int | None = None) -> None:
        self._longest = longest
        self._spelled: dict[str, str] = {}
        self._meant: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        found = self._spelled.get(name)
        if found is None:
            found = self._spelled[name] = self.fresh(_UNSAFE.sub("_", name))
            self._meant[found] = name
        return found

    def fresh(self, stem: str) -> str:
        """A spelling that stands for no other name."""
        found = stem[: self._longest]
        count = 1
        while found in self._meant:
            count += 1
            end = f"_{count}"
            found = stem[: self._longest and self._longest - len(end)] + end
        self._meant[found] = found
        return found

    @property
    def changed(self) -> dict[str, str]:
        """The way back, for the names that are spelled differently."""
        return {spelled: name for spelled, name in self._meant.items() if spelled != name}


class Conversation:
    """`system` and `turns` grow message by message: roles alternate, results stand first, right after their calls."""

    def __init__(self, model: Model, names: Names, omissions: Omissions) -> None:
        self.system: list[Json] = []
        self.turns: list[Json] = []
        self.called: dict[str, None] = {}
        """Names of the tools in the history, as they are spelled."""
        self.images = 0
        self._model = model
        self._abilities = model.card.abilities
        self._names = names
        self._ids = Names()
        self._omissions = omissions
        self._calls: dict[str, Json | None] = {}
        """The calls of the last turn, each with its result once that has come."""
        self._caller = ""

    def read(self, messages: Any) -> None:
        items = a_list(messages, "messages")
        if not items:
            raise wrong("is empty", param="messages", code="empty_array")
        for index, item in enumerate(items):
            self._message(an_object(item, f"messages[{index}]"), f"messages[{index}]")
        self._answer_calls()
        self._round_off(items)
        if self._model.card.max_images is not None and self.images > self._model.card.max_images:
            limit = self._model.card.max_images
            raise Unsupported(f"{self._model.name} takes at most {limit} images", param="messages")

    @property
    def prefilled(self) -> bool:
        """Whether the answer is to go on from words put in the assistant's mouth."""
        return bool(self.turns) and self.turns[-1]["role"] == "assistant"

    @property
    def unsigned(self) -> bool:
        """Whether tools were called in the running turn without the thinking that led there."""
        return any(
            turn["content"][0]["type"] not in ("thinking", "redacted_thinking")
            and any(block["type"] == "tool_use" for block in turn["content"])
            for turn in self._running()
        )

    def forget_thinking(self) -> None:
        """Takes thinking out of the running turn, where Anthropic refuses it when thinking is off; earlier thinking it
        passes over."""
        for turn in self._running():
            turn["content"] = [
                block for block in turn["content"] if block["type"] not in ("thinking", "redacted_thinking")
            ]

    def _running(self) -> list[Json]:
        """The assistant's turns since the user last spoke."""
        running = []
        for turn in reversed(self.turns):
            if turn["role"] == "assistant":
                running.append(turn)
            elif turn["role"] == "user" and turn["content"][0]["type"] != "tool_result":
                break
        return running

    def _message(self, message: Json, place: str) -> None:
        match message.get("role"):
            case "system" | "developer":
                self._instruct(self._texts(message.get("content"), f"{place}.content"))
            case "user":
                self._answer_calls()
                self._say("user", self._parts(message.get("content"), f"{place}.content"))
            case "assistant":
                self._answer_calls()
                self._say("assistant", self._assistant(message, place))
            case "tool":
                self._result(message, place)
            case "function":
                raise Unsupported("role 'function' is not supported; use 'tool'", param=f"{place}.role")
            case role:
                raise wrong(f"unknown role {role!r:.40}", param=f"{place}.role")

    def _say(self, role: str, blocks: list[Json]) -> None:
        if not blocks:
            self._omissions.note("messages.content")
            return
        if self.turns and self.turns[-1]["role"] == "system" and role == "user":
            self._hoist(self.turns.pop()["content"])
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def _instruct(self, blocks: list[Json]) -> None:
        """Leading instructions make up `system`. Later ones stay where they are if the model allows it there, after a
        user's turn and before the assistant's or the end; else they are moved to the end of `system`."""
        if not blocks:
            return
        if self._calls and None not in self._calls.values():
            self._answer_calls()
        if not self.turns:
            self.system += blocks
        elif "system_anywhere" in self._abilities and not self._calls and self.turns[-1]["role"] in ("user", "system"):
            self._say("system", blocks)
        else:
            self._hoist(blocks)

    def _hoist(self, blocks: list[Json]) -> None:
        self._omissions.note("messages.role")
        self.system += blocks

    def _assistant(self, message: Json, place: str) -> list[Json]:
        blocks = self._texts(message.get("content"), f"{place}.content")
        refusal = message.get("refusal")
        if not blocks and isinstance(refusal, str) and refusal.strip():
            blocks.append({"type": "text", "text": refusal})
        if message.get("audio") is not None:
            self._omissions.refuse("audio", f"{place}.audio")
        if message.get("function_call") is not None:
            raise Unsupported("function_call is not supported; use tool_calls", param=f"{place}.function_call")
        calls = message.get("tool_calls")
        for index, call in enumerate(a_list(calls, f"{place}.tool_calls") if calls is not None else ()):
            blocks.append(self._call(call, f"{place}.tool_calls[{index}]"))
        if not blocks:
            return []
        self._caller = place
        return _thinking(message.get("reasoning_details"), f"{place}.reasoning_details") + blocks

    def _call(self, value: Any, place: str) -> Json:
        call = an_object(value, place)
        if call.get("type", "function") != "function":
            raise Unsupported("only function tools are supported", param=f"{place}.type")
        id = a_string(call.get("id"), f"{place}.id")
        if not id or id in self._calls:
            raise wrong("a tool call needs an id of its own", param=f"{place}.id")
        function = an_object(call.get("function"), f"{place}.function")
        name = a_string(function.get("name"), f"{place}.function.name")
        if not name:
            raise wrong("a tool call needs a name", param=f"{place}.function.name")
        arguments = function.get("arguments")
        try:
            given = {} if arguments in (None, "") else orjson.loads(a_string(arguments, f"{place}.function.arguments"))
        except orjson.JSONDecodeError:
            given = None
        if not isinstance(given, dict):
            raise wrong("arguments must be a JSON object", param=f"{place}.function.arguments")
        self._calls[id] = None
        spelled = self._names(name)
        self.called[spelled] = None
        return {"type": "tool_use", "id": self._ids(id), "name": spelled, "input": given}

    def _result(self, message: Json, place: str) -> None:
        id = a_string(message.get("tool_call_id"), f"{place}.tool_call_id")
        if id not in self._calls:
            raise wrong("answers no call of the assistant's last turn", param=f"{place}.tool_call_id")
        if self._calls[id] is not None:
            raise wrong("answers a call for the second time", param=f"{place}.tool_call_id")
        result: Json = {"type": "tool_result", "tool_use_id": self._ids(id)}
        content = message.get("content")
        if isinstance(content, str):
            if content.strip():
                result["content"] = content
        elif blocks := self._parts(content, f"{place}.content"):
            result["content"] = blocks
        if isinstance(message.get("is_error"), bool):
            result["is_error"] = message["is_error"]
        self._calls[id] = result

    def _answer_calls(self) -> None:
        """Anthropic wants all results in one user's turn right behind the calls."""
        if not self._calls:
            return
        missing = [id for id, result in self._calls.items() if result is None]
        if missing:
            raise wrong(
                f"no tool message answers the tool calls {', '.join(missing)[:200]}", param=f"{self._caller}.tool_calls"
            )
        results = [result for result in self._calls.values() if result is not None]
        self._calls = {}
        self._say("user", results)

    def _round_off(self, messages: list[Any]) -> None:
        """Both ends: a conversation begins with the user, and ends with the assistant only to be continued."""
        if self.system and (not self.turns or (self.prefilled and messages[-1]["role"] in ("system", "developer"))):
            self._omissions.note("messages.role")
            self._say("user", [self.system.pop()])
        if not self.turns:
            raise wrong("no message has any content", param="messages")
        if self.turns[0]["role"] == "assistant":
            self._omissions.note("messages.role")
            self.turns.insert(0, {"role": "user", "content": [{"type": "text", "text": FILLER}]})
        if self.prefilled:
            last = len(messages) - 1
            if messages[-1]["role"] != "assistant":
                raise wrong("the last message is empty", param=f"messages[{last}].content")
            if "prefill" not in self._abilities:
                raise Unsupported(
                    f"{self._model.name} cannot continue an assistant's message", param=f"messages[{last}].role"
                )
            ending = self.turns[-1]["content"][-1]
            ending["text"] = ending["text"].rstrip()

    def _texts(self, content: Any, place: str) -> list[Json]:
        if content is None or isinstance(content, str):
            return _text(content or "")
        blocks: list[Json] = []
        for index, item in enumerate(a_list(content, place)):
            at = f"{place}[{index}]"
            part = an_object(item, at)
            kind = part.get("type")
            if kind not in ("text", "refusal"):
                raise wrong(f"only text is expected here, not {kind!r:.40}", param=f"{at}.type")
            blocks += self._marked(_text(a_string(part.get(kind), f"{at}.{kind}")), part, at)
        return blocks

    def _parts(self, content: Any, place: str) -> list[Json]:
        if content is None or isinstance(content, str):
            return _text(content or "")
        blocks: list[Json] = []
        for index, item in enumerate(a_list(content, place)):
            at = f"{place}[{index}]"
            part = an_object(item, at)
            match part.get("type"):
                case "text":
                    found = _text(a_string(part.get("text"), f"{at}.text"))
                case "image_url":
                    found = self._image(part, at)
                case "file":
                    found = self._file(part, at)
                case "input_audio":
                    self._omissions.refuse("input_audio", f"{at}.input_audio")
                    found = []
                case kind:
                    raise wrong(f"unknown content type {kind!r:.40}", param=f"{at}.type")
            blocks += self._marked(found, part, at)
        return blocks

    def _marked(self, blocks: list[Json], part: Json, place: str) -> list[Json]:
        if "prompt_cache_breakpoint" in part:
            self._omissions.note("prompt_cache_breakpoint")
        if blocks and part.get("cache_control") is not None:
            blocks[-1]["cache_control"] = cache_control(part["cache_control"], f"{place}.cache_control")
        return blocks

    def _image(self, part: Json, place: str) -> list[Json]:
        place = f"{place}.image_url"
        url = a_string(an_object(part.get("image_url"), place).get("url"), f"{place}.url")
        place = f"{place}.url"
        if data := _DATA_URL.match(url):
            kind = data[1].lower()
            if kind == "application/pdf":
                return self._document(url, data, place, None)
            if "image" not in self._abilities:
                self._omissions.refuse("image", place)
                return []
            if kind not in IMAGES or not _is_base64(data, url):
                raise wrong("images must be base64 of a jpeg, png, gif or webp", param=place, code="invalid_value")
            source = {"type": "base64", "media_type": IMAGES[kind], "data": url[data.end() :]}
        elif "image_url" not in self._abilities:
            self._omissions.refuse("image_url", place)
            return []
        elif url[:8].lower() == "https://":
            source = {"type": "url", "url": url}
        elif url[:7].lower() == "http://":
            raise Unsupported("images must come from an https URL", param=place, code="invalid_value")
        else:
            raise wrong("must be an https or data URL", param=place, code="invalid_value")
        self.images += 1
        return [{"type": "image", "source": source}]

    def _file(self, part: Json, place: str) -> list[Json]:
        place = f"{place}.file"
        file = an_object(part.get("file"), place)
        if file.get("file_data") is None and file.get("file_id") is not None:
            raise Unsupported("files stored with another vendor cannot be read", param=f"{place}.file_id")
        place = f"{place}.file_data"
        url = a_string(file.get("file_data"), place)
        data = _DATA_URL.match(url)
        if data is None:
            raise wrong("must be a data URL", param=place, code="invalid_value")
        return self._document(url, data, place, file.get("filename"))

    def _document(self, url: str, data: re.Match[str], place: str, title: Any) -> list[Json]:
        if "file" not in self._abilities:
            self._omissions.refuse("file", place)
            return []
        kind = data[1].lower()
        if kind not in ("application/pdf", "text/plain") or not _is_base64(data, url):
            raise wrong("files must be base64 of a PDF or plain text", param=place, code="invalid_value")
        content = url[data.end() :]
        block: Json = {
            "type": "document",
            "source": {"type": "base64", "media_type": kind, "data": content},
        }
        if kind == "text/plain":
            try:
                text = base64.b64decode(content, validate=True).decode()
            except (binascii.Error, ValueError):
                raise wrong("is not base64 of UTF-8 text", param=place, code="invalid_value") from None
            block["source"] = {"type": "text", "media_type": kind, "data": text}
        if isinstance(title, str) and title:
            block["title"] = title
        return [block]


def cache_control(value: Any, place: str) -> Json:
    """A cache marker as Anthropic's own callers write it."""
    marker = an_object(value, place)
    if marker.get("type") != "ephemeral" or marker.get("ttl", "5m") not in ("5m", "1h"):
        raise wrong("must be {'type': 'ephemeral'} with a ttl of 5m or 1h", param=place)
    return {key: marker[key] for key in ("type", "ttl") if key in marker}


def wrong(text: str, *, param: str, code: str | None = None) -> InvalidRequest:
    return InvalidRequest(f"{param}: {text}", param=param, code=code)


def a_list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise wrong("must be an array", param=place)
    return value


def an_object(value: Any, place: str) -> Json:
    if not isinstance(value, dict):
        raise wrong("must be an object", param=place)
    return value


def a_string(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise wrong("must be a string", param=place)
    return value


def _text(text: str) -> list[Json]:
    # Blocks that are empty or blank are refused with a 400.
    return [{"type": "text", "text": text}] if text.strip() else []


def _thinking(details: Any, place: str) -> list[Json]:
    """The thinking that an earlier answer bore in `reasoning_details`, unchanged; without a signature it is refused."""
    blocks: list[Json] = []
    for item in a_list(details, place) if details is not None else ():
        match item:
            case {"type": "thinking", "thinking": str(thinking), "signature": str(signature)} if signature:
                blocks.append({"type": "thinking", "thinking": thinking, "signature": signature})
            case {"type": "redacted_thinking", "data": str(data)} if data:
                blocks.append({"type": "redacted_thinking", "data": data})
    return blocks


def _is_base64(data: re.Match[str], url: str) -> bool:
    return data[2].lower().endswith(";base64") and len(url) > data.end()
