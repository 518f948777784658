"""The object store behind the stand-in evaluator: hands out presigned forms and takes an upload as S3 does, to the letter.

What S3 documents of POST uploads is held to: the fields of the policy as they were given and in their order, `file` last and once, a
Content-Length on the request, no more octets than the policy allows.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web

_ERROR = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'


@dataclass(frozen=True, slots=True)
class Upload:
    """A recording as it was stored."""

    key: str
    content: bytes
    content_type: str
    filename: str


@dataclass(slots=True)
class Storage:
    """`forms` waits for their uploads by key. `status`: what a good upload gets, all of which S3 has. `failures`: statuses given first."""

    max_bytes: int = 50_000_000
    status: int = 204
    failures: list[int] = field(default_factory=list)
    forms: dict[str, dict[str, str]] = field(default_factory=dict)
    stored: dict[str, Upload] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    """Codes of the uploads that were refused."""

    def form(self, url: str, call_id: str, extension: str) -> dict[str, Any]:
        """A new form, as `recording_upload` of an answer to Create Call."""
        key = f"recordings/{call_id}-{secrets.token_hex(4)}.{extension}"
        content_type = {"wav": "audio/wav", "ogg": "audio/ogg"}.get(extension, "application/octet-stream")
        policy = {"conditions": [{"key": key}, {"Content-Type": content_type}, ["content-length-range", 0, self.max_bytes]]}
        fields = {
            "Content-Type": content_type,
            "key": key,
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": "stand-in/20260101/us-east-1/s3/aws4_request",
            "policy": base64.b64encode(json.dumps(policy).encode()).decode(),
            "x-amz-signature": secrets.token_hex(32),
        }
        self.forms[key] = fields
        return {"url": url, "fields": fields, "key": key, "content_type": content_type, "max_bytes": self.max_bytes}

    async def take(self, request: web.Request) -> web.Response:
        """POST of a form."""
        if self.failures:
            return self._refuse(self.failures.pop(0), "SlowDown", "told to fail")
        if request.content_length is None:
            return self._refuse(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        if request.content_type != "multipart/form-data":
            return self._refuse(412, "PreconditionFailed", "Bucket POST must be of the enclosure-type multipart/form-data")
        given: list[tuple[str, str]] = []
        file: tuple[str, str, bytes] | None = None
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name is None:
                return self._refuse(400, "MalformedPOSTRequest", "The body is not well-formed multipart/form-data.")
            if file is not None:
                return self._refuse(400, "InvalidArgument", "POST requires exactly one file upload per request, and nothing after it.")
            if part.name == "file":
                file = part.filename or "", part.headers.get("Content-Type", ""), bytes(await part.read(decode=False))
            else:
                given.append((part.name, await part.text()))
        return self._judge(given, file)

    def _judge(self, given: list[tuple[str, str]], file: tuple[str, str, bytes] | None) -> web.Response:
        key = dict(given).get("key", "")
        wanted = self.forms.get(key)
        if wanted is None:
            return self._refuse(403, "AccessDenied", "Invalid according to Policy")
        if dict(given) != wanted:
            return self._refuse(403, "SignatureDoesNotMatch", "The fields are not those that were signed.")
        if [name for name, _ in given] != list(wanted):
            return self._refuse(403, "AccessDenied", "The fields are not in the order of the form.")
        if file is None:
            return self._refuse(400, "InvalidArgument", "POST requires exactly one file upload per request.")
        filename, content_type, content = file
        if len(content) > self.max_bytes:
            return self._refuse(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
        del self.forms[key]  # stricter than S3, so that a recording that is sent twice shows
        self.stored[key] = Upload(key, content, content_type, filename)
        return web.Response(status=self.status)

    def _refuse(self, status: int, code: str, message: str) -> web.Response:
        self.refusals.append(code)
        return web.Response(status=status, text=_ERROR.format(code, message), content_type="application/xml")
