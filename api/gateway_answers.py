"""What the gateway says itself: in JSON, errors in the shape that all of Skyclaw has."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from api.request_ids import HEADER, OWN, RequestIds
from api.views import dump

StartResponse = Callable[[str, list[tuple[str, str]]], Callable[[bytes], object]]
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def say(
    environ: Mapping[str, Any],
    start_response: StartResponse,
    status: int,
    view: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> Iterable[bytes]:
    """Answer with a JSON object."""
    return _send(environ, start_response, status, view, headers or {}, _request_id(environ))


def refuse(
    environ: Mapping[str, Any],
    start_response: StartResponse,
    status: int,
    code: str,
    error: str,
    headers: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
) -> Iterable[bytes]:
    """Answer with an error."""
    request_id = _request_id(environ)
    view = {"error": error, "code": code, **({"details": details} if details else {}), "requestId": request_id}
    return _send(environ, start_response, status, view, headers or {}, request_id)


def _send(
    environ: Mapping[str, Any],
    start_response: StartResponse,
    status: int,
    view: Mapping[str, Any],
    headers: Mapping[str, str],
    request_id: str,
) -> Iterable[bytes]:
    body = dump(view)
    own = [("content-type", "application/json"), ("content-length", str(len(body))), (HEADER, request_id)]
    start_response(f"{status} {REASONS[status]}", [*own, *RequestIds.ALWAYS, *headers.items()])
    return () if environ["REQUEST_METHOD"] == "HEAD" else (body,)


def _request_id(environ: Mapping[str, Any]) -> str:
    own = environ.get("HTTP_X_REQUEST_ID", "")
    return own if OWN.fullmatch(own) else os.urandom(8).hex()
