"""Server-sent events out of a stream of octets (WHATWG HTML, section 9.2). No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """One event, with the id that resumes the stream behind it."""

    name: str
    data: str
    last_id: str


@dataclass(slots=True)
class Parser:
    """Takes octets as they come."""

    last_id: str = ""
    retry_ms: int | None = None
    _rest: bytes = b""
    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, octets: bytes) -> list[Event]:
        """The events that `octets` complete."""
        # A CR at the very end may be half of a CRLF: it waits for what follows.
        whole = self._rest + octets
        held = b"\r" if whole.endswith(b"\r") else b""
        text = whole.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        found = [self._line(line.decode("utf-8", "replace")) for line in lines]
        return [event for event in found if event is not None]

    def _line(self, line: str) -> Event | None:
        if not line:
            data, name = self._data, self._name
            self._data, self._name = [], ""
            return Event(name or "message", "\n".join(data), self.last_id) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self.last_id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value)
            case _:
                pass  # a comment, or a field that a later version has
        return None
