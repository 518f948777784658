"""`calls tail`: changes of calls as they happen, through interruptions of the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from control.client import look
from control.client.errors import ClientError
from control.client.link import Link
from control.client.sse import Event, Parser
from control.contract.answers import CallEvent

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 15.0


@dataclass(frozen=True, slots=True)
class Gap:
    """Something was or may have been missed; the text says what."""

    text: str


async def events(link: Link, parameters: Mapping[str, str], last_id: str = "") -> AsyncIterator[Event | Gap]:
    """Events for ever: a stream that ends is taken up again behind its last event. Raises ClientError when it cannot begin at all."""
    parser, wait_s, ever = Parser(last_id), _FIRST_WAIT_S, False
    while True:
        try:
            headers = {"Last-Event-ID": parser.last_id} if parser.last_id else {}
            async with link.ask("/v1/events", parameters, headers=headers, endless=True) as answer:
                ever, wait_s = True, _FIRST_WAIT_S
                parser = Parser(parser.last_id)
                async for octets in answer.content.iter_any():
                    for event in parser.feed(octets):
                        yield event
            reason = "control ended the stream"
        except ClientError as error:
            if not ever:
                raise
            reason = str(error)
        yield Gap(f"{reason}; trying again in {wait_s:g} s")
        await asyncio.sleep(wait_s)
        wait_s = min(_LONGEST_WAIT_S, wait_s * 2)


class Feed:
    """Prints what changed; a change that is told twice, as after a resume, is shown once."""

    def __init__(self, console: Console, *, json: bool) -> None:
        self._console = console
        self._json = json
        self._shown: dict[str, CallEvent] = {}

    def take(self, event: Event) -> CallEvent | None:
        """Show an event; gives the call's state when it was new."""
        if event.name in ("gap", "dropped"):
            look.warn(_reason(event.data))
            return None
        if event.name != "call":
            return None
        try:
            change = CallEvent.model_validate_json(event.data)
        except ValidationError:
            raise ClientError("control's event cannot be read: are both of one version?") from None
        if self._shown.get(change.id) == change:
            return None
        self._shown[change.id] = change
        if self._json:
            self._console.print(event.data, soft_wrap=True)
        else:
            self._console.print(self._line(change), soft_wrap=True)
        return change

    def _line(self, change: CallEvent) -> Text:
        sign, colour = look.OUTCOMES.get(change.outcome, ("?", "red"))
        if not change.ended:
            state = Text("talking" if change.status == 200 else "ringing", "bold green" if change.status == 200 else "blue")
        else:
            good = change.status is not None and change.status < 300
            state = Text(f"ended {change.status if change.status is not None else look.NONE}", "green" if good else "red")
        state.pad_right(max(0, 10 - len(state.plain)))
        wide = self._console.width >= 100
        route = look.plain(change.route or look.NONE)
        return Text.assemble(
            (datetime.now(UTC).astimezone().strftime("%H:%M:%S  "), "dim"),
            (f"{look.plain(change.id)[: 32 if wide else 8]:<{32 if wide else 8}}", "bold"),
            "  ", state, f"  {change.kind:<10}  {route if wide else route[:8]:<8}  {change.turns:>3} turns  ",
            (f"{sign} {change.outcome.replace('_', ' ')}", colour),
        )  # fmt: skip


def _reason(data: str) -> str:
    try:
        told = json.loads(data)
    except ValueError:
        return data
    return str(told.get("reason", data)) if isinstance(told, dict) else data
