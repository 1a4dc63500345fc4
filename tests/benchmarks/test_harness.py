"""The measuring itself: it counts what it should, takes turns, and leaves nothing behind. Nothing here depends on any speed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from skyclaw.store.rebuild import rebuild
from skyclaw.store.sqlite import open_sqlite
from tests.benchmarks import running
from tests.benchmarks.children import Child, ChildFailed, serve_calls
from tests.benchmarks.figures import Figure, Target, shown, table, write_json
from tests.benchmarks.filling import fill
from tests.benchmarks.hello import serve_hello, serve_hello_as_it_comes
from tests.benchmarks.loads import JOB, cycle, flood
from tests.benchmarks.parked_hosts import be_hosts
from tests.benchmarks.rounds import Rounds, in_turns
from tests.benchmarks.stage import HEADERS, QUICK, Stage, address, memory_bytes, undisturbed
from tests.benchmarks.subjects import SUBJECTS
from tests.benchmarks.wire import Connection, Refused, request
from tests.support.real_processes import wait_until

ROOT = Path(__file__).parents[2]
BRIEF_S = 0.2
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # only looked at


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path, QUICK) as found:
        yield found


@pytest.fixture
def child() -> Iterator[Child]:
    found = Child(serve_calls)
    yield found
    found.stop()


@pytest.fixture
def two_ends() -> Iterator[tuple[Connection, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = Connection(listener.getsockname())
        theirs, _ = listener.accept()
        with theirs:
            yield ours, theirs
        ours.close()


def figure(value: float = 10.0, ratio: float | None = None, target: Target | None = None) -> Figure:
    return Figure("subject", "name", value, "jobs/s", None if ratio is None else value / ratio, "hello/s", ratio, target)


# figures


@pytest.mark.parametrize(
    ("target", "reached", "met"),
    [(Target(0.5), 0.5, True), (Target(0.5), 0.49, False), (Target(3, most=True), 3.0, True), (Target(3, most=True), 3.01, False)],
)
def test_a_target_is_a_bound_on_one_side_and_includes_the_bound(target: Target, reached: float, met: bool) -> None:
    assert target.met(reached) is met


def test_the_ratio_is_judged_where_there_is_one_and_the_figure_itself_otherwise() -> None:
    assert figure(10.0, ratio=0.4, target=Target(0.5)).met is False
    assert figure(10.0, target=Target(0.5)).met is True
    assert figure(10.0).met is None


def test_the_table_says_what_was_missed_in_columns_of_one_width() -> None:
    heads, missed, plain = table([figure(4321.0, 0.4, Target(0.5)), figure(0.01234)]).splitlines()
    assert "4,321 jobs/s" in missed
    assert missed.endswith(">= 0.5  MISSED")
    assert "0.0123 jobs/s" in plain
    assert heads.index("raw limit") == missed.index("10,802 hello/s")


def test_numbers_are_shown_with_the_digits_that_count() -> None:
    assert [shown(value) for value in (0.00123, 1.239, 99.9, 1234567.8)] == ["0.00123", "1.24", "99.9", "1,234,568"]


def test_the_json_file_has_every_figure_and_the_machine(tmp_path: Path) -> None:
    write_json(tmp_path / "found.json", [figure(10.0, 0.4, Target(0.5))], 1.23)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["seconds"] == 1.2
    assert found["machine"]["processors"] == os.cpu_count()
    assert found["figures"][0] | {"target": None} == {
        "subject": "subject",
        "name": "name",
        "value": 10.0,
        "unit": "jobs/s",
        "raw": 25.0,
        "raw_name": "hello/s",
        "ratio": 0.4,
        "target": None,
        "met": False,
    }


# rounds


def test_everything_is_measured_in_every_round_forwards_and_backwards_in_turns() -> None:
    order: list[str] = []
    rounds = in_turns([lambda: order.append("a") or 1.0, lambda: order.append("b") or 2.0], most=3, within_s=60)  # type: ignore[func-returns-value]
    assert "".join(order) == "abbaab"
    assert rounds.rows == [[1.0, 2.0]] * 3


def test_there_is_one_round_even_when_the_time_is_over() -> None:
    assert len(in_turns([lambda: 1.0], most=5, within_s=0).rows) == 1


def test_the_ratio_is_the_middle_one_of_the_rounds_so_that_drift_does_not_touch_it() -> None:
    rounds = Rounds([[10.0, 20.0], [100.0, 200.0], [5.0, 100.0]])
    assert rounds.median(0) == 10.0
    assert rounds.ratio(0, 1) == 0.5


# children


def test_a_child_returns_what_the_function_returns(child: Child) -> None:
    assert child.call(divmod, 7, 2) == (3, 1)
    assert child.call(os.getpid) != os.getpid()


def test_what_goes_wrong_in_a_child_is_raised_with_its_traceback(child: Child) -> None:
    with pytest.raises(ChildFailed, match="ZeroDivisionError"):
        child.call(divmod, 1, 0)


def test_the_death_of_a_child_is_noticed(child: Child) -> None:
    with pytest.raises(ChildFailed, match="died"):
        child.call(os._exit, 3)


def test_a_child_ends_when_nobody_asks_any_more(child: Child) -> None:
    pid = child.call(os.getpid)
    child.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# wire


def test_a_request_says_the_length_of_its_body() -> None:
    head, _, body = request("POST", "/v1/jobs", {"a": 1}, {"x-token": "t"}).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v1/jobs HTTP/1.1"
    assert {b"x-token: t", b"Content-Length: 7"} <= set(head.split(b"\r\n"))
    assert body == b'{"a":1}'


def test_an_answer_that_comes_in_pieces_is_complete_with_its_last_byte(two_ends: tuple[Connection, socket.socket]) -> None:
    ours, theirs = two_ends
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    for place in range(len(text) - 1):
        theirs.sendall(text[place : place + 1])
        assert ours.receive() is None
    theirs.sendall(text[-1:])
    assert ours.receive() == (200, b"hello")


def test_the_next_answer_is_not_mixed_up_with_the_last(two_ends: tuple[Connection, socket.socket]) -> None:
    ours, theirs = two_ends
    for body in (b"first", b"2nd"):
        theirs.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        answer = ours.receive()
        assert answer is not None
        assert answer.body == body


@pytest.mark.parametrize("text", [b"HTTP/1.1 200 OK\r\n\r\n", b""])
def test_an_answer_without_a_length_or_no_answer_at_all_is_not_waited_for(text: bytes, two_ends: tuple[Connection, socket.socket]) -> None:
    ours, theirs = two_ends
    theirs.sendall(text)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(Refused):
        ours.receive()


# loads


@pytest.mark.parametrize("serve", [serve_hello, serve_hello_as_it_comes])
def test_a_flood_counts_the_answers_and_refuses_to_count_errors(serve: Callable[..., None], stage: Stage) -> None:
    place = stage.hello(serve)
    load = flood(place, request("GET", "/"), 3, BRIEF_S)
    assert load.rate > 0
    assert 0 < load.step_s[0] < BRIEF_S + 1
    with pytest.raises(Refused, match="404"):
        flood(place, request("GET", "/nothing"), 3, BRIEF_S)


def test_cycles_leave_the_queue_as_deep_as_it_was(stage: Stage, tmp_path: Path) -> None:
    fill(tmp_path / "coordinator.db", 7, 0, 0)
    coordinator = stage.coordinator(tmp_path)
    load = cycle(address(coordinator), HEADERS, 2, BRIEF_S)
    assert load.rate > 0
    assert len(load.step_s) == 3
    live = [job["status"] for job in coordinator.get("/v1/state")["jobs"] if job["status"] != "completed"]
    assert live == ["queued"] * 7


def test_waiting_hosts_get_the_jobs_one_after_the_other_and_report_them(stage: Stage) -> None:
    coordinator = stage.coordinator()
    hosts = stage.keep(lambda: Child(be_hosts, address(coordinator), HEADERS, 3))
    assert hosts.answer() == "waiting"
    assert len(hosts.ask(4)) == 4

    def all_done() -> bool:
        jobs = coordinator.get("/v1/state")["jobs"]
        return [job["status"] for job in jobs] == ["completed"] * 4

    wait_until(all_done, "all jobs are done")
    assert len({job["assignedHostId"] for job in coordinator.get("/v1/state")["jobs"]}) > 1


# databases with a past


@pytest.mark.parametrize(("live", "finished", "unsnapped"), [(5, 7, 10), (6, 0, 0), (1, 3, 4)])
def test_a_filled_log_is_what_a_coordinator_would_have_left(live: int, finished: int, unsnapped: int, tmp_path: Path) -> None:
    fill(tmp_path / "filled.db", live, finished, unsnapped)
    log = open_sqlite(tmp_path / "filled.db", "test")
    try:
        state, begun = rebuild(log)
        assert len(list(log.tail(log.log, 0))) == state.end == 3 + live + 3 * finished
    finally:
        log.close()
    assert state.end - begun == unsnapped
    assert len(state.jobs) == state.queued == live
    assert len(state.recent) == finished


# the program


@pytest.fixture
def folder() -> Iterator[Path]:
    """On the disk of the repository, wherever the tests' own folders are."""
    (ROOT / ".benchmarks").mkdir(exist_ok=True)
    with TemporaryDirectory(dir=ROOT / ".benchmarks") as name:
        yield Path(name)


def program(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def of_folder(folder: Path) -> list[int]:
    """The processes that were started with something in this folder in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        with ExitStack() as gone:
            gone.push(lambda kind, *_: kind is not None and issubclass(kind, OSError))
            if str(folder).encode() in place.read_bytes():
                found.append(int(place.parent.name))
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_run_that_is_interrupted_stops_and_deletes_everything(number: signal.Signals, code: int, folder: Path) -> None:
    running_one = program("--quick", "--folder", str(folder), "true_jobs")
    wait_until(lambda: of_folder(folder), "a coordinator runs")
    running_one.send_signal(number)
    said, _ = running_one.communicate(timeout=60)
    assert running_one.returncode == code, said
    assert "interrupted" in said
    assert of_folder(folder) == []
    assert list(folder.iterdir()) == []


def test_an_interruption_waits_until_what_is_started_is_known() -> None:
    known = []

    def start() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            known.append("the process")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert known == ["the process"]


def test_a_name_that_nobody_knows_is_refused_with_those_that_are_known() -> None:
    refused = program("nonsense")
    said, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "nonsense" in said
    assert all(name in said for name in SUBJECTS)


def test_a_run_that_takes_too_long_ends_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def endless(_stage: Stage) -> Iterator[Figure]:
        yield figure(10.0)
        threading.Event().wait(60)

    kept: list[Figure] = []
    monkeypatch.setattr(running, "SUBJECTS", {"endless": endless})
    assert running.run(["endless"], QUICK, tmp_path, 0.2, lambda figures, _: kept.extend(figures)) == 1
    assert kept == [figure(10.0)]
    assert "out of time" in capsys.readouterr().out


def test_a_subject_that_fails_leaves_the_others_to_be_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(_stage: Stage) -> Iterator[Figure]:
        yield figure(1.0)
        raise Refused("answered 503")

    kept: list[Figure] = []
    monkeypatch.setattr(running, "SUBJECTS", {"failing": failing, "good": lambda _stage: iter([figure(2.0)])})
    assert running.run(["failing", "good"], QUICK, tmp_path, 60, lambda figures, _: kept.extend(figures)) == 1
    assert kept == [figure(1.0), figure(2.0)]
    assert "failing failed" in (said := capsys.readouterr().out)
    assert "answered 503" in said


def test_folders_in_memory_are_told_from_those_on_a_disk() -> None:
    assert running.on_disk(ROOT)
    if SHARED_MEMORY.is_mount():
        assert not running.on_disk(SHARED_MEMORY / "not" / "there" / "yet")


def test_a_coordinator_takes_the_job_that_is_measured_and_its_memory_is_seen(stage: Stage) -> None:
    coordinator = stage.coordinator()
    assert coordinator.post("/v1/jobs", JOB)["job"]["status"] == "queued"
    assert 10e6 < memory_bytes(coordinator) < 1e9
