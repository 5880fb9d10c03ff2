"""POST /v1/feedback: what a caller, or whoever judges for one, thought of an answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.caller import Caller, CallerLeft, Message
from gateway.feedback import Verdict
from gateway.gateway import Gateway
from gateway.openapi import ERROR
from gateway.wire import openai
from gateway.wire.checks import Check, described, mistyped, number, schema
from providers.errors import InvalidRequest

MAX_BYTES = 64 * 1024
USER = "user"


def _text(least: int, most: int) -> Check:
    """A text of so many characters."""

    def check(name: str, value: Any) -> None:
        if type(value) is not str:
            raise mistyped(name, "a string", value)
        if not least <= len(value) <= most:
            raise InvalidRequest(
                f"Invalid '{name}': expected a text of {least} to {most} characters, but got one of {len(value)}.",
                param=name,
                code="string_above_max_length" if value else "empty_string",
            )

    return described({"type": "string", "minLength": least, "maxLength": most})(check)


CHECKS: dict[str, Check] = {
    "request_id": _text(1, 64),
    "score": number(0.0, 1.0),
    "label": _text(1, 64),
    "by": _text(1, 64),
    "comment": _text(0, 4096),
}

SCHEMA = {
    **schema(CHECKS, "request_id"),
    "anyOf": [{"required": ["score"]}, {"required": ["label"]}],
    "additionalProperties": False,
}

_WORD = {"type": "string"}
FEEDBACK = {
    "type": "object",
    "required": ["id", "object", "request_id", "model", "task", "route", "arm"],
    "properties": {
        **dict.fromkeys(("id", "request_id", "model", "task", "route"), _WORD),
        "object": {"const": "feedback"},
        "arm": {"type": ["string", "null"]},
    },
}


def router(gateway: Gateway) -> APIRouter:
    api = APIRouter(tags=["feedback"])

    @api.post("/v1/feedback", summary="Say how good an answer was", openapi_extra=_DESCRIBED)
    async def feedback(request: Request) -> Response:
        """One verdict of each judge on each answer: a further one takes its place."""
        key_id = gateway.identify(request.scope)
        limit = min(MAX_BYTES, gateway.snapshot.config.server.max_body_bytes)
        try:
            raw = await Caller(request.receive, _silent).body(dict(request.scope["headers"]), limit)
        except CallerLeft:
            return Response(status_code=400)
        verdict = decode(raw)
        kept = await gateway.feedback.judge(verdict, key_id)
        found = kept.answer
        told = {
            "id": kept.id,
            "object": "feedback",
            "request_id": verdict.request_id,
            "model": found.model,
            "task": found.task,
            "route": found.route,
            "arm": found.arm,
        }
        return JSONResponse(told, 201 if kept.new else 200)

    return api


def decode(raw: bytes) -> Verdict:
    """A body. Raises InvalidRequest, naming the parameter."""
    body = {name: value for name, value in openai.parse(raw).items() if value is not None}
    for name, value in body.items():
        check = CHECKS.get(name)
        if check is None:
            raise InvalidRequest(
                f"Unknown parameter: '{name[:64]}'; known ones: {', '.join(CHECKS)}.",
                param=name[:64],
                code="unknown_parameter",
            )
        check(name, value)
    for name, others in (("request_id", ()), ("score", ("label",))):
        if name not in body and body.keys().isdisjoint(others):
            words = " or ".join(f"'{each}'" for each in (name, *others))
            raise InvalidRequest(f"Missing required parameter: {words}.", param=name, code="missing_required_parameter")
    score = body.get("score")
    return Verdict(
        request_id=body["request_id"],
        by=body.get("by", USER),
        score=None if score is None else float(score),
        label=body.get("label"),
        comment=body.get("comment"),
    )


async def _silent(message: Message) -> None:
    """Callers are told by what the endpoint returns."""


def _answer(told: str, schema: Any) -> dict[str, Any]:
    return {"description": told, "content": {"application/json": {"schema": schema}}}


_DESCRIBED: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": SCHEMA}}},
    "responses": {
        "200": _answer("It stands in place of the judge's last one.", FEEDBACK),
        "201": _answer("It is the judge's first one.", FEEDBACK),
        "default": _answer("What went wrong.", ERROR),
    },
}
