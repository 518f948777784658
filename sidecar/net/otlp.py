"""Sends finished calls as OpenTelemetry traces over OTLP/HTTP, from a thread of its own.

`finished` returns at once: calls wait in a bounded queue, and every call that did not arrive is counted. The OpenTelemetry packages are
imported when `start` is called, so a sidecar without an endpoint does not pay for them. Their own environment variables hold (OTLP headers,
certificates, compression, resource attributes), but for the endpoint and the name of the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import structlog

from sidecar.identity import trace_context
from sidecar.identity.trace_context import TraceContext
from sidecar.net.errors import StartError
from sidecar.trace import spans

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import SpanContext

log = structlog.get_logger()

SERVICE: Final = "trunkside-sidecar"
CAPACITY: Final = 1000
"""Calls that may wait."""
_LOGGER: Final = "opentelemetry"
"""Under which the packages log."""


def traces_url(endpoint: str) -> str:
    """Where traces are posted: `endpoint` itself, or with `/v1/traces` when it has no path (OTLP/HTTP). ValueError says what is wrong."""
    try:
        parts = urlsplit(endpoint.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ValueError(f"{endpoint!r}: {error}") from None
    if not usable or parts.fragment:
        raise ValueError(f"{endpoint!r} is not of the form http://collector:4318")
    return urlunsplit(parts._replace(path=parts.path if parts.path.strip("/") else "/v1/traces"))


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    timeout: float = 10.0
    """For one call's trace, retries of a server that is busy or away included."""
    flush: float = 3.0
    """At the end, for what still waits."""


class CallExporter:
    """One collector. `start` it, hand it the lines of finished traces, `stop` it."""

    def __init__(self, endpoint: str, name: str, *, capacity: int = CAPACITY, pace: Pace | None = None) -> None:
        """`endpoint` as `traces_url` reads it (raises ValueError); `name` is the sidecar's, sent as service.instance.id."""
        self.url = traces_url(endpoint)
        self._name = name
        self._pace = pace or Pace()
        self._queue: queue.Queue[list[bytes] | None] = queue.Queue(capacity)
        self._thread: threading.Thread | None = None
        self._exporter: SpanExporter | None = None
        self._stopping = False
        self._last_words = _LastWords()
        self._reachable: bool | None = None
        self._trouble: str | None = None
        self.exported = 0
        """Calls that the collector took."""
        self.failed = 0
        """Calls that it did not take, or whose trace could not be read."""
        self.dropped = 0
        """Calls that the full queue had no room for, or that were left at the end."""

    async def start(self) -> None:
        """Load what is needed and begin to send. An unreachable collector is no error; raises StartError for a senseless environment."""
        if self._thread is None:
            # With a handler of ours the packages' complaints do not reach stderr one by one; the last is told when the link changes.
            logging.getLogger(_LOGGER).addHandler(self._last_words)
            try:
                resource = await asyncio.to_thread(self._load)
            except (ValueError, RuntimeError) as error:
                logging.getLogger(_LOGGER).removeHandler(self._last_words)
                raise StartError(f"otlp: the environment's OTEL_… variables cannot be used: {error}") from error
            if self._last_words.text is not None:
                log.warning("otlp set up with a complaint", detail=self._last_words.text)
            # A daemon: a collector that never answers must not keep the process alive.
            self._thread = threading.Thread(target=self._run, args=(resource,), name="otlp", daemon=True)
            self._thread.start()

    async def stop(self) -> None:
        """Send what waits, for at most `Pace.flush` seconds, and end. Calling it again is harmless."""
        thread, self._thread = self._thread, None
        self._stopping = True
        if thread is None or self._exporter is None:
            return
        await asyncio.to_thread(self._finish, thread, self._exporter)

    def finished(self, lines: list[bytes]) -> None:
        """Send one call, given the lines of its whole trace. Never blocks, never raises; without room in the queue the call is dropped."""
        if self._stopping:
            self.dropped += 1
            return
        try:
            self._queue.put_nowait(lines)
        except queue.Full:
            self.dropped += 1

    def describe(self) -> dict[str, object]:
        """State of the link and counts, for the admin API. What the URL holds of credentials is left out."""
        parts = urlsplit(self.url)
        return {
            "url": urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="")),
            "link": "unknown" if self._reachable is None else "up" if self._reachable else "away",
            "trouble": self._trouble,
            "waiting": self._queue.qsize(),
            "exported": self.exported,
            "failed": self.failed,
            "dropped": self.dropped,
        }

    # -- off the event loop ------------------------------------------------------------------------------------------------------------

    def _load(self) -> Resource:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource

        self._exporter = OTLPSpanExporter(endpoint=self.url, timeout=self._pace.timeout)
        return Resource.create({"service.name": SERVICE, "service.instance.id": self._name})

    def _run(self, resource: Resource) -> None:
        """Export one call after the other, until told to end."""
        while (lines := self._queue.get()) is not None:
            self._export(lines, resource)

    def _export(self, lines: list[bytes], resource: Resource) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            made = spans.tree(spans.read(lines))
        except ValueError as error:
            self.failed += 1
            log.error("a trace cannot be exported", detail=str(error).partition("\n")[0])
            return
        if made is None or self._exporter is None:
            self.failed += 1
            log.error("a trace cannot be exported", detail="it does not begin with call_started")
            return
        if self._exporter.export(readable(made, resource)) is SpanExportResult.SUCCESS:
            self.exported += 1
            self._note(True, None)
        else:
            self.failed += 1
            self._note(False, self._last_words.text)

    def _finish(self, thread: threading.Thread, exporter: SpanExporter) -> None:
        """Blocking: let the thread come to its end, or leave it behind."""
        deadline = time.monotonic() + self._pace.flush
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=self._pace.flush)
        thread.join(max(0.0, deadline - time.monotonic()))
        while True:
            try:
                self.dropped += self._queue.get_nowait() is not None
            except queue.Empty:
                break
        if thread.is_alive():
            self._queue.put_nowait(None)
            exporter.shutdown()  # cuts a wait between two tries short
            thread.join(0.1)
        else:
            exporter.shutdown()
        logging.getLogger(_LOGGER).removeHandler(self._last_words)

    def _note(self, reachable: bool, trouble: str | None) -> None:
        """One line when the link changes, however often it is tried."""
        self._trouble = trouble
        if reachable == self._reachable:
            return
        self._reachable = reachable
        url = self.describe()["url"]
        if reachable:
            log.info("collector takes traces", url=url)
        else:
            log.warning("collector does not take traces", url=url, detail=trouble, consequence="calls go on; their spans are lost")


class _LastWords(logging.Handler):
    """Keeps what the packages said last, which is all that the exporter tells of a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's text."""
        self.text = record.getMessage()


def readable(made: spans.SpanTree, resource: Resource) -> list[ReadableSpan]:
    """A call's spans as the exporter takes them, with the ids and times that they have."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanKind
    from opentelemetry.trace.status import Status, StatusCode

    contexts = [_context(TraceContext(made.trace_id, trace_context.span_id(made.trace_id, n), True)) for n in range(len(made.spans))]
    scope = InstrumentationScope("trunkside.sidecar")
    return [
        ReadableSpan(
            span.name,
            context=context,
            parent=None if span.parent is None else contexts[span.parent],
            resource=resource,
            attributes=span.attributes,
            links=[Link(_context(link.context, remote=True), {"trunkside.party": link.party}) for link in span.links],
            kind=SpanKind.SERVER if span.parent is None else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.detail) if span.status == "error" else Status(StatusCode.UNSET),
            start_time=_nanoseconds(span.start),
            end_time=_nanoseconds(span.end),
            instrumentation_scope=scope,
        )
        for span, context in zip(made.spans, contexts, strict=True)
    ]


def _context(context: TraceContext, *, remote: bool = False) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=remote, trace_flags=flags)


def _nanoseconds(wall: float) -> int:
    """Seconds since the epoch in whole microseconds, which is as fine as they are known."""
    return round(wall * 1_000_000) * 1000
