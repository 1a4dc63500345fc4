"""The routes as configurations of other proxies: what each says about paths, backends, health and failures, and what it leaves out."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from skyclaw.entrypoints.gateway_configs import WRITERS, traefik
from skyclaw.entrypoints.gateway_settings import gateway_settings
from skyclaw.services.routing import Backend, Route
from tests.support.gateway_stage import ListingCoordinator, coordinator
from tests.support.real_processes import TOKEN, free_port

SETTINGS = gateway_settings({"HOME": "/home/of/nobody", "SKYCLAW_GATEWAY_HOST": "127.0.0.1", "SKYCLAW_GATEWAY_RETRY_ATTEMPTS": "2"})
EMPTY: list[object] = [{}, [], None, ""]


def backend(host: str, port: int = 3100, prefix: str = "", scheme: str = "http") -> Backend:
    at = f"[{host}]" if ":" in host else host
    return Backend(f"ins_{host}_{port}", f"{scheme}://{at}:{port}{prefix}", scheme, host, port, prefix)


WEB = Route("svc_1", "web", (backend("10.0.0.1"), backend("::1", 3101)), "/up")
API = Route("svc_2", "api.v2", (backend("10.0.0.2", prefix="/base"),))
ROUTES = (WEB, API)


def written(program: str, *routes: Route) -> str:
    return "\n".join(WRITERS[program](routes, SETTINGS)) + "\n"


def test_traefik_gets_a_router_for_each_key_that_takes_the_path_off() -> None:
    told = traefik(ROUTES, SETTINGS)["http"]
    assert set(told["routers"]) == {"skyclaw_web", "skyclaw_svc_1", "skyclaw_api.v2", "skyclaw_svc_2"}
    for key, service in (("web", "skyclaw_web"), ("svc_1", "skyclaw_web"), ("api.v2", "skyclaw_api.v2")):
        router = told["routers"][f"skyclaw_{key}"]
        path = f"/v1/gateway/{key}"
        assert router["rule"] == f"PathPrefix(`{path}`) && (Path(`{path}`) || PathPrefix(`{path}/`))"
        assert router["service"] == service
        assert told["middlewares"][router["middlewares"][0]] == {"stripPrefix": {"prefixes": [path]}}


def test_traefik_gets_the_servers_and_how_to_probe_them() -> None:
    told = traefik(ROUTES, SETTINGS)["http"]
    assert told["services"]["skyclaw_web"]["loadBalancer"] == {
        "servers": [{"url": "http://10.0.0.1:3100"}, {"url": "http://[::1]:3101"}],
        "healthCheck": {"path": "/up", "interval": "5000ms", "timeout": "1500ms"},
    }
    assert told["services"]["skyclaw_api.v2"]["loadBalancer"] == {"servers": [{"url": "http://10.0.0.2:3100"}]}
    assert told["routers"]["skyclaw_api.v2"]["middlewares"] == ["skyclaw_api.v2", "skyclaw_api.v2_prefix"]
    assert told["middlewares"]["skyclaw_api.v2_prefix"] == {"addPrefix": {"prefix": "/base"}}


@pytest.mark.parametrize("routes", [(), (API,), ROUTES])
def test_traefik_gets_no_empty_part_which_it_would_refuse(routes: tuple[Route, ...]) -> None:
    def parts(value: Any) -> Iterator[Any]:
        yield value
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from parts(inner)

    told = traefik(routes, SETTINGS)
    assert not [part for part in parts(told) if part in EMPTY] or told == {}


@pytest.mark.parametrize("program", WRITERS)
def test_every_backend_and_every_key_is_in_the_text(program: str) -> None:
    text = written(program, *ROUTES)
    for found in (
        "10.0.0.1:3100",
        "[::1]:3101",
        "10.0.0.2:3100",
        "/base",
        *(f"/v1/gateway/{key}/" for key in ("web", "svc_1", "api.v2", "svc_2")),
    ):
        assert found in text
    assert ":8790" in text
    assert "127.0.0.1" in text


@pytest.mark.parametrize("program", WRITERS)
def test_blocks_that_are_opened_are_closed(program: str) -> None:
    for routes in ((), ROUTES):
        text = written(program, *routes)
        assert text.count("{") == text.count("}")


def test_the_text_for_nginx_spreads_and_retries_as_the_gateway_does() -> None:
    text = written("nginx", *ROUTES)
    upstream = re.search(r"upstream skyclaw_web \{(.*?)\}", text, re.DOTALL)
    assert upstream is not None
    assert re.findall(r"^ *(.*);$", upstream[1], re.MULTILINE) == [
        "least_conn",
        "server 10.0.0.1:3100 max_fails=3 fail_timeout=10s max_conns=16",
        "server [::1]:3101 max_fails=3 fail_timeout=10s max_conns=16",
        "keepalive 16",
    ]
    assert "proxy_next_upstream_tries 3;" in text
    assert "location = /v1/gateway/web { proxy_pass http://skyclaw_web/; }" in text
    assert "location /v1/gateway/api.v2/ { proxy_pass http://skyclaw_api.v2/base/; }" in text


def test_the_text_for_haproxy_probes_the_path_or_the_port() -> None:
    web, api = (re.search(rf"backend skyclaw_{name}\n(.*?)\n\n", written("haproxy", *ROUTES), re.DOTALL) for name in ("web", r"api\.v2"))
    assert web is not None
    assert api is not None
    assert "option httpchk GET /up" in web[1]
    assert "httpchk" not in api[1]
    assert " check inter 5000ms " in web[1]
    assert " check inter 5000ms " in api[1]
    assert "replace-path /v1/gateway/[^/]+/?(.*) /base/\\1" in api[1]


def test_the_text_for_caddy_probes_only_a_path_that_is_known() -> None:
    text = written("caddy", *ROUTES)
    assert text.count("health_uri /up") == 2
    assert text.count("health_uri") == 2
    assert "rewrite * /base{uri}" in text
    assert "reverse_proxy http://10.0.0.1:3100 http://[::1]:3101 {" in text


HOSTILE = [
    Route("svc_3", "a;b", (backend("10.0.0.3"),)),
    Route("svc_4", "c{d", (backend("10.0.0.4"),), "/{env.SECRET}"),
    Route("svc_5", "e", (backend("10.0.0.5", prefix="/$x;y"),)),
    Route("s`v", "f'g", (backend("10.0.0.6"),)),
]


@pytest.mark.parametrize("program", WRITERS)
def test_nothing_that_another_program_would_take_for_more_than_letters_is_written(program: str) -> None:
    text = written(program, *HOSTILE)
    assert not re.search(r"a;b|c\{d|env\.SECRET|\$x|f'g|s`v", text)
    assert "/v1/gateway/svc_3/" in text
    assert "10.0.0.5" not in text


def test_nor_is_it_told_to_traefik() -> None:
    text = str(traefik(HOSTILE, SETTINGS))
    assert not re.search(r"a;b|c\{d|env\.SECRET|\$x|f'g|s`v", text)


def test_backends_that_differ_from_the_first_are_left_out() -> None:
    mixed = Route("svc_1", "web", (backend("10.0.0.1"), backend("10.0.0.2", prefix="/base"), backend("10.0.0.3", scheme="https")))
    for program in WRITERS:
        text = written(program, mixed)
        assert ("10.0.0.1" in text, "10.0.0.2" in text, "10.0.0.3" in text) == (True, False, False)


def test_a_name_that_is_taken_or_is_another_one_s_id_leads_where_it_does_in_the_gateway() -> None:
    same = Route("svc_3", "web", (backend("10.0.0.3"),))
    disguised = Route("svc_4", "svc_1", (backend("10.0.0.4"),))
    routers = traefik((WEB, same, disguised), SETTINGS)["http"]["routers"]
    assert {name: router["service"] for name, router in routers.items()} == {
        "skyclaw_web": "skyclaw_web",
        "skyclaw_svc_1": "skyclaw_web",
        "skyclaw_svc_3": "skyclaw_svc_3",
        "skyclaw_svc_4": "skyclaw_svc_4",
    }


CHECKS = {
    "nginx": ["nginx", "-t", "-c"],
    "haproxy": ["haproxy", "-c", "-f"],
    "caddy": ["caddy", "validate", "--adapter", "caddyfile", "--config"],
}


@pytest.mark.parametrize("program", WRITERS)
@pytest.mark.parametrize("routes", [(), ROUTES], ids=["none", "some"])
def test_the_program_itself_accepts_it(program: str, routes: tuple[Route, ...], tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    file = tmp_path / "config"
    file.write_text(written(program, *routes), encoding="ascii")
    ran = subprocess.run([*CHECKS[program], str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0 or "syntax is ok" in ran.stderr, ran.stderr  # nginx then looks for folders that only root has


@pytest.fixture
def listing() -> Iterator[ListingCoordinator]:
    with ExitStack() as stops:
        yield coordinator(stops)


Spawn = Callable[..., CompletedProcess[bytes]]


@pytest.mark.parametrize("program", WRITERS)
def test_the_command_prints_the_present_routes(program: str, listing: ListingCoordinator, spawn: Spawn) -> None:
    listing.list("web", ["http://127.0.0.1:3100", "http://169.254.169.254"])
    ran = spawn("gateway", f"--print-config={program}", settings={"SKYCLAW_COORDINATOR_URL": listing.url, "SKYCLAW_TOKEN": TOKEN})
    assert ran.returncode == 0, ran.stderr
    assert b"127.0.0.1:3100" in ran.stdout
    assert b"169.254" not in ran.stdout
    assert b"warning: 1 services or endpoints" in ran.stderr


def test_without_a_coordinator_it_is_one_line_and_5(spawn: Spawn) -> None:
    ran = spawn("gateway", "--print-config=nginx", settings={"SKYCLAW_COORDINATOR_URL": f"http://127.0.0.1:{free_port()}"})
    assert (ran.returncode, ran.stdout, ran.stderr.count(b"\n")) == (5, b"", 1)


def test_another_program_is_one_line_and_2(spawn: Spawn) -> None:
    ran = spawn("gateway", "--print-config=squid")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.stderr == b"[skyclaw] --print-config=squid is not possible; write caddy, haproxy, nginx\n"
