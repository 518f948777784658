"""Recordings by the evaluator's presigned form: a browser's upload to S3 (multipart, the policy's fields in their order, `file` last)."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control.addresses import forbidden, inside_url
from control.delivery.destination import Delivered, Later, Parcel, Refused, Result, retry_after_s, shorten
from control.store.recordings import AUDIO, Recordings

if TYPE_CHECKING:
    from collections.abc import Callable

DESTINATION = "recordings"
KIND = "recording"
TIMEOUT_S = 600.0
_MOST_WAITS = 60
"""Attempts without a file, about four hours of them: then no sidecar will bring it any more."""
_TAKEN = (200, 201, 204)
_AGAIN = (408, 425, 429)


class Form(BaseModel):
    """What the evaluator gives for an upload. The order of `fields` is theirs."""

    model_config = ConfigDict(extra="ignore")

    url: str = Field(min_length=1, max_length=8192, pattern=r"^https?://[^\s#]+$")
    fields: dict[str, str] = Field(default_factory=dict, max_length=100)
    key: str | None = None
    content_type: str | None = Field(default=None, max_length=256, pattern=r"^[!-~]+(; ?[!-~]+)*$")
    max_bytes: int | None = Field(default=None, ge=0)


def read_form(given: object) -> Form | None:
    """The form that an evaluator's answer brought; None where it is none that can be used."""
    try:
        return Form.model_validate(given)
    except ValidationError:
        return None


class Uploader:
    """Sends with the session it is given; the session's owner closes it. `allow_private`: the form may lead inside the network."""

    def __init__(
        self, session: aiohttp.ClientSession, recordings: Recordings, now: Callable[[], datetime], *, allow_private: bool = False
    ) -> None:
        self._session = session
        self._recordings = recordings
        self._now = now
        self._allow_private = allow_private
        self._timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, connect=10, sock_read=60)

    async def send(self, parcel: Parcel) -> Result:
        """One attempt. The form travels as the parcel's secret: who has it can write to the evaluator's storage."""
        if parcel.key is None or parcel.call is None:
            return Refused("the form cannot be read any more: secret_key_file is another one now")
        form = Form.model_validate_json(parcel.key)
        why = forbidden(urlsplit(form.url).hostname or "") if self._allow_private else inside_url(form.url)
        if why is not None:
            return Refused(f"the form's URL: {why}; if that is meant, set evaluator.upload.allow_private")
        path = await asyncio.to_thread(self._recordings.find, parcel.call)
        if path is None:
            waits = "the sidecar has not brought the recording yet"
            return Later(waits) if parcel.attempts < _MOST_WAITS else Refused(f"{waits}, after {parcel.attempts} looks")
        try:
            return await self._post(form, path)
        except TimeoutError:
            return Later("the upload did not end in time")
        except FileNotFoundError:
            return Later("the recording is gone just now")
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            return Later(f"the storage cannot be reached: {error}")

    async def _post(self, form: Form, path: Path) -> Result:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if form.max_bytes is not None and size > form.max_bytes:
                return Refused(f"the recording has {size} bytes and the evaluator takes {form.max_bytes}: record as ogg, or shorter calls")
            data = aiohttp.FormData(default_to_multipart=True)
            for name, value in form.fields.items():
                data.add_field(name, value)
            if form.key is not None and "key" not in form.fields:
                data.add_field("key", form.key)
            data.add_field("file", file, filename=path.name, content_type=form.content_type or AUDIO[path.suffix])
            async with self._session.post(form.url, data=data, timeout=self._timeout, allow_redirects=False) as response:
                text = (await response.content.read(4096)).decode("utf-8", "replace")
                if response.status not in _TAKEN:
                    response.close()  # who refuses early reads no further, and nobody shall wait for that
                return self._judge(response.status, response.headers.get("Retry-After"), text, size)

    def _judge(self, status: int, retry_after: str | None, text: str, size: int) -> Result:
        if status in _TAKEN:
            return Delivered(f"the storage answered {status} to {size} bytes")
        if status in _AGAIN or status >= 500:
            return Later(f"the storage answered {status}: {shorten(text)}", retry_after_s(retry_after, self._now()))
        if 300 <= status < 400:
            return Refused(f"{status}: the storage wants the form elsewhere, and an upload is not redirected")
        return Refused(f"{status}: the storage refuses the form, which may be past its time: {shorten(text)}")
