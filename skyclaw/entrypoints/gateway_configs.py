"""The present routes as the configuration of another proxy: Traefik's as JSON, those of Caddy, HAProxy and nginx as text.

Each does what our own gateway does, as far as it can: the same paths, the fewest requests in flight first, a failed backend left alone for
the cooldown, GET requests tried again elsewhere. A service is probed over HTTP only where it is known to have a health path. Such a proxy
has one scheme and one path for all backends of a service: those that differ from the first one are left out. So is whatever could mean
more to the other program than the letters that it consists of.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from skyclaw.entrypoints import rendering
from skyclaw.entrypoints.gateway_settings import GatewaySettings
from skyclaw.errors import UsageWrong
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.names import Names
from skyclaw.outside.service_routes import is_this_machine, read_listing, read_routes
from skyclaw.services.routing import Backend, Route, Rules

PATHS = "/v1/gateway"
PLAIN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # nothing is bound here
HEALTHY, NOT_FOUND = '{"ok":true}', '{"error":"not found"}'
_RULES = Rules()


@dataclass(frozen=True, slots=True)
class _Service:
    """A service as another proxy can have it. `keys` are its name and its id, `health` is the path to probe, if there is one."""

    keys: tuple[str, ...]
    backends: tuple[Backend, ...]
    health: str | None

    @property
    def label(self) -> str:
        return f"skyclaw_{self.keys[0]}"

    @property
    def scheme(self) -> str:
        return self.backends[0].scheme

    @property
    def prefix(self) -> str:
        return self.backends[0].prefix

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(f"{PATHS}/{key}" for key in self.keys)


def traefik(routes: Iterable[Route], settings: GatewaySettings) -> dict[str, Any]:
    """What Traefik's HTTP provider reads; it takes no empty parts."""
    routers, services, middlewares = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    for service in _services(routes, settings):
        services[service.label] = {"loadBalancer": _load_balancer(service, settings)}
        steps = []
        if service.prefix:
            steps = [f"{service.label}_prefix"]
            middlewares[steps[0]] = {"addPrefix": {"prefix": service.prefix}}
        for key, path in zip(service.keys, service.paths, strict=True):
            name = f"skyclaw_{key}"
            middlewares[name] = {"stripPrefix": {"prefixes": [path]}}
            rule = f"PathPrefix(`{path}`) && (Path(`{path}`) || PathPrefix(`{path}/`))"  # not those that only begin alike
            routers[name] = {"rule": rule, "service": service.label, "middlewares": [name, *steps]}
    return {"http": {"routers": routers, "services": services, "middlewares": middlewares}} if routers else {}


def _load_balancer(service: _Service, settings: GatewaySettings) -> dict[str, Any]:
    balancer: dict[str, Any] = {"servers": [{"url": f"{one.scheme}://{_authority(one)}"} for one in service.backends]}
    if service.health:
        times = {"interval": f"{settings.probe_ms}ms", "timeout": f"{settings.probe_timeout_ms}ms"}
        balancer["healthCheck"] = {"path": service.prefix + service.health, **times}
    return balancer


def caddy(routes: Iterable[Route], settings: GatewaySettings) -> Iterator[str]:
    """The lines of a Caddyfile."""
    yield f"http://:{settings.port} {{"
    if settings.host not in EVERYWHERE:
        yield f"\tbind {settings.host}"
    yield f"\thandle /health {{\n\t\trespond `{HEALTHY}`\n\t}}"
    for service in _services(routes, settings):
        for key, path in zip(service.keys, service.paths, strict=True):
            yield f"\t@skyclaw_{key} path {path} {path}/*"
            yield f"\thandle @skyclaw_{key} {{"
            yield f"\t\turi strip_prefix {path}"
            if service.prefix:
                yield f"\t\trewrite * {service.prefix}{{uri}}"
            yield from (f"\t\t{line}" for line in _caddy_proxy(service, settings))
            yield "\t}"
    yield f"\thandle {{\n\t\trespond `{NOT_FOUND}` 404\n\t}}"
    yield "}"


def _caddy_proxy(service: _Service, settings: GatewaySettings) -> Iterator[str]:
    yield f"reverse_proxy {' '.join(f'{one.scheme}://{_authority(one)}' for one in service.backends)} {{"
    yield "\tlb_policy least_conn"
    yield f"\tlb_retries {settings.retries}"
    yield f"\tmax_fails {_RULES.failures}"
    yield f"\tfail_duration {settings.cooldown_ms}ms"
    yield "\tunhealthy_status 5xx"
    if service.health:
        yield f"\thealth_uri {service.prefix}{service.health}"
        yield f"\thealth_interval {settings.probe_ms}ms"
        yield f"\thealth_timeout {settings.probe_timeout_ms}ms"
    yield "}"


def haproxy(routes: Iterable[Route], settings: GatewaySettings) -> Iterator[str]:
    """The lines of a haproxy.cfg."""
    services = list(_services(routes, settings))
    yield "defaults"
    yield "    mode http"
    yield "    timeout connect 2s"
    yield "    timeout client 60s"
    yield f"    timeout server {settings.answer_ms}ms"
    yield f"    retries {settings.retries}"
    yield "    option redispatch 1"
    yield "    option forwardfor"
    yield ""
    yield "frontend skyclaw"
    yield f"    bind {_listening(settings)}"
    yield f"    http-request return status 200 content-type application/json string '{HEALTHY}' if {{ path /health }}"
    for service in services:
        yield f"    use_backend {service.label} if {' || '.join(f'{{ path {path} }} || {{ path_beg {path}/ }}' for path in service.paths)}"
    yield "    default_backend nothing"
    for service in services:
        yield from _haproxy_backend(service, settings)
    yield ""
    yield "backend nothing"
    yield f"    http-request return status 404 content-type application/json string '{NOT_FOUND}'"


def _haproxy_backend(service: _Service, settings: GatewaySettings) -> Iterator[str]:
    yield ""
    yield f"backend {service.label}"
    yield "    balance leastconn"
    yield f"    http-request replace-path {PATHS}/[^/]+/?(.*) {service.prefix}/\\1"
    yield "    http-request disable-l7-retry unless METH_GET || METH_OPTIONS"
    yield "    retry-on conn-failure empty-response response-timeout 500 502 503 504"
    if service.health:
        yield f"    option httpchk GET {service.prefix}{service.health}"
    options = f"check inter {settings.probe_ms}ms fall 1 rise 1 maxconn {_RULES.per_backend} init-addr last,libc,none"
    if service.scheme == "https":
        options += " ssl verify required ca-file @system-ca"
    for number, one in enumerate(service.backends, 1):
        yield f"    server backend{number} {_authority(one)} {options}"


def nginx(routes: Iterable[Route], settings: GatewaySettings) -> Iterator[str]:
    """The lines of a nginx.conf."""
    services = list(_services(routes, settings))
    yield "events {}"
    yield ""
    yield "http {"
    for service in services:
        yield from (f"    {line}" for line in _nginx_upstream(service, settings))
    yield "    server {"
    yield f"        listen {_listening(settings)};"
    yield "        client_max_body_size 64m;"
    yield "        default_type application/json;"
    yield "        proxy_http_version 1.1;"
    yield '        proxy_set_header Connection "";'
    yield "        proxy_set_header Host $host;"
    yield "        proxy_set_header X-Forwarded-For $remote_addr;"
    yield "        proxy_connect_timeout 2s;"
    yield "        proxy_next_upstream error timeout http_500 http_502 http_503 http_504;"
    yield f"        proxy_next_upstream_tries {settings.retries + 1};"
    yield f"        location = /health {{ return 200 '{HEALTHY}'; }}"
    yield f"        location / {{ return 404 '{NOT_FOUND}'; }}"
    for service in services:
        to = f"proxy_pass {service.scheme}://{service.label}{service.prefix}/;"
        for path in service.paths:
            yield f"        location = {path} {{ {to} }}"
            yield f"        location {path}/ {{ {to} }}"
    yield "    }"
    yield "}"


def _nginx_upstream(service: _Service, settings: GatewaySettings) -> Iterator[str]:
    yield f"upstream {service.label} {{"
    yield "    least_conn;"
    for one in service.backends:
        cooldown_s = settings.cooldown_ms // 1000
        yield f"    server {_authority(one)} max_fails={_RULES.failures} fail_timeout={cooldown_s}s max_conns={_RULES.per_backend};"
    yield f"    keepalive {_RULES.per_backend};"
    yield "}"


WRITERS: dict[str, Callable[[Iterable[Route], GatewaySettings], Iterator[str]]] = {"caddy": caddy, "haproxy": haproxy, "nginx": nginx}


def show_config(coordinators: Coordinators, settings: GatewaySettings, program: str) -> int:
    """Print the configuration for the present routes. Raises UsageWrong for an unknown program, and what Coordinators raise."""
    if program not in WRITERS:
        raise UsageWrong(f"--print-config={program} is not possible; write {', '.join(WRITERS)}")
    said = coordinators.get("/v1/services")
    names = Names()
    listing = read_listing(said, is_local=is_this_machine(coordinators.answering, names.resolve))
    found = read_routes(listing, names.find)
    if found.skipped:
        rendering.warn([f"{found.skipped} services or endpoints cannot be what they say they are, and are left out"])
    for line in WRITERS[program](found.routes, settings):
        rendering.show(line)
    return 0


def _services(routes: Iterable[Route], settings: GatewaySettings) -> Iterator[_Service]:
    """The services that can be written down, by name; each key as our own gateway understands it."""
    routes = sorted(routes, key=lambda route: route.name)
    taken = {route.id for route in routes}
    for route in routes:
        backends = _alike([one for one in route.backends if PLAIN_PATH.fullmatch(one.prefix)])
        named = () if route.name in taken else (route.name,)
        taken.update(named)
        keys = tuple(key for key in (*named, route.id) if PLAIN_KEY.fullmatch(key))
        health = route.health_path or settings.own_health_path
        if keys and backends:
            yield _Service(keys, backends, health if PLAIN_PATH.fullmatch(health or "/") else None)


def _alike(backends: list[Backend]) -> tuple[Backend, ...]:
    """Those with the scheme and the path of the first one."""
    return tuple(one for one in backends if (one.scheme, one.prefix) == (backends[0].scheme, backends[0].prefix))


def _authority(backend: Backend) -> str:
    return f"[{backend.host}]:{backend.port}" if ":" in backend.host else f"{backend.host}:{backend.port}"


def _listening(settings: GatewaySettings) -> str:
    return f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
