"""Reading a request's body: its size, its type, and then strictly as JSON."""

from collections.abc import Callable
from typing import Any

import orjson
from falcon import Request

from api import strict_json
from api.errors import HttpRefused

LIMIT = 1024 * 1024  # bytes
REPORT_LIMIT = 4 * 1024 * 1024  # of what carries the outputs of jobs
REPLICATE_LIMIT = 8 * 1024 * 1024  # of what coordinators tell each other about logs


def read(req: Request) -> dict[str, Any]:
    """The JSON object in the body; an empty body reads as `{}`. Raises HttpRefused."""
    return _read(req, LIMIT, strict_json.parse)


def read_report(req: Request) -> dict[str, Any]:
    """As `read`, for what hosts tell about the jobs they ran: larger, and its strings may hold whatever a job has printed."""
    return _read(req, REPORT_LIMIT, _parse_report)


def read_replication(req: Request) -> dict[str, Any]:
    """As `read`, for what coordinators tell each other: larger still, and taken apart by whoever knows its shape, value by value."""
    return _read(req, REPLICATE_LIMIT, _parse_replication)


def received(req: Request) -> bytes:
    """The body as it was read, byte for byte; empty when nobody has read one."""
    text: bytes = getattr(req.context, "received", b"")
    return text


def _parse_report(text: bytes) -> Any:
    return strict_json.parse(text, reports=True)


def _parse_replication(text: bytes) -> Any:
    """The parser that is fast with megabytes: it takes neither NaN nor half a surrogate pair, and bounds the depth by itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise strict_json.BadJson(error.msg) from None


def _read(req: Request, limit: int, parse: Callable[[bytes], Any]) -> dict[str, Any]:
    length = int(req.env.get("CONTENT_LENGTH") or 0)  # of a chunked body too: the server has put it together
    if length == 0:
        return {}
    if length > limit:
        raise HttpRefused(413, "payload_too_large", f"the body is larger than {limit} bytes")
    _check_type(req)
    req.context.received = text = req.env["wsgi.input"].read(length)
    try:
        value = parse(text)
    except strict_json.BadJson as error:
        raise HttpRefused(400, "invalid_json", f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise HttpRefused(400, "invalid_json", "the body must be a JSON object")
    return value


def _check_type(req: Request) -> None:
    kind = req.env.get("CONTENT_TYPE", "")
    if kind != "application/json":
        essence, _, parameters = kind.lower().partition(";")
        if essence.strip() != "application/json" or parameters.replace('"', "").strip() not in ("", "charset=utf-8"):
            raise HttpRefused(415, "unsupported_media_type", "the body must be application/json in UTF-8")
    if req.env.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise HttpRefused(415, "unsupported_media_type", "the body must not be compressed")
