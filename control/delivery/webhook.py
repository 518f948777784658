"""Webhooks: events to a URL, signed as Standard Webhooks says (https://www.standardwebhooks.com, specification 1.0)."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable
from datetime import datetime

import aiohttp
from standardwebhooks import Webhook as Signer

from control.delivery.destination import Delivered, Later, Parcel, Refused, Result, retry_after_s, shorten

MOST_ATTEMPTS = 300
"""About a day of them: then the event is a dead letter, which `retry` revives."""
_GONE = 410
"""Specification, "Response": the receiver wants nothing any more."""


def destination(url: str) -> str:
    """The outbox's name for a receiver: the same for the same URL, without showing what may be in it."""
    return f"webhook-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


class Webhook:
    """Sends with the session it is given; the session's owner closes it. `secret` is `whsec_` and base64."""

    def __init__(self, session: aiohttp.ClientSession, url: str, secret: str, timeout_s: float, now: Callable[[], datetime]) -> None:
        self._session = session
        self._url = url
        self._signer = Signer(secret)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._now = now

    async def send(self, parcel: Parcel) -> Result:
        """One attempt. The id stays the same at every attempt, time and signature are the attempt's own."""
        result = await self._post(parcel)
        if isinstance(result, Later) and parcel.attempts >= MOST_ATTEMPTS:
            return Refused(f"given up after {parcel.attempts} attempts: {result.cause}")
        return result

    async def _post(self, parcel: Parcel) -> Result:
        now = self._now()
        headers = {
            "Content-Type": parcel.content_type,
            "webhook-id": parcel.label,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(parcel.label, now, parcel.body.decode()),
        }
        try:
            async with self._session.post(
                self._url, data=io.BytesIO(parcel.body), headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                text = (await response.content.read(4096)).decode("utf-8", "replace")
                return self._judge(response.status, response.headers.get("Retry-After"), text, now)
        except TimeoutError:
            return Later("the receiver did not answer in time")
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            return Later(f"the receiver cannot be reached: {error}")

    def _judge(self, status: int, retry_after: str | None, text: str, now: datetime) -> Result:
        if 200 <= status < 300:
            return Delivered(f"the receiver answered {status}")
        if status == _GONE:
            return Refused(f"{status}: the receiver wants no more events")
        return Later(f"the receiver answered {status}: {shorten(text)}", retry_after_s(retry_after, now))
