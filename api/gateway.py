"""The gateway: passes requests on to the services' healthy instances. A plain WSGI application, because every request goes through it.

1. `/v1/gateway/<id or name>[/path][?query]` is passed on to an instance, byte for byte from the slash after the key.
2. `GET /health` and `GET /v1/routes/traefik.json` are the gateway's own; nothing else is there.
3. Requests that could mislead somebody behind the gateway are refused: absolute targets, fragments, control characters, no Host or several.
4. Connections that change their protocol (WebSocket) are not passed on. `Upgrade: h2c`, which many clients offer, may be ignored and is.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.errors import shorten
from api.gateway_answers import StartResponse, refuse, say
from api.gateway_forwarding import Backends, Forwarded, Forwarding
from api.gateway_headers import answer_headers, request_lines
from api.targets import CONTROL, NEVER, has_one_host
from skyclaw.outside.upstream import UpstreamRequest, Upstreams
from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.outside.upstream_reading import ClientLeft, UpgradeUnsupported, UpstreamFailed, UpstreamLate
from skyclaw.outside.upstream_watch import Exchange
from skyclaw.services.routing import NoBackend, Overloaded

PREFIX = "/v1/gateway/"
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
REPEATABLE_BODY = 64 * 1024  # bytes that are kept for another attempt
IGNORED_UPGRADES = frozenset({"", "h2c"})
NO_UPGRADE = (
    "the gateway does not pass on connections that change their protocol, such as WebSocket; "
    "put a reverse proxy in front: GET /v1/routes/traefik.json or skyclaw gateway --print-config tells it the routes"
)

Environ = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What the gateway is made of. `retries` are further attempts; no credential among `secrets` reaches a service."""

    backends: Backends
    retries: int
    await_route: Callable[[str], bool]  # of a key without a backend: wait a moment for news, and say whether there is one now
    health: Callable[[], dict[str, Any]]
    traefik: Callable[[], dict[str, Any]]
    limits: GatewayLimits = field(default_factory=GatewayLimits)
    ca_file: Path | None = None  # whose authorities are trusted for https, instead of the system's
    secrets: Collection[str] = field(default=(), repr=False)


def create_gateway(parts: GatewayParts) -> "Gateway":
    """The application. Raises OSError when the authorities' file cannot be read."""
    return Gateway(parts)


class Gateway:
    """The WSGI application; for a server that puts `skyclaw.abort` into the environment, which ends the client's connection."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._upstreams = Upstreams(parts.limits, parts.ca_file)
        self._secrets = frozenset(parts.secrets)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        target: str = environ["REQUEST_URI"]
        if (wrong := _what_is_wrong(environ, target)) is not None:
            return refuse(environ, start_response, *wrong)
        if target.startswith(PREFIX):
            key, rest = _split(target[len(PREFIX) :])
            if key:
                return self._forward(environ, start_response, key, rest)
        return self._own(environ, start_response, target.partition("?")[0])

    def end_events(self) -> None:
        """Break off all event streams: their clients know how to go on elsewhere, and would not end them by themselves."""
        self._upstreams.end_events()

    def close(self) -> None:
        """Let go of the connections to upstreams, once no request is under way any more."""
        self._upstreams.close()

    def _own(self, environ: Environ, start_response: StartResponse, path: str) -> Iterable[bytes]:
        give = {"/health": self._health, "/v1/routes/traefik.json": self._parts.traefik}.get(path)
        if give is None:
            return refuse(environ, start_response, 404, "not_found", "not found")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(environ, start_response, 405, "method_not_allowed", "method not allowed", {"Allow": "GET, HEAD"})
        view = give()
        return say(environ, start_response, 200 if view.get("ok", True) else 503, view)

    def _health(self) -> dict[str, Any]:
        """With how many answers said their length in two ways; they were framed anew. It is not `ok` to route before a first table came."""
        return {**self._parts.health(), "contradictoryLengths": self._upstreams.contradictions}

    def _forward(self, environ: Environ, start_response: StartResponse, key: str, rest: str) -> Iterable[bytes]:
        if environ.get("HTTP_UPGRADE", "").strip(" \t").lower() not in IGNORED_UPGRADES:
            return refuse(environ, start_response, 501, UpgradeUnsupported.code, NO_UPGRADE)
        length = _length(environ)
        if length is not None and length > self._parts.limits.request_bytes:
            return refuse(environ, start_response, 413, "payload_too_large", "request body too large")
        request = self._request(environ, key, rest, length)
        exchange = Exchange(self._parts.limits, environ["waitress.client_disconnected"], environ["skyclaw.abort"])
        retries = self._parts.retries if request.is_repeatable else 0
        if not self._upstreams.watch(exchange):
            return _failed(environ, start_response, key, Overloaded("the gateway has as many requests as it can take; try again"))
        try:
            forwarded = self._ask(key, request, exchange, retries)
        except BaseException as error:
            self._upstreams.forget(exchange)
            return _failed(environ, start_response, key, error)
        return self._pass_on(environ, start_response, forwarded, exchange)

    def _ask(self, key: str, request: UpstreamRequest, exchange: Exchange, retries: int) -> Forwarded:
        """The answer of a backend; a service that is not known may have been deployed just now."""
        try:
            return Forwarding(self._parts.backends, self._upstreams, key, exchange, retries).run(request)
        except NoBackend:
            if not self._parts.await_route(key):
                raise
        return Forwarding(self._parts.backends, self._upstreams, key, exchange, retries).run(request)

    def _request(self, environ: Environ, key: str, rest: str, length: int | None) -> UpstreamRequest:
        method: str = environ["REQUEST_METHOD"]
        lines = request_lines(environ, 0 if length is None and method in WITH_BODY else length, self._secrets, f"{PREFIX}{key}")
        if not length:
            return UpstreamRequest(method, rest, lines, is_repeatable=method in REPEATABLE)
        body = environ["wsgi.input"]
        if length > REPEATABLE_BODY:
            return UpstreamRequest(method, rest, lines, body, length)
        return UpstreamRequest(method, rest, lines, body.read(length), length, method in REPEATABLE)

    def _pass_on(self, environ: Environ, start_response: StartResponse, forwarded: Forwarded, exchange: Exchange) -> Iterable[bytes]:
        answer = forwarded.answer
        body = _Passing(forwarded, self._upstreams, exchange)
        try:
            if answer.body is not None:
                body.close()
            write = start_response(f"{answer.head.status} {answer.head.reason}", answer_headers(answer.head, environ.get("HTTP_HOST", "")))
            if answer.body is not None:
                return (answer.body,) if answer.body else ()
            if not answer.has_begun:
                write(b"")  # the head at once
        except BaseException:
            body.close()
            raise
        return body


class _Passing:
    """The body of a long answer, as WSGI wants it: also when it was never begun, closing it ends everything."""

    def __init__(self, forwarded: Forwarded, upstreams: Upstreams, exchange: Exchange) -> None:
        self._forwarded, self._upstreams, self._exchange = forwarded, upstreams, exchange

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._forwarded)

    def close(self) -> None:
        """End it."""
        self._forwarded.close()
        self._upstreams.forget(self._exchange)


def _failed(environ: Environ, start_response: StartResponse, key: str, error: BaseException) -> Iterable[bytes]:
    """The answer when there is none; raises what cannot be answered."""
    match error:
        case NoBackend() | Overloaded():
            sentence = f"no healthy endpoints for service {shorten(key)}" if isinstance(error, NoBackend) else str(error)
            return refuse(environ, start_response, 503, error.code, sentence, {"Retry-After": str(error.retry_after_s)})
        case UpgradeUnsupported():
            return refuse(environ, start_response, error.status, error.code, NO_UPGRADE)
        case UpstreamLate():
            return refuse(environ, start_response, error.status, error.code, str(error))
        case UpstreamFailed():
            return refuse(environ, start_response, error.status, error.code, "fetch failed", None, {"reason": str(error)})
        case ClientLeft():
            raise ConnectionAbortedError("the client left") from error
    raise error


def _what_is_wrong(environ: Environ, target: str) -> tuple[int, str, str] | tuple[int, str, str, dict[str, str]] | None:
    if environ["REQUEST_METHOD"] in NEVER:
        return 405, "method_not_allowed", "method not allowed", {"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
    if not has_one_host(environ):
        return 400, "bad_request", "a request has exactly one Host"
    if not target.startswith("/"):
        return 400, "bad_request", "the request's target must be a path"
    if "#" in target:
        return 400, "bad_path", "a request's target has no fragment"
    if CONTROL.search(target):
        return 400, "bad_path", "the path contains control characters"
    return None


def _split(rest: str) -> tuple[str, str]:
    """The service's key, and path with query for the upstream."""
    slash, query = rest.find("/"), rest.find("?")
    if slash >= 0 and (query < 0 or slash < query):
        return rest[:slash], rest[slash:]
    return (rest, "/") if query < 0 else (rest[:query], "/" + rest[query:])


def _length(environ: Environ) -> int | None:
    """Of the request's body; None when none is announced."""
    said = environ.get("CONTENT_LENGTH")
    return int(said) if said else None
