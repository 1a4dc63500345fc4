"""ServiceSupervisor and its work, step by step: what the coordinators answer, and what follows."""

import pytest

from actors.host_messages import Drain, StopNow
from actors.service_messages import Unpacked
from actors.service_supervisor import ENDS_MS
from actors.service_work import MOST_REASON
from actors.ticker import Tick
from skyclaw.outside.orders import EXECUTOR_DIED
from tests.support.service_bench import INSTANCE, TAG, ServiceBench, wanted

SECOND, ELSEWHERE = f"ins_{TAG}00000002", "ins_ffffffff00000001"
BUNDLE = "ab" * 32


@pytest.fixture
def bench() -> ServiceBench:
    return ServiceBench()


def test_a_wanted_instance_is_started_once(bench: ServiceBench) -> None:
    bench.sync(wanted())
    bench.sync(wanted())
    (order,) = bench.helpers.orders
    assert (order.argv, order.cwd, order.instance_id, order.output) == (
        ("/bin/true",),
        "/started/here",
        INSTANCE,
        f"/services/{INSTANCE}/output",
    )
    assert order.env == {"PORT": "3100", "SKYCLAW_SERVICE_NAME": "web"}
    assert bench.status() == "starting"


def test_a_probe_that_is_answered_well_makes_it_running(bench: ServiceBench) -> None:
    bench.sync(wanted(health={"path": "/up"}))
    bench.tell(Tick())
    assert bench.helpers.probes == [(INSTANCE, 1, 3_100, "/up")]
    bench.healthy()
    shown = bench.shown()
    assert shown is not None
    assert (shown.status, shown.port, shown.error) == ("running", 3_100, None)
    assert bench.said == ["[skyclaw] service web revision 2 running on port 3100"]


def test_each_instance_has_a_port_of_its_own(bench: ServiceBench) -> None:
    bench.sync(wanted(), wanted(SECOND))
    assert [order.env["PORT"] for order in bench.helpers.orders] == ["3100", "3101"]
    bench.end("gone", 0)
    bench.now += 100
    bench.tell(Tick())
    assert bench.helpers.orders[2].env["PORT"] == "3100"  # it has kept its port while it had no process


def test_a_port_is_wanted_back_by_all_means_only_after_it_served(bench: ServiceBench) -> None:
    bench.sync(wanted())
    bench.healthy()
    for _ in range(2):
        bench.end("gone")
        bench.now += 1_000
        bench.tell(Tick())
    assert bench.helpers.asked_ports == [(None, False), (3_100, True), (3_100, False)]


def test_without_a_free_port_it_tries_again(bench: ServiceBench) -> None:
    bench.helpers.ports = []
    bench.sync(wanted())
    shown = bench.shown()
    assert shown is not None
    assert (shown.status, shown.port, shown.error) == ("starting", None, "no free port on this host")
    bench.helpers.ports = [3_100]
    bench.now += 100
    bench.tell(Tick())
    assert len(bench.helpers.orders) == 1


def test_without_room_for_its_folder_it_tries_again(bench: ServiceBench) -> None:
    bench.helpers.broken_folders = True
    bench.sync(wanted())
    shown = bench.shown()
    assert shown is not None
    assert (shown.status, shown.error) == ("starting", "no folder for it: No space left on device")
    bench.helpers.broken_folders = False
    bench.now += 100
    bench.tell(Tick())
    assert len(bench.helpers.orders) == 1


def test_an_instance_waits_for_its_bundle(bench: ServiceBench) -> None:
    bench.sync(wanted(bundle=BUNDLE))
    assert (bench.helpers.unpacked, bench.helpers.orders) == ([(INSTANCE, BUNDLE)], [])
    bench.tell(Unpacked(INSTANCE, "no coordinator answers"))
    bench.now += 100
    bench.tell(Tick())
    assert bench.helpers.unpacked == [(INSTANCE, BUNDLE)] * 2
    bench.tell(Unpacked(INSTANCE))
    assert bench.helpers.orders[0].cwd == f"/services/{INSTANCE}/files"


def test_a_reason_that_is_no_text_or_very_long_can_be_told_nevertheless(bench: ServiceBench) -> None:
    """It would keep the host from telling of all the others."""
    bench.sync(wanted(bundle=BUNDLE))
    bench.tell(Unpacked(INSTANCE, f"bad\udcff\n{'x' * 5_000}", for_good=True))
    shown = bench.shown()
    assert shown is not None
    assert (len(shown.error or ""), (shown.error or "")[:6]) == (MOST_REASON, "bad??x")


def test_a_bundle_that_comes_too_late_is_deleted(bench: ServiceBench) -> None:
    bench.sync(wanted(bundle=BUNDLE))
    bench.sync()
    bench.sync()
    assert (bench.status(), bench.helpers.removed) == (None, [INSTANCE])
    bench.tell(Unpacked(INSTANCE))
    assert bench.helpers.removed == [INSTANCE, INSTANCE]
    assert bench.helpers.orders == []


def test_the_executors_death_is_not_the_services_failure(bench: ServiceBench) -> None:
    bench.sync(wanted())
    for _ in range(5):
        bench.end(EXECUTOR_DIED)
        bench.now += 30_000
        bench.tell(Tick())
    assert len(bench.helpers.orders) == 6
    assert bench.status() == "starting"


@pytest.mark.parametrize(
    ("error", "signal", "code", "words"),
    [
        (None, None, 7, "exited with code 7"),
        (None, "SEGV", 139, "killed by SEGV"),
        ("spawn /bin/true ENOENT", None, 127, "spawn /bin/true ENOENT"),
    ],
)
def test_how_a_process_ended_is_told(bench: ServiceBench, error: str | None, signal: str | None, code: int, words: str) -> None:
    bench.sync(wanted())
    bench.end(error, signal=signal, code=code)
    shown = bench.shown()
    assert shown is not None
    assert (shown.error, shown.port) == (words, None)


def test_what_a_process_said_last_is_told_without_its_secrets(bench: ServiceBench) -> None:
    bench.sync(wanted(env={"DATABASE": "secret-of-mine"}))
    bench.end(said="Error: no answer of secret-of-mine\n    at main\n")
    shown = bench.shown()
    assert shown is not None
    assert shown.error == "exited with code 1: Error: no answer of ***"


@pytest.mark.parametrize("how", ["stop", "not listed"])
def test_what_is_not_wanted_is_terminated_told_and_forgotten(bench: ServiceBench, how: str) -> None:
    bench.sync(wanted())
    bench.healthy()
    bench.sync(stop=[INSTANCE] if how == "stop" else [], logs=[] if how == "stop" else [TAG])
    assert bench.helpers.killed == [bench.helpers.orders[0].run_id]
    bench.end("killed: not wanted")
    assert bench.status() == "ended"
    assert bench.said[-1] == "[skyclaw] service web revision 2 ended"
    bench.sync()
    assert (bench.status(), bench.helpers.removed) == (None, [INSTANCE])


def test_what_nobody_speaks_for_goes_on(bench: ServiceBench) -> None:
    bench.sync(wanted(ELSEWHERE), logs=[TAG, "ffffffff"])
    bench.healthy(ELSEWHERE)
    bench.sync(logs=[TAG])
    assert (bench.status(ELSEWHERE), bench.helpers.killed) == ("running", [])


def test_a_failed_instance_is_told_of_until_nobody_wants_it(bench: ServiceBench) -> None:
    bench.sync(wanted(command="rm"))
    bench.sync(wanted(command="rm"))
    assert bench.status() == "failed"
    assert bench.said == ["[skyclaw] service web revision 2 failed: command not allowed: rm"]
    bench.sync()
    assert (bench.status(), bench.said) == (None, bench.said[:1])


def test_an_instance_that_is_to_drain_and_is_not_here_has_ended(bench: ServiceBench) -> None:
    bench.sync(wanted(state="drain"))
    assert (bench.status(), bench.helpers.orders) == ("ended", [])
    bench.sync(wanted(state="drain"))  # the owner could not write it down yet
    assert (bench.status(), len(bench.said)) == ("ended", 1)
    bench.sync()
    assert bench.status() is None


def test_what_has_ended_and_is_wanted_nevertheless_begins_anew(bench: ServiceBench) -> None:
    bench.sync(wanted())
    bench.sync()
    bench.end("killed")
    bench.sync(wanted(), told={INSTANCE: "starting"})  # an answer from before its end was told
    assert (bench.status(), len(bench.helpers.orders)) == ("ended", 1)
    bench.sync(wanted())
    assert (bench.status(), len(bench.helpers.orders), bench.helpers.removed) == ("starting", 2, [])


def test_no_more_instances_than_allowed_are_started_and_failed_ones_do_not_count(bench: ServiceBench) -> None:
    many = [wanted(f"ins_{TAG}{number:08}", command="rm" if number == 0 else "true") for number in range(5)]
    bench.sync(*many)
    assert [bench.status(entry["instanceId"]) for entry in many] == ["failed", "starting", "starting", "starting", "failed"]


def test_folders_that_nobody_wants_are_deleted_as_soon_as_that_is_certain() -> None:
    bench = ServiceBench(left=[INSTANCE, SECOND, ELSEWHERE])
    bench.sync(wanted(SECOND), logs=[TAG])
    assert bench.helpers.removed == [INSTANCE]
    bench.sync(logs=[TAG, "ffffffff"])
    assert bench.helpers.removed == [INSTANCE, ELSEWHERE]


def test_a_host_without_services_leaves_at_once(bench: ServiceBench) -> None:
    assert bench.idle == []
    bench.tell(Drain())
    assert bench.idle == [True]
    bench.sync(wanted())
    assert bench.helpers.orders == []


def test_a_host_that_leaves_ends_all_at_once_and_waits_until_that_is_told(bench: ServiceBench) -> None:
    bench.sync(wanted(drainMs=60_000), wanted(SECOND))
    bench.healthy()
    bench.tell(Drain())
    assert len(bench.helpers.killed) == 2
    assert not bench.helpers.in_a_hurry
    bench.end("killed", 0)
    bench.end("killed", 1)
    assert (bench.status(), bench.status(SECOND), bench.idle) == ("ended", "ended", [])
    bench.sync(wanted(), wanted(SECOND))
    assert bench.board.shown == ()
    assert bench.idle
    assert len(bench.helpers.orders) == 2


def test_a_host_that_leaves_does_not_wait_for_coordinators_for_ever(bench: ServiceBench) -> None:
    bench.sync(wanted())
    bench.tell(Drain())
    bench.now += ENDS_MS
    bench.tell(Tick())
    assert bench.idle == []  # a process lives
    bench.end("killed")
    bench.now += 5_000
    bench.tell(Tick())
    assert bench.idle


def test_a_host_that_must_go_now_waits_for_nothing(bench: ServiceBench) -> None:
    bench.sync(wanted())
    bench.tell(StopNow())
    assert bench.helpers.in_a_hurry
    bench.now += 3_000
    bench.tell(Tick())
    assert bench.idle
