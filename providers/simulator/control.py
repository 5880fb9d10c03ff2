"""The endpoints under `/control`: the bill, the faults, and the requests that came in."""

from __future__ import annotations

from typing import Any

import orjson

from providers.simulator.bill import Bill, Requests
from providers.simulator.connection import Connection
from providers.simulator.delivery import send_json
from providers.simulator.faults import Faults, InvalidFault


class Control:
    def __init__(self, bill: Bill, faults: Faults, requests: Requests) -> None:
        self.bill = bill
        self.faults = faults
        self.requests = requests

    async def serve(self, connection: Connection, method: str, path: str, raw: bytes) -> None:
        status, answer = self.answer(method, path, raw)
        await send_json(connection, status, answer)

    def answer(self, method: str, path: str, raw: bytes) -> tuple[int, Any]:
        match method, path:
            case "GET", "/health":
                return 200, {"status": "ok"}
            case "GET", "/bill":
                return 200, self.bill.as_json()
            case "DELETE", "/bill":
                self.bill.clear()
            case "GET", "/requests":
                return 200, self.requests.as_json()
            case "DELETE", "/requests":
                self.requests.clear()
            case "GET", "/faults":
                return 200, self.faults.as_json()
            case "PUT", "/faults":
                return self.set_faults(raw)
            case "DELETE", "/faults":
                self.faults.clear()
            case _:
                return 404, {"error": {"message": f"no control endpoint {method} {path}"}}
        return 200, {}

    def set_faults(self, raw: bytes) -> tuple[int, Any]:
        try:
            self.faults.replace(orjson.loads(raw))
        except orjson.JSONDecodeError:
            return 400, {"error": {"message": "the body is not JSON"}}
        except InvalidFault as invalid:
            return 400, {"error": {"message": str(invalid)}}
        return 200, self.faults.as_json()
