"""The threads around HostAgent, one step at a time, against real servers that answer as a test tells them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.host_boxes import Outbox, Slots
from actors.host_claims import ClaimLoop
from actors.host_config import HostConfig
from actors.host_deliveries import DeliveryLoop
from actors.host_heartbeats import HeartbeatLoop
from actors.host_loops import Loop
from actors.host_messages import Claimed, GiveBack, HostUnknown, NotRenewed, Renewed, Report, Settled
from skyclaw.errors import ServerRefused, Unavailable, Unreachable
from skyclaw.hosting.held_leases import Lease
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.kept_results import KeptResults
from tests.support.scripted_server import Asked, Reply, ScriptedServer, serving

A = Lease("job_a", "t1")
UNKNOWN_HOST = Reply(404, {"error": "unknown host: host_1", "code": "unknown_host"})
BUSY = Reply(503, {"error": "busy", "code": "unavailable"}, {"retry-after": "7"})


def ticking() -> Callable[[], int]:
    """A clock that goes on by a second each time it is read."""
    times = iter(range(0, 10**9, 1_000))
    return lambda: next(times)


class Script:
    """A server whose replies are given one by one; what follows the last is the last."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)

    def __call__(self, _: Asked) -> Reply:
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


@pytest.fixture
def told() -> list[object]:
    return []


def claims(server: ScriptedServer, told: list[object], slots: Slots | None = None) -> ClaimLoop:
    return ClaimLoop(Coordinators([server.url]), "host_1", slots or Slots(4), 500, told.append, ticking())


def test_an_early_answer_that_tells_of_other_services_is_followed_by_the_next_claim_at_once(told: list[object]) -> None:
    with serving(
        Script(*(Reply(say={"job": None, **services}) for services in ({"services": "aa"}, {"services": "aa"}, {}, {})))
    ) as server:
        loop = ClaimLoop(Coordinators([server.url]), "host_1", Slots(1), 500, told.append, lambda: 0)
        assert [loop.once() for _ in range(4)] == [0, 0.5, 0, 0.5]


def test_a_claim_asks_for_all_the_room_there_is_and_takes_it() -> None:
    told: list[object] = []
    slots = Slots(4)
    with serving(Script(Reply(say={"job": {"id": "a"}, "jobs": [{"id": "a"}, {"id": "b"}]}))) as server:
        loop = claims(server, told, slots)
        assert loop.once() == 0
        loop.once()
    assert [asked.json["max"] for asked in server.asked] == [4, 2]
    assert server.asked[0].path == "/v1/hosts/host_1/claim"
    assert told[0] == Claimed(({"id": "a"}, {"id": "b"}), 0, 1_000, server.asked[0].json["claimId"])
    assert (slots.free, loop.has_work()) == (0, False)


def test_a_coordinator_of_the_typescript_kind_answers_with_one_job(told: list[object]) -> None:
    with serving(Script(Reply(say={"job": {"id": "a"}}))) as server:
        claims(server, told).once()
    assert told == [Claimed(({"id": "a"},), 0, 1_000, server.asked[0].json["claimId"])]


def test_a_claim_is_repeated_as_it_was_until_it_is_answered(told: list[object]) -> None:
    with serving(Script(BUSY, BUSY, Reply(say={"job": None}))) as server:
        slots = Slots(4)
        loop = claims(server, told, slots)
        for _ in range(2):
            with pytest.raises(ServerRefused):
                loop.once()
            slots.take(1)
        loop.once()
        slots.give(1)
        loop.once()
    bodies = [asked.json for asked in server.asked]
    assert bodies[0] == bodies[1] == bodies[2]
    assert bodies[3]["claimId"] != bodies[0]["claimId"]


def test_a_host_that_is_not_known_says_so_and_claims_anew(told: list[object]) -> None:
    with serving(Script(UNKNOWN_HOST, Reply(say={"job": None}))) as server:
        loop = claims(server, told)
        with pytest.raises(ServerRefused) as caught:
            loop.once()
        loop.failed(caught.value)
        loop.once()
    assert told == [HostUnknown(), Claimed((), 1_000, 2_000, server.asked[1].json["claimId"])]
    assert server.asked[0].json["claimId"] != server.asked[1].json["claimId"]


@pytest.mark.parametrize("reason", ["draining", "paused", "quarantined", "full"])
def test_a_host_that_gets_nothing_for_a_reason_asks_again_after_the_poll_interval(told: list[object], reason: str) -> None:
    with serving(Script(Reply(say={"job": None, "jobs": [], "reason": reason}))) as server:
        assert claims(server, told).once() == 0.5
    assert told == [Claimed((), 0, 1_000, server.asked[0].json["claimId"])]


def test_a_claim_that_was_parked_in_vain_is_followed_by_the_next_at_once(told: list[object]) -> None:
    with serving(Script(Reply(say={"job": None, "jobs": []}))) as server:
        assert claims(server, told).once() == 0.0  # by the ticking clock it took a second
        unparked = ClaimLoop(Coordinators([server.url]), "host_1", Slots(1), 500, told.append, lambda: 0)
        assert unparked.once() == 0.5


def test_closed_slots_leave_nothing_to_do(told: list[object]) -> None:
    with serving(Script(Reply())) as server:
        slots = Slots(1)
        loop = claims(server, told, slots)
        assert loop.has_work()
        slots.close()
        assert not loop.has_work()
        loop.once()
    assert server.asked == []


def heartbeats(server: ScriptedServer, told: list[object]) -> HeartbeatLoop:
    config = HostConfig(name="one", capabilities=("shell",), labels={"isolation": "none"}, max_parallel=2)
    return HeartbeatLoop(Coordinators([server.url]), config, "host_1", told.append, ticking())


def test_a_heartbeat_lists_the_leases_and_brings_back_what_is_gone(told: list[object]) -> None:
    with serving(Script(Reply(say={"host": {}, "cancelled": ["job_b"], "lost": ["job_c"]}))) as server:
        loop = heartbeats(server, told)
        assert not loop.has_work()
        loop.order((Lease("job_x", "t0"),), "c.1", 5.0)
        loop.order((A,), "c.2", 5.0)
        assert loop.has_work()
        loop.once()
        assert not loop.has_work()
    (asked,) = server.asked
    assert asked.json == {"activeLeases": 1, "leases": [{"jobId": "job_a", "leaseToken": "t1"}], "answeredClaim": "c.2"}
    assert told == [Renewed((A,), 0, frozenset({"job_b"}), frozenset({"job_c"}))]


def test_a_host_that_is_not_known_registers_again_with_its_leases(told: list[object]) -> None:
    with serving(Script(UNKNOWN_HOST, Reply(say={"host": {"id": "host_1"}}))) as server:
        loop = heartbeats(server, told)
        loop.order((A,), "c.2", 5.0)
        loop.once()
    assert server.asked[1].path == "/v1/hosts/register"
    assert server.asked[1].json == {
        "hostId": "host_1",
        "name": "one",
        "capabilities": ["shell"],
        "maxParallel": 2,
        "labels": {"isolation": "none"},
        "leases": [{"jobId": "job_a", "leaseToken": "t1"}],
    }
    assert told == [NotRenewed()]


def test_leases_about_which_nobody_could_be_told_are_not_renewed_and_the_next_heartbeat_follows_soon(told: list[object]) -> None:
    with serving(Script(Reply(say={"host": {}, "cancelled": [], "lost": [], "notRenewed": ["job_a"]}))) as server:
        loop = heartbeats(server, told)
        loop.order((A,), "c.2", 5.0)
        loop.once()
    assert told == [Renewed((A,), 0, doubtful=frozenset({"job_a"})), NotRenewed()]


def test_a_heartbeat_that_does_not_arrive_is_told(told: list[object]) -> None:
    with serving(Script(BUSY)) as server:
        loop = heartbeats(server, told)
        loop.order((A,), "c.2", 5.0)
        with pytest.raises(ServerRefused) as caught:
            loop.once()
        loop.failed(caught.value)
    assert told == [NotRenewed()]


class Post:
    """A delivery loop with its outbox and its disk."""

    def __init__(self, server: ScriptedServer, folder: Path) -> None:
        self.told: list[object] = []
        self.outbox, self.kept = Outbox(), KeptResults(folder)
        self.loop = DeliveryLoop(Coordinators([server.url]), "host_1", self.outbox, self.kept, self.told.append)

    def put(self, job_id: str, lease: str = "t1", **result: Any) -> Report:
        whole = {"success": True, "durationMs": 1, "exitCode": 0, "stdout": "", "stderr": "", **result}
        report = Report(f"run-{job_id}-{lease}", Lease(job_id, lease), 60_000, "shell", whole)
        self.outbox.put(report)
        return report


def taken(asked: Asked) -> Reply:
    return Reply(say={"results": [{"jobId": result["jobId"], "ok": True, "status": "completed"} for result in asked.json["results"]]})


def test_what_has_come_together_travels_together_and_is_settled(tmp_path: Path) -> None:
    with serving(taken) as server:
        post = Post(server, tmp_path)
        reports = [post.put(f"job_{number}") for number in range(300)]
        post.loop.once()
        post.loop.once()
        assert not post.loop.has_work()
    assert [len(asked.json["results"]) for asked in server.asked] == [256, 44]
    assert post.told == [Settled(tuple(reports[:256]), accepted=True), Settled(tuple(reports[256:]), accepted=True)]


def test_a_batch_stays_below_the_coordinators_limit(tmp_path: Path) -> None:
    with serving(taken) as server:
        post = Post(server, tmp_path)
        for number in range(12):
            post.put(f"job_{number}", stdout="x" * 500_000)
        while post.loop.has_work():
            post.loop.once()
    assert len(server.asked) == 3
    assert all(len(asked.body) < 4 * 1024 * 1024 for asked in server.asked)


@pytest.mark.parametrize("code", ["storage_full", "unavailable", "owner_unknown", "not_owner", "too_few_copies", "lost_contact"])
def test_a_result_that_the_coordinator_cannot_take_now_stays_and_the_others_go(tmp_path: Path, code: str) -> None:
    full = {"jobId": "job_b", "ok": False, "code": code, "error": "no room"}
    with serving(Script(Reply(say={"results": [{"jobId": "job_a", "ok": True, "status": "completed"}, full]}))) as server:
        post = Post(server, tmp_path)
        first, second = post.put("job_a"), post.put("job_b")
        with pytest.raises(Unavailable, match="no room") as caught:
            post.loop.once()
        post.loop.failed(caught.value)
    assert post.told == [Settled((first,), accepted=True)]
    assert post.outbox.reports() == [second]
    assert [kept.job_id for kept in post.kept.all()] == ["job_b"]


def test_an_answer_that_does_not_fit_settles_nothing(tmp_path: Path) -> None:
    with serving(Script(Reply(say={"results": []}))) as server:
        post = Post(server, tmp_path)
        post.put("job_a")
        with pytest.raises(Unavailable):
            post.loop.once()
    assert post.told == []


def test_an_undelivered_result_is_on_the_disk_once_and_leaves_it_when_it_is_taken(tmp_path: Path) -> None:
    replies = [lambda _: BUSY, lambda _: UNKNOWN_HOST, taken]
    with serving(lambda asked: replies.pop(0)(asked)) as server:
        post = Post(server, tmp_path)
        post.put("job_a", stdout="kept")
        for _ in range(2):
            with pytest.raises(ServerRefused) as caught:
                post.loop.once()
            post.loop.failed(caught.value)
        (kept,) = post.kept.all()
        assert (kept.host_id, kept.lease_token, kept.result["stdout"]) == ("host_1", "t1", "kept")
        post.loop.once()
    assert post.kept.all() == []
    assert HostUnknown() in post.told


def test_a_stale_result_that_is_settled_leaves_the_newer_one_of_the_same_job_on_the_disk(tmp_path: Path) -> None:
    stale = {"jobId": "job_a", "ok": False, "code": "stale_lease", "error": "the lease is over"}
    full = {"jobId": "job_a", "ok": False, "code": "storage_full", "error": "no room"}
    replies = [BUSY, Reply(say={"results": [stale, full]})]
    with serving(lambda _: replies.pop(0)) as server:
        post = Post(server, tmp_path)
        post.put("job_a", "t1")
        newer = post.put("job_a", "t2")
        for _ in range(2):
            with pytest.raises((ServerRefused, Unavailable)) as caught:
                post.loop.once()
            post.loop.failed(caught.value)
    assert post.outbox.reports() == [newer]
    assert [kept.lease_token for kept in post.kept.all()] == ["t2"]


def test_what_is_not_delivered_when_the_loop_stops_is_on_the_disk(tmp_path: Path) -> None:
    with serving(taken) as server:
        post = Post(server, tmp_path)
        post.put("job_a")
        post.loop.stop()
    assert [kept.job_id for kept in post.kept.all()] == ["job_a"]


def test_a_full_disk_does_not_end_the_deliveries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    with serving(Script(BUSY)) as server:
        post = Post(server, tmp_path)
        monkeypatch.setattr(post.kept, "keep", full)
        report = post.put("job_a")
        post.loop.failed(Unreachable({}))
    assert post.outbox.reports() == [report]
    assert "result_not_kept job=job_a" in caplog.text


@pytest.mark.parametrize("reply", [Reply(say={"job": {}}), Reply(404, {"error": "x", "code": "unknown_job"}), Reply(409, {"error": "x"})])
def test_a_job_is_given_back_or_was_not_ours_to_give(tmp_path: Path, reply: Reply) -> None:
    with serving(Script(reply)) as server:
        post = Post(server, tmp_path)
        item = GiveBack("run-1", Lease("job a/b", "t1"), "host_stops")
        post.outbox.put(item)
        post.loop.once()
    assert server.asked[0].path == "/v1/jobs/job%20a%2Fb/release"
    assert server.asked[0].json == {"hostId": "host_1", "leaseToken": "t1", "reason": "host_stops"}
    assert post.told == [Settled((item,), accepted=True)]
    assert not post.loop.has_work()


def test_a_job_that_could_not_be_given_back_stays(tmp_path: Path) -> None:
    with serving(Script(UNKNOWN_HOST)) as server:
        post = Post(server, tmp_path)
        post.outbox.put(GiveBack("run-1", A, "host_stops"))
        with pytest.raises(ServerRefused):
            post.loop.once()
    assert post.outbox.owes


def test_a_goodbye_is_said_until_it_is_heard_but_nobody_waits_for_it_twice(tmp_path: Path) -> None:
    with serving(Script(BUSY, Reply(say={"host": {}}))) as server:
        post = Post(server, tmp_path)
        post.outbox.say_goodbye()
        assert post.outbox.owes
        with pytest.raises(ServerRefused) as caught:
            post.loop.once()
        post.loop.failed(caught.value)
        assert not post.outbox.owes
        assert post.loop.has_work()
        post.loop.once()
        assert not post.loop.has_work()
    assert [asked.path for asked in server.asked] == ["/v1/hosts/host_1/drain"] * 2


class Faltering(Loop):
    """Fails as often as it is told, then counts."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("faltering", most_s=0.2)
        self._errors, self.count, self.counted = list(errors), 0, threading.Event()

    def once(self) -> float:
        if self._errors:
            raise self._errors.pop(0)
        self.count += 1
        self.counted.set()
        return 60.0


@pytest.fixture
def faltering() -> Iterator[Callable[..., Faltering]]:
    started: list[Faltering] = []

    def start(*errors: Exception) -> Faltering:
        started.append(Faltering(*errors))
        started[-1].start()
        return started[-1]

    yield start
    for loop in started:
        loop.stop(5)
        assert not loop.is_alive()


def test_a_loop_survives_whatever_happens_and_says_so_once(faltering: Callable[..., Faltering], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    loop = faltering(Unavailable("no"), Unavailable("no"), ZeroDivisionError("oops"), Unavailable("other"))
    assert loop.counted.wait(10)
    loop.stop(5)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "coordinator_trouble loop=faltering cause=no",
        "loop_failed loop=faltering",
        "coordinator_trouble loop=faltering cause=other",
        "coordinator_answers_again loop=faltering",
    ]


def test_a_nudge_ends_the_waiting(faltering: Callable[..., Faltering]) -> None:
    loop = faltering()
    assert loop.counted.wait(10)
    loop.counted.clear()
    loop.nudge()
    assert loop.counted.wait(10)
    assert loop.count == 2


def test_a_pause_that_the_coordinator_asked_for_is_ended_by_stop_alone(faltering: Callable[..., Faltering]) -> None:
    loop = faltering(ServerRefused(503, "unavailable", "later", retry_after=60.0))
    loop.nudge()
    assert not loop.counted.wait(0.3)


def gathering(loop: Loop, enough: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=loop.gather, args=(enough.is_set,), daemon=True)
    thread.start()
    return thread


def test_requests_in_quick_succession_wait_until_they_carry_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, enough = Faltering(), threading.Event()
    loop.gather(enough.is_set)  # the first for long: at once
    monkeypatch.setattr("actors.host_loops.GATHER_S", 60.0)
    thread = gathering(loop, enough)
    loop.nudge()
    thread.join(0.2)
    assert thread.is_alive()
    enough.set()
    loop.nudge()
    thread.join(10)
    assert not thread.is_alive()


def test_what_gathers_does_not_wait_for_long_and_not_for_a_loop_that_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, never = Faltering(), threading.Event()
    for _ in range(3):
        loop.gather(never.is_set)
    monkeypatch.setattr("actors.host_loops.GATHER_S", 60.0)
    thread = gathering(loop, never)
    loop.stop()
    thread.join(10)
    assert not thread.is_alive()
