"""`skyclaw gateway` as a process: what it tells, that it follows the coordinator, heals, drains, and refuses to start where it cannot."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import requests

from skyclaw.entrypoints.gateway import DRAIN_S
from tests.gateway.stage import Upstream, Visit
from tests.support.gateway_stage import SlowAnswer, backend, coordinator, gateway
from tests.support.real_processes import PATIENCE_S, free_port, wait_until
from tests.support.scripted_server import Asked, Reply


@pytest.fixture
def stops() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_it_routes_by_name_and_id_and_tells_what_it_knows(stops: ExitStack, tmp_path: Path) -> None:
    listing, web = coordinator(stops), backend(stops)
    listing.list("web", [web.url, "javascript:alert(1)"], health={"path": "/up", "timeoutMs": 1_000})
    running = gateway(stops, tmp_path, listing.url)
    running.until_it_knows("svc_web", "web")
    for key in ("web", "svc_web"):
        assert running.get(f"/v1/gateway/{key}/a/b?c=d").json() == {"path": "/a/b?c=d"}
    assert running.health() == {
        "ok": True,
        "services": ["svc_web", "web"],
        "backends": {"known": 1, "ejected": 0, "skipped": 1},
        "contradictoryLengths": 0,
    }
    told = running.get("/v1/routes/traefik.json").json()["http"]
    assert told["services"]["skyclaw_web"]["loadBalancer"]["servers"] == [{"url": web.url}]
    wait_until(lambda: "/up" in {asked.path for asked in web.asked}, "it is probed on its own path")
    assert running.stop() == 0
    assert "Traceback" not in running.printed


def test_it_follows_changes_of_the_list(stops: ExitStack, tmp_path: Path) -> None:
    listing = coordinator(stops)
    names = [{"name": name} for name in ("first", "second")]
    first, second = (backend(stops, lambda _, name=name: Reply(say=name)) for name in names)
    listing.list("web", [first.url])
    running = gateway(stops, tmp_path, listing.url)
    running.until_it_knows("svc_web", "web")
    assert running.get("/v1/gateway/web/").json() == names[0]
    listing.list("web", [second.url])
    wait_until(lambda: running.get("/v1/gateway/web/").json() == names[1], "the new instance answers")
    listing.services = []
    running.until_it_knows()
    gone = running.get("/v1/gateway/web/")
    assert (gone.status_code, gone.json()["error"]) == (503, "no healthy endpoints for service web")


def test_a_service_that_is_new_is_found_long_before_the_next_look(stops: ExitStack, tmp_path: Path) -> None:
    listing, web = coordinator(stops), backend(stops)
    running = gateway(stops, tmp_path, listing.url, SKYCLAW_GATEWAY_REFRESH_MS=86_400_000)
    assert running.get("/v1/gateway/web/").status_code == 503
    listing.list("web", [web.url])
    assert running.get("/v1/gateway/web/").status_code == 200  # by the very first request for it


def test_it_works_without_a_coordinator_and_goes_on_when_it_is_lost(stops: ExitStack, tmp_path: Path) -> None:
    listing, web = coordinator(stops), backend(stops)
    listing.list("web", [web.url])
    listing.stop()
    running = gateway(stops, tmp_path, listing.url)
    health = running.get("/health")
    assert (health.status_code, health.json()["ok"], health.json()["services"]) == (503, False, [])
    assert running.get("/v1/gateway/web/").status_code == 503
    wait_until(lambda: "coordinator_trouble" in running.printed, "it says that no coordinator answers")
    listing.start()
    running.until_it_knows("svc_web", "web")
    wait_until(lambda: "coordinator_answers_again" in running.printed, "it says that one does again")
    listing.stop()
    wait_until(lambda: running.printed.count("coordinator_trouble") == 2, "it says that it was lost")
    assert running.health()["ok"]
    assert running.get("/v1/gateway/web/x").json() == {"path": "/x"}


def test_a_backend_that_does_not_pass_its_probe_is_left_alone_and_comes_back(stops: ExitStack, tmp_path: Path) -> None:
    listing = coordinator(stops)
    well = {"first": 200, "second": 200}

    def script(name: str) -> Callable[[Asked], Reply]:
        return lambda asked: Reply(well[name] if asked.path == "/health" else 200, {"name": name})

    listing.list("web", [backend(stops, script("first")).url, backend(stops, script("second")).url])
    running = gateway(stops, tmp_path, listing.url, SKYCLAW_GATEWAY_UNHEALTHY_COOLDOWN_MS=1_000)
    running.until_it_knows("svc_web", "web")

    def answering() -> set[str]:
        return {running.get("/v1/gateway/web/").json()["name"] for _ in range(4)}

    assert answering() == {"first", "second"}
    well["first"] = 500
    wait_until(lambda: running.health()["backends"]["ejected"] == 1, "it is ejected")
    assert answering() == {"second"}
    well["first"] = 200
    wait_until(lambda: answering() == {"first", "second"}, "it is back")
    well.update(first=500, second=500)
    wait_until(lambda: running.health()["backends"]["ejected"] == 2, "both are ejected")
    assert answering() == {"first", "second"}


def test_a_backend_without_the_usual_health_path_is_healthy(stops: ExitStack, tmp_path: Path) -> None:
    listing, web = coordinator(stops), backend(stops, lambda asked: Reply(404 if asked.path == "/health" else 200))
    listing.list("web", [web.url])
    running = gateway(stops, tmp_path, listing.url)
    wait_until(lambda: [asked.path for asked in web.asked].count("/health") >= 2, "it was probed, and again")
    assert running.health()["backends"] == {"known": 1, "ejected": 0, "skipped": 0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_requests_finish_and_accepts_no_more(stops: ExitStack, tmp_path: Path, number: signal.Signals) -> None:
    listing, slow = coordinator(stops), SlowAnswer()
    listing.list("web", [backend(stops, slow).url])
    running = gateway(stops, tmp_path, listing.url)
    running.until_it_knows("svc_web", "web")
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(running.get("/v1/gateway/web/slow").json()))
    asking.start()
    assert slow.asked.wait(PATIENCE_S)
    assert running.process is not None
    running.process.send_signal(number)
    wait_until(lambda: _is_refused(running.url), "nobody listens")
    assert running.process.poll() is None
    slow.let.set()
    asking.join(PATIENCE_S)
    assert answers == [{"path": "/slow"}]
    assert running.process.wait(PATIENCE_S) == 0


def test_an_event_stream_without_end_does_not_hold_up_the_stop_and_is_broken_off(stops: ExitStack, tmp_path: Path) -> None:
    listing, sending = coordinator(stops), threading.Event()
    stops.callback(sending.set)

    def tick(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not sending.wait(0.05):
            visit.send(b"9\r\ndata: 1\n\n\r\n")

    upstream = Upstream(tick)
    stops.callback(upstream.close)
    listing.list("web", [f"http://127.0.0.1:{upstream.port}"])
    running = gateway(stops, tmp_path, listing.url, SKYCLAW_GATEWAY_HEALTH_PROBE_MS=86_400_000)
    running.until_it_knows("svc_web", "web")
    with requests.get(f"{running.url}/v1/gateway/web/", stream=True, timeout=60, proxies={"http": ""}) as answer:
        events = answer.iter_lines()
        assert next(events) == b"data: 1"
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(requests.RequestException):
            list(events)
    assert running.process.wait(DRAIN_S / 2) == 0


def test_a_second_signal_stops_it_at_once(stops: ExitStack, tmp_path: Path) -> None:
    listing, slow = coordinator(stops), SlowAnswer()
    stops.callback(slow.let.set)
    listing.list("web", [backend(stops, slow).url])
    running = gateway(stops, tmp_path, listing.url)
    running.until_it_knows("svc_web", "web")
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(requests.RequestException):
            running.get("/v1/gateway/web/slow")
        ended.set()

    threading.Thread(target=ask).start()
    assert slow.asked.wait(PATIENCE_S)
    assert running.process is not None
    running.process.send_signal(signal.SIGTERM)
    wait_until(lambda: _is_refused(running.url), "nobody listens")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(PATIENCE_S) == 130
    assert ended.wait(PATIENCE_S)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_one_line_and_3(
    stops: ExitStack, tmp_path: Path, spawn: Callable[..., CompletedProcess[bytes]], workers: str
) -> None:
    running = gateway(stops, tmp_path, "http://127.0.0.1:1")
    taken = {"SKYCLAW_GATEWAY_PORT": str(running.port), "SKYCLAW_GATEWAY_HOST": "127.0.0.1", "SKYCLAW_GATEWAY_WORKERS": workers}
    ran = spawn("gateway", settings=taken)
    assert (ran.returncode, ran.stdout) == (3, b"")
    sentence = (
        f"cannot listen on 127.0.0.1:{running.port}: address already in use; SKYCLAW_GATEWAY_HOST and SKYCLAW_GATEWAY_PORT name another"
    )
    assert ran.stderr.decode() == f"[skyclaw] {sentence}\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SKYCLAW_GATEWAY_PORT", "70000"),
        ("SKYCLAW_GATEWAY_WORKERS", "0"),
        ("SKYCLAW_GATEWAY_REFRESH_MS", "12abc"),
        ("SKYCLAW_GATEWAY_HEALTH_PATH", "health"),
        ("SKYCLAW_GATEWAY_RETRY_ATTEMPTS", "-1"),
        ("SKYCLAW_CA_FILE", "/nowhere.pem"),
    ],
)
def test_a_wrong_setting_is_one_line_and_3(spawn: Callable[..., CompletedProcess[bytes]], name: str, value: str) -> None:
    ran = spawn("gateway", settings={"SKYCLAW_GATEWAY_PORT": str(free_port()), name: value})
    assert (ran.returncode, ran.stdout, ran.stderr.count(b"\n")) == (3, b"", 1)
    assert ran.stderr.decode().startswith(f"[skyclaw] {name}={value} ")


def _is_refused(url: str) -> bool:
    try:
        requests.get(f"{url}/health", timeout=10, proxies={"http": ""})
    except requests.ConnectionError:
        return True
    return False
