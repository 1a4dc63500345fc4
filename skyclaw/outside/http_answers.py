"""What came back from a coordinator: its JSON object, its refusal, or the reason why it was neither."""

import errno
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import orjson
import requests
import urllib3

from skyclaw.errors import ServerRefused

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_RETRY_AFTER_S = 3600.0
TOO_LARGE = 413


class NoAnswer(Exception):
    """This coordinator gave no usable answer; the next one may."""


class Closed(NoAnswer):
    """The connection was closed before an answer came: a kept-alive one may just have grown too old."""


class Foreign(NoAnswer):
    """Something that is not a coordinator answered."""


def read(answer: requests.Response, ends: float) -> bytes:
    """The whole body, as it was sent; raises NoAnswer when it is too large or not there by `ends` (time.monotonic, seconds)."""
    return b"".join(pieces(answer, ends))


def pieces(answer: requests.Response, ends: float) -> Iterator[bytes]:
    """The body as it comes; raises as `read` does."""
    size = 0
    while piece := answer.raw.read1(65_536, decode_content=False):
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise NoAnswer("answer too large")
        if time.monotonic() > ends:
            raise NoAnswer("timed out")
        yield piece


def judge(answer: requests.Response, body: bytes) -> dict[str, Any]:
    """The JSON object of a coordinator's answer. Raises ServerRefused when it refuses, NoAnswer when it is no coordinator's answer."""
    status, said = answer.status_code, _object(answer, body)
    if said is not None and 200 <= status < 300:
        return said
    if said is not None and (status >= 500 or (status >= 400 and isinstance(said.get("error"), str))):
        raise _refusal(status, said, answer.headers.get("retry-after", ""))
    if status >= 500:
        raise NoAnswer(f"answered {status}")
    if status == TOO_LARGE:  # who reads the request, ours or a proxy, may say so in words of its own
        raise _refusal(status, {"error": "the request is larger than the coordinator takes", "code": "payload_too_large"}, "")
    raise Foreign("not a Skyclaw coordinator")


def judge_head(answer: requests.Response) -> dict[str, Any]:
    """An empty object when what was asked for without its body is there. Raises as `judge` does."""
    status = answer.status_code
    if 200 <= status < 300:
        return {}
    if status >= 400:
        raise _refusal(status, {"error": f"the coordinator answered {status}"}, answer.headers.get("retry-after", ""))
    raise Foreign("not a Skyclaw coordinator")


def _object(answer: requests.Response, body: bytes) -> dict[str, Any] | None:
    if answer.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return None
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None


def _refusal(status: int, said: dict[str, Any], retry_after: str) -> ServerRefused:
    """The refusal in the coordinator's words; a 5xx body without an `error` (as of /health) is kept whole as its details."""
    code, error, details = said.get("code"), said.get("error"), said.get("details")
    if not isinstance(error, str):
        error, details = f"the coordinator answered {status}", said
    return ServerRefused(
        status,
        code if isinstance(code, str) else f"http_{status}",
        error,
        details if isinstance(details, dict) else None,
        min(float(retry_after), MAX_RETRY_AFTER_S) if retry_after.isdecimal() else None,
    )


def of_a_question(refusal: ServerRefused) -> ServerRefused:
    """The refusal of a request that changes nothing, without a word about what was or may have been written."""
    if (written := refusal.details.get("written")) is None:
        return refusal
    error = refusal.error.partition("; nothing was written")[0] if written is False else "the coordinator could not answer now"
    details = {name: value for name, value in refusal.details.items() if name != "written"}
    return ServerRefused(refusal.status, refusal.code, error, details, refusal.retry_after)


_WORDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((ssl.SSLCertVerificationError,), "certificate not trusted"),
    ((ssl.SSLError,), "TLS failed"),
    ((socket.gaierror,), "name not known"),
    ((ConnectionRefusedError,), "connection refused"),
    ((TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError), "timed out"),
)
_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH)


def in_plain_words(error: Exception) -> NoAnswer:
    """Why there was no answer, as one would say it; never the text of a header, which may hold a secret."""
    causes = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in _NO_ROUTE for cause in causes):
        return NoAnswer("no route to it")
    for types, words in _WORDS:
        if any(isinstance(cause, types) for cause in causes):
            return NoAnswer(words)
    if any(isinstance(cause, ConnectionError) for cause in causes):
        return Closed("connection closed")
    return NoAnswer("not a usable address" if isinstance(error, ValueError) else "no HTTP answer")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it was made of."""
    found = [error]
    for cause in found:
        yield cause
        nearby = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        found.extend(near for near in nearby if isinstance(near, BaseException) and near not in found)
