"""Where errors become HTTP answers; resources themselves never catch.

Every error has the same shape: `{"error": sentence, "code": word, "details": {...}?, "requestId": ...}`.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import falcon
from falcon import Request, Response
from marshmallow import ValidationError

from api import request_ids
from api.views import dump
from skyclaw.errors import Invalid, QueueFull, Refused, SkyclawError, StorageFull, Unavailable, Unknown

logger = logging.getLogger(__name__)

STATUSES: tuple[tuple[type[SkyclawError], int], ...] = (
    (Invalid, 400),
    (Unknown, 404),
    (Refused, 409),
    (QueueFull, 429),
    (StorageFull, 507),
    (Unavailable, 503),
)
FALCON_CODES = {404: ("not_found", "not found"), 405: ("method_not_allowed", "method not allowed")}
MISSING_PAYLOAD = ("payload.kind", "is required")
LONGEST_SHOWN = 64  # characters of anything the client sent


class HttpRefused(Exception):
    """The request is refused for what it is as HTTP, before anybody looks at what it asks."""

    def __init__(self, status: int, code: str, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.code, self.headers = status, code, dict(headers or {})


def register(app: falcon.App[Request, Response]) -> None:
    """Let the app answer every error in our shape."""
    app.add_error_handler(Exception, _unforeseen)
    app.add_error_handler(falcon.HTTPError, _falcons_own)
    app.add_error_handler(HttpRefused, _refused_as_http)
    app.add_error_handler(ValidationError, _invalid)
    app.add_error_handler(SkyclawError, refused)


def shorten(text: str) -> str:
    """What a client sent, as it may be repeated in an answer: ASCII, escaped, at most 64 characters of it."""
    return ascii(text[:LONGEST_SHOWN])[1:-1] + ("..." if len(text) > LONGEST_SHOWN else "")


def _answer(req: Request, resp: Response, status: int, code: str, error: str, details: Mapping[str, Any] | None = None) -> None:
    body: dict[str, Any] = {"error": error, "code": code}
    if details:
        body["details"] = details
    body["requestId"] = request_ids.give(req, resp)
    resp.status = status
    resp.data = dump(body)


def refused(req: Request, resp: Response, error: SkyclawError, params: dict[str, Any]) -> None:
    """Answer with a refusal."""
    status = next((status for cls, status in STATUSES if isinstance(error, cls)), None)
    if status is None:
        return _unforeseen(req, resp, error, params)
    if isinstance(error, QueueFull | Unavailable):
        resp.set_header("Retry-After", str(error.retry_after_s))
    return _answer(req, resp, status, error.code, str(error), error.details)


def _refused_as_http(req: Request, resp: Response, error: HttpRefused, _params: dict[str, Any]) -> None:
    resp.set_headers(error.headers)
    _answer(req, resp, error.status, error.code, str(error))


def _invalid(req: Request, resp: Response, error: ValidationError, _params: dict[str, Any]) -> None:
    """The schemas' messages complete the sentence that the field's name begins."""
    details: dict[str, list[str]] = {}
    for field, message in _flat("", error.messages):
        details.setdefault(field, []).append(message)
    field, messages = next(iter(details.items()))
    sentence = "payload is required" if (field, messages[0]) == MISSING_PAYLOAD else f"{field} {messages[0]}"
    _answer(req, resp, 400, Invalid.code, sentence, details)


def _flat(path: str, messages: Any) -> Iterator[tuple[str, str]]:
    """(field, message) for each message, the field with its whole path."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            part = "" if name == "_schema" else shorten(str(name))
            yield from _flat(".".join(filter(None, (path, part))), inner)
    elif isinstance(messages, list):
        for inner in messages:
            yield from _flat(path, inner)
    else:
        yield path or "body", str(messages)


def _falcons_own(req: Request, resp: Response, error: falcon.HTTPError, _params: dict[str, Any]) -> None:
    status = error.status_code
    code, sentence = FALCON_CODES.get(status, ("bad_request", error.description or error.title or "the request is not as it should be"))
    resp.set_headers(error.headers or {})
    _answer(req, resp, status, code, sentence)


def _unforeseen(req: Request, resp: Response, error: Exception, _params: dict[str, Any]) -> None:
    """Our own mistake: the client learns that it was one, the log learns everything."""
    request_id = request_ids.give(req, resp)
    where = f"{shorten(req.method)} {shorten(req.path)}"
    logger.error("request_failed request=%s what=%s", request_id, where, exc_info=error)
    _answer(req, resp, 500, "internal", "the coordinator made a mistake; its log knows more under the request's id")
