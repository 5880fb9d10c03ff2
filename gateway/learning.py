"""What a call that has ended teaches about the model that served it."""

from __future__ import annotations

from gateway.record import Record
from routing.outlook import Outlook


class Learning:
    """Listens to settled records: how fast and how long answers are, what they cost, and where a conversation is."""

    def __init__(self, outlook: Outlook) -> None:
        self._outlook = outlook

    def settled(self, record: Record) -> None:
        journey, call = record.journey, record.call
        if journey is None or journey.flight is None:
            return
        flight, served = journey.flight, journey.served
        if call is None or served is None or record.error is not None or record.cancelled or record.estimated:
            flight.ended()
            return
        ended = record.ended if call.stream or record.answered is None else record.answered
        flight.done(record.usage.output, ended)
        self._outlook.settled(served.name, call.task, call.chars, record.usage, record.ended, journey.plan.conversation)
