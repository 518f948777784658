"""Structured logs on stderr: readable on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from control.contract.logs import name_trace

TRACEBACKS = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
"""Where it happened, and no variables: a frame of a digest calculation holds a password."""


@cache
def _encoder(default: Callable[[Any], Any]) -> json.JSONEncoder:
    return json.JSONEncoder(default=default)


def _dumps(event: Any, default: Callable[[Any], Any]) -> str:
    """What `json.dumps` gives, which would make its encoder anew for each line."""
    return _encoder(default).encode(event)


def configure() -> None:
    """Set structlog up for this process."""
    terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer(repr_native_str=True) if terminal else structlog.processors.JSONRenderer(serializer=_dumps)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            name_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if terminal else TRACEBACKS,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # A line and its end in one write: several workers of a host may share the descriptor.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
