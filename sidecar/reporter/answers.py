"""What control's answer to a batch means for the batch."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from control.contract.facts import FactReceipt


@dataclass(frozen=True, slots=True)
class Stored:
    """Every fact of the batch is in control's store for good."""


@dataclass(frozen=True, slots=True)
class Away:
    """Control could not be reached or cannot work at present; the same batch will do later."""

    detail: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Control is there but takes nothing from us, whatever the batch holds: the token, the URL or the version is wrong."""

    status: int
    detail: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Unfit:
    """Something in this batch is not acceptable, now or later."""

    status: int
    answer: bytes


Answer = Stored | Away | Refused | Unfit


def judge(status: int, body: bytes, asked: float | None, facts: int) -> Answer:
    """The meaning of an HTTP answer to a batch of `facts` facts; `asked` is its Retry-After in seconds."""
    if 200 <= status < 300:
        return _receipt(status, body, facts)
    text = body[:300].decode("utf-8", "replace")
    if status in (408, 425, 429) or status >= 500:
        return Away(f"HTTP {status}: {text}", asked)
    if status in (400, 413, 422):
        return Unfit(status, body)
    return Refused(status, text, asked)


def _receipt(status: int, body: bytes, facts: int) -> Answer:
    """A 2xx that is no receipt comes from something else than control, and acknowledges nothing."""
    try:
        receipt = FactReceipt.model_validate_json(body)
    except ValidationError:
        return Refused(status, "the answer is not a receipt for facts; is control.url the address of a control?")
    if receipt.stored < facts:
        return Away(f"control stored {receipt.stored} of {facts} facts")
    return Stored()
