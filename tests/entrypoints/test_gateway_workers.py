"""A gateway of several processes on one port: replaced when they die, drained together, gone with their parent."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from skyclaw.entrypoints.gateway_workers import FIRST_PAUSE_S, LONGEST_PAUSE_S, Crew
from skyclaw.entrypoints.signals import StopSignals
from tests.support.gateway_stage import GatewayProcess, SlowAnswer, backend, coordinator, gateway
from tests.support.real_processes import PATIENCE_S, lives, wait_until


@pytest.fixture
def stops() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def slow(stops: ExitStack) -> SlowAnswer:
    answer = SlowAnswer()
    stops.callback(answer.let.set)
    return answer


@pytest.fixture
def running(stops: ExitStack, slow: SlowAnswer, tmp_path: Path) -> GatewayProcess:
    """A gateway of three processes, with one service."""
    listing = coordinator(stops)
    listing.list("web", [backend(stops, slow).url])
    process = gateway(stops, tmp_path, listing.url, SKYCLAW_GATEWAY_WORKERS=3)
    wait_until(lambda: len(workers(process)) == 3, "three workers run")
    process.until_it_knows("svc_web", "web")
    return process


def workers(running: GatewayProcess) -> list[int]:
    """The children of the gateway's process."""
    assert running.process is not None
    return [int(pid) for pid in Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()]


def are_gone(pids: list[int]) -> bool:
    return not any(map(lives, pids))


def asking(running: GatewayProcess, slow: SlowAnswer) -> tuple[threading.Thread, list[Any]]:
    """A request that is running, and what comes of it."""
    came: list[Any] = []

    def ask() -> None:
        try:
            came.append(running.get("/v1/gateway/web/slow").json())
        except requests.RequestException as error:
            came.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert slow.asked.wait(PATIENCE_S)
    return thread, came


def test_a_worker_that_dies_is_replaced_and_the_others_answer_meanwhile(running: GatewayProcess) -> None:
    first = workers(running)
    os.kill(first[0], signal.SIGKILL)
    for _ in range(20):
        assert running.get("/v1/gateway/web/x").json() == {"path": "/x"}
    wait_until(lambda: len(set(workers(running)) - {first[0]}) == 3, "another one runs")
    assert f"gateway_worker_ended pid={first[0]} code=-9" in running.printed
    assert running.stop() == 0
    assert are_gone(first)


def test_all_may_die_and_the_port_is_served_again(running: GatewayProcess) -> None:
    first = workers(running)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    assert running.get("/v1/gateway/web/x").json() == {"path": "/x"}
    wait_until(lambda: len(set(workers(running)) - set(first)) == 3, "three others run")


def test_a_signal_lets_running_requests_finish_and_then_all_end(running: GatewayProcess, slow: SlowAnswer) -> None:
    first, (thread, came) = workers(running), asking(running, slow)
    assert running.process is not None
    running.process.send_signal(signal.SIGTERM)
    wait_until(lambda: len(workers(running)) == 1, "those without a request have ended")
    with pytest.raises(requests.ConnectionError):
        running.get("/health")
    slow.let.set()
    thread.join(PATIENCE_S)
    assert came == [{"path": "/slow"}]
    assert running.process.wait(PATIENCE_S) == 0
    assert are_gone(first)
    assert "Traceback" not in running.printed


def test_a_second_signal_ends_all_at_once(running: GatewayProcess, slow: SlowAnswer) -> None:
    first, (thread, came) = workers(running), asking(running, slow)
    assert running.process is not None
    running.process.send_signal(signal.SIGINT)
    wait_until(lambda: len(workers(running)) == 1, "those without a request have ended")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(PATIENCE_S) == 130
    thread.join(PATIENCE_S)
    assert isinstance(came[0], requests.RequestException)
    assert are_gone(first)


def test_ctrl_c_which_a_terminal_sends_to_all_is_left_to_the_parent(running: GatewayProcess, slow: SlowAnswer) -> None:
    first, (thread, came) = workers(running), asking(running, slow)
    for pid in first:
        os.kill(pid, signal.SIGINT)
    for _ in range(10):
        assert running.get("/v1/gateway/web/x").json() == {"path": "/x"}
    slow.let.set()
    thread.join(PATIENCE_S)
    assert came == [{"path": "/slow"}]
    assert running.stop() == 0
    assert "gateway_worker_ended" not in running.printed


def test_no_worker_outlives_a_killed_parent(running: GatewayProcess, slow: SlowAnswer) -> None:
    first, (thread, _) = workers(running), asking(running, slow)
    running.kill()
    try:
        wait_until(lambda: are_gone(first), "the workers are gone")
    finally:
        for pid in first:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        thread.join(PATIENCE_S)


def test_a_worker_that_is_told_to_stop_by_itself_drains_and_is_replaced(running: GatewayProcess) -> None:
    first = workers(running)
    os.kill(first[0], signal.SIGTERM)
    wait_until(lambda: f"gateway_worker_ended pid={first[0]} code=0" in running.printed, "it ended as it should")
    wait_until(lambda: len(set(workers(running)) - {first[0]}) == 3, "another one runs")


def test_those_that_end_again_and_again_are_started_at_ever_longer_intervals(caplog: pytest.LogCaptureFixture) -> None:
    team = Crew(1, lambda _: 7)
    wait_until(lambda: team.look_after() or len(caplog.records) >= 3, "it was started three times")
    pauses = [float(record.getMessage().rpartition("=")[2]) for record in caplog.records[:3]]
    assert pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert " code=7 " in caplog.text
    assert all(pause <= LONGEST_PAUSE_S for pause in pauses)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not let a process choose its CPUs")
def test_each_worker_stays_on_a_cpu_which_its_successor_gets_again(running: GatewayProcess) -> None:
    def cpus() -> list[set[int]]:
        return [os.sched_getaffinity(pid) for pid in workers(running)]

    first, several = cpus(), sorted(os.sched_getaffinity(0))
    assert sorted(map(list, first)) == sorted([several[number % len(several)]] for number in range(3))
    victim = workers(running)[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in workers(running) and len(workers(running)) == 3, "another one runs")
    wait_until(lambda: sorted(map(list, cpus())) == sorted(map(list, first)), "it is where the former one was")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not let a process choose its CPUs")
@pytest.mark.parametrize(("setting", "count"), [("1", 1), ("0", None)])
def test_a_gateway_without_workers_stays_on_one_cpu_unless_told_otherwise(
    stops: ExitStack, tmp_path: Path, setting: str, count: int | None
) -> None:
    process = gateway(stops, tmp_path, coordinator(stops).url, SKYCLAW_GATEWAY_ONE_CPU=setting)
    assert process.process is not None
    assert len(os.sched_getaffinity(process.process.pid)) == (count or len(os.sched_getaffinity(0)))


def test_work_that_raises_ends_with_1(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(_: int) -> int:
        raise RuntimeError("broken")

    team = Crew(1, fail)
    wait_until(lambda: team.look_after() or caplog.records, "it ended")
    assert " code=1 " in caplog.text


def test_there_is_nobody_left_after_the_end() -> None:
    team = Crew(2, lambda _: signal.pause() or 0)
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        signals = StopSignals()
        team.look_after()
        pids = team.pids
        assert len(pids) == 2
        os.kill(os.getpid(), signal.SIGTERM)
        assert team.end(signals) is False
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert team.pids == ()
    assert are_gone(list(pids))
