"""A whole host with services against a stand-in coordinator over real HTTP, with real processes."""

import http.client
import io
import os
import re
import shutil
import signal
import socket
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.service_bundles import BundleStock
from skyclaw.hosting import service_life
from skyclaw.outside.bundles import packed
from skyclaw.outside.ports import free_port
from skyclaw.store import bundles as store_bundles
from tests.support.executors import ROOT, children, command_line
from tests.support.hosts import Hosted, hosting, until
from tests.support.real_processes import lives
from tests.support.stand_in_coordinator import StandInCoordinator, coordinating
from tests.support.stand_in_services import ANOTHER_TAG, StandInInstance

SERVICE = str(Path(__file__).parents[1] / "support" / "small_service.py")
HEALTH = {"path": "/health", "timeoutMs": 60_000}


@pytest.fixture
def coordinator() -> Iterator[StandInCoordinator]:
    with coordinating() as coordinator:
        yield coordinator


@pytest.fixture
def base_port() -> int:
    """A port that nobody has at this moment."""
    return free_port(20_000 + os.getpid() % 11_000, ())


@pytest.fixture
def host(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> Iterator[Hosted]:
    with serving(coordinator, tmp_path, base_port) as host:
        yield host


def serving(coordinator: StandInCoordinator, folder: Path, base_port: int, **changes: Any) -> Any:
    """A host that takes services."""
    given = {"services": 32, "service_base_port": base_port, "allowed_commands": ("bash", "missing-program", sys.executable)}
    return hosting(folder, coordinator.url, **{**given, **changes})


def want(coordinator: StandInCoordinator, folder: Path, **fields: Any) -> StandInInstance:
    """Deploy the small service, which `folder` tells how to behave."""
    folder.mkdir(exist_ok=True)
    with coordinator.changed:
        return coordinator.services.want(sys.executable, "-I", "-S", SERVICE, str(folder), **{"health": HEALTH, **fields})


def want_command(coordinator: StandInCoordinator, command: str, *args: str, **fields: Any) -> StandInInstance:
    with coordinator.changed:
        return coordinator.services.want(command, *args, **fields)


def is_running(coordinator: StandInCoordinator, *instances: StandInInstance) -> None:
    """Wait until the coordinator was told so."""
    coordinator.until(lambda: all(instance.status == "running" for instance in instances))


def ask(instance: StandInInstance, path: str = "/") -> str:
    """What the service answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{instance.port}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def pid_of(instance: StandInInstance) -> int:
    return int(ask(instance).split()[0])


def crash(instance: StandInInstance) -> None:
    with pytest.raises(ConnectionError):
        ask(instance, "/crash")


def change(coordinator: StandInCoordinator, instance: StandInInstance, state: str | None) -> None:
    with coordinator.changed:
        instance.state = state


def test_a_service_runs_is_told_of_and_ends_when_it_is_not_wanted_any_more(
    coordinator: StandInCoordinator, host: Hosted, tmp_path: Path, base_port: int
) -> None:
    web = want(coordinator, tmp_path / "web")
    is_running(coordinator, web)
    pid = pid_of(web)
    assert ask(web) == f"{pid} web {Path.cwd()}"
    assert (web.statuses[-1], web.endpoint, web.error) == ("running", None, None)
    port = web.port
    assert port is not None
    assert base_port <= port <= base_port + 1_000
    coordinator.until(lambda: web.output == f"pid {pid}\n")
    change(coordinator, web, None)
    until(lambda: not lives(pid))
    until(lambda: "[skyclaw] service web revision 1 ended" in host.printed)
    assert host.printed[1:] == [f"[skyclaw] service web revision 1 running on port {port}", "[skyclaw] service web revision 1 ended"]
    until(lambda: not list((tmp_path / "home/hosts/0/services").iterdir()))


def test_the_registration_says_how_many_services_a_host_takes(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> None:
    with serving(coordinator, tmp_path, base_port, services=7):
        pass
    with serving(coordinator, tmp_path, base_port, services=0, capabilities=("shell", "service-host")):
        pass
    with_services, without = coordinator.registrations
    assert with_services["labels"]["services"] == "7"
    assert "service-host" in with_services["capabilities"]
    assert without["labels"]["services"] == "0"
    assert without["capabilities"] == ["shell"]


def test_a_service_that_crashed_is_started_again_in_its_place(coordinator: StandInCoordinator, host: Hosted, tmp_path: Path) -> None:
    web = want(coordinator, tmp_path / "web")
    is_running(coordinator, web)
    former = pid_of(web)
    crash(web)
    coordinator.until(lambda: web.statuses[-3:] == ["running", "starting", "running"])
    assert f"exited with code 3: pid {former}" in web.errors
    assert web.error is None
    assert pid_of(web) != former
    coordinator.until(lambda: web.output.count("pid ") == 2)  # one output over both


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_service_that_was_killed_is_started_again(
    coordinator: StandInCoordinator, host: Hosted, tmp_path: Path, number: signal.Signals
) -> None:
    web = want(coordinator, tmp_path / "web")
    is_running(coordinator, web)
    former = pid_of(web)
    os.kill(former, number)
    coordinator.until(lambda: web.statuses[-3:] == ["running", "starting", "running"])
    assert web.errors == [f"killed by {number.name.removeprefix('SIG')}"]
    assert pid_of(web) != former


NODE = """
require("http").createServer((question, answer) => answer.end(String(process.pid))).listen(process.env.PORT);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_a_server_that_is_killed_while_visitors_are_connected_gets_its_port_back(
    coordinator: StandInCoordinator, tmp_path: Path, base_port: int
) -> None:
    """Their connections are not over on this side, and are remembered later."""
    with serving(coordinator, tmp_path, base_port, allowed_commands=("node",)):
        web = want_command(coordinator, "node", "-e", NODE)
        is_running(coordinator, web)
        port, pids = web.port, [0]
        for _ in range(3):
            visitors = [http.client.HTTPConnection("127.0.0.1", port or 0, timeout=30) for _ in range(3)]
            for visitor in visitors:
                visitor.request("GET", "/", headers={"connection": "keep-alive"})
                pids.append(int(visitor.getresponse().read()))
            assert pids[-1] not in pids[:-3]
            os.kill(pids[-1], signal.SIGKILL)
            coordinator.until(lambda: web.statuses[-2:] == ["starting", "running"] and web.errors)
            web.statuses.append("seen")
            assert web.port == port
            for visitor in visitors[:-1]:  # one of them stays
                visitor.close()


def test_a_service_whose_health_turns_bad_is_started_again(
    coordinator: StandInCoordinator, host: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_life, "RUNNING_PROBE_MS", 100)
    web = want(coordinator, tmp_path / "web")
    is_running(coordinator, web)
    former = pid_of(web)
    (tmp_path / "web" / "sick").touch()
    coordinator.until(lambda: f"not healthy any more: port {web.port}/health: status 503" in web.errors)
    until(lambda: not lives(former))
    (tmp_path / "web" / "sick").unlink()
    is_running(coordinator, web)
    assert pid_of(web) != former


def test_a_service_that_never_gets_healthy_fails_after_three_starts(coordinator: StandInCoordinator, host: Hosted) -> None:
    script = "echo pid $$; exec sleep 1000"
    web = want_command(coordinator, "bash", "-c", script, health={"path": "/health", "timeoutMs": 1_000})
    coordinator.until(lambda: web.status == "failed")
    assert re.fullmatch(r"not healthy within 1 s(: port \d+/health: connection refused)?", web.error or "")
    assert web.statuses == ["starting", "failed"]
    coordinator.until(lambda: web.output.count("pid ") == 3)
    assert host.printed[-1] == f"[skyclaw] service web revision 1 failed: {web.error}"
    assert not [pid for pid in map(int, re.findall(r"pid (\d+)", web.output)) if lives(pid)]


def test_what_exits_at_once_fails_after_three_starts_with_its_last_words(coordinator: StandInCoordinator, host: Hosted) -> None:
    web = want_command(coordinator, "bash", "-c", "echo no database; exit 4")
    coordinator.until(lambda: web.status == "failed")
    assert web.error == "exited with code 4: no database"
    coordinator.until(lambda: web.output == "no database\n" * 3)
    change(coordinator, web, None)
    until(lambda: not list((host.folder / "home/hosts/0/services").iterdir()))
    assert host.printed[-1] == "[skyclaw] service web revision 1 failed: exited with code 4: no database"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"command": "rm"}, "command not allowed: rm"),
        ({"command": "missing-program"}, "command not found: missing-program"),
        ({"env": {"LD_PRELOAD": "x"}}, "environment variable not allowed: LD_PRELOAD"),
        ({"env": {"PORT": "80"}}, "environment variable not allowed: PORT"),
        ({"cwd": "/"}, "cwd not allowed: /"),
        ({"cwd": "../outside"}, "cwd not allowed: ../outside"),
    ],
)
def test_what_the_host_does_not_run_fails_at_once_and_hurts_nothing(
    coordinator: StandInCoordinator, host: Hosted, tmp_path: Path, fields: dict[str, Any], error: str
) -> None:
    bad = want_command(coordinator, **{"command": "bash", **fields})
    coordinator.until(lambda: bad.status == "failed")
    assert bad.error == error
    is_running(coordinator, want(coordinator, tmp_path / "web"))


def test_more_services_than_the_host_takes_are_refused(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> None:
    with serving(coordinator, tmp_path, base_port, services=1):
        first = want(coordinator, tmp_path / "web")
        is_running(coordinator, first)
        second = want(coordinator, tmp_path / "web")
        coordinator.until(lambda: second.status == "failed")
        assert second.error == "this host takes 1 instances"
        assert pid_of(first)


def test_a_drained_service_lets_a_running_request_finish(coordinator: StandInCoordinator, host: Hosted, tmp_path: Path) -> None:
    web = want(coordinator, tmp_path / "web", drainMs=3_000)
    is_running(coordinator, web)
    pid, answers = pid_of(web), list[str]()
    asking = threading.Thread(target=lambda: answers.append(ask(web, "/slow")))
    asking.start()
    change(coordinator, web, "drain")
    until(lambda: any(said["instances"] for said in coordinator.services.syncs[-1:]))
    (tmp_path / "web" / "go").touch()
    asking.join(30)
    assert answers == [f"{pid} web {Path.cwd()}"]
    coordinator.until(lambda: web.status == "ended")
    assert not lives(pid)
    assert web.statuses[-3:] in (["running", "starting", "ended"], ["starting", "running", "ended"])


def test_a_service_that_does_not_listen_to_term_is_killed(
    coordinator: StandInCoordinator, host: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.service_work.GRACE_MS", 300)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "stubborn").touch()
    web = want(coordinator, tmp_path / "web")
    is_running(coordinator, web)
    pid = pid_of(web)
    change(coordinator, web, "drain")
    coordinator.until(lambda: web.status == "ended")
    assert not lives(pid)


def test_a_port_that_somebody_else_has_is_passed_over(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> None:
    with socket.create_server(("127.0.0.1", base_port)), serving(coordinator, tmp_path, base_port):
        first, second = want(coordinator, tmp_path / "one"), want(coordinator, tmp_path / "two")
        is_running(coordinator, first, second)
        assert base_port not in (first.port, second.port)
        assert first.port != second.port
        assert pid_of(first) != pid_of(second)


def test_twenty_services_run_at_once_and_all_end(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> None:
    with serving(coordinator, tmp_path, base_port) as host:
        instances = [want(coordinator, tmp_path / "web") for _ in range(20)]
        is_running(coordinator, *instances)
        pids = {pid_of(instance) for instance in instances}
        assert len(pids) == len({instance.port for instance in instances}) == 20
        host.running.drain()
        assert host.running.left.wait(30)
    assert {instance.status for instance in instances} == {"ended"}
    assert not [pid for pid in pids if lives(pid)]


def test_services_go_on_while_no_coordinator_answers(coordinator: StandInCoordinator, host: Hosted, tmp_path: Path) -> None:
    web = want(coordinator, tmp_path / "web")
    is_running(coordinator, web)
    coordinator.stop()
    former = pid_of(web)
    crash(web)
    until(lambda: len(host.printed) == 3)
    running = re.fullmatch(r"\[skyclaw\] service web revision 1 running on port (\d+)", host.printed[-1])
    assert running is not None
    web.port = int(running[1])
    assert pid_of(web) != former
    coordinator.start()
    coordinator.until(lambda: web.output.count("pid ") == 2)
    assert web.statuses == [*web.statuses[:-1], "running"]


def test_an_instance_of_a_log_whose_owner_does_not_answer_goes_on(coordinator: StandInCoordinator, host: Hosted, tmp_path: Path) -> None:
    services = coordinator.services
    services.logs.append(ANOTHER_TAG)
    here, there = want(coordinator, tmp_path / "web"), want(coordinator, tmp_path / "web", tag=ANOTHER_TAG)
    is_running(coordinator, here, there)
    pids = pid_of(here), pid_of(there)
    with coordinator.changed:
        services.logs.remove(ANOTHER_TAG)  # so that it is not listed any more
        services.instances.pop(here.id)
    until(lambda: not lives(pids[0]))
    assert lives(pids[1])
    with coordinator.changed:
        services.logs.append(ANOTHER_TAG)
        services.instances.pop(there.id)
    until(lambda: not lives(pids[1]))


def test_a_host_that_was_forgotten_registers_again_and_its_services_go_on(
    coordinator: StandInCoordinator, tmp_path: Path, base_port: int
) -> None:
    web = want(coordinator, tmp_path / "web")
    with serving(coordinator, tmp_path, base_port, heartbeat_ms=600_000):
        is_running(coordinator, web)
        pid = pid_of(web)
        coordinator.forget_hosts()
        coordinator.until(lambda: len(coordinator.registrations) == 2)
        count = len(coordinator.services.syncs)
        coordinator.until(lambda: len(coordinator.services.syncs) > count)
        assert pid_of(web) == pid


def test_the_next_life_of_a_host_starts_its_services_anew(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> None:
    with serving(coordinator, tmp_path, base_port):
        web = want(coordinator, tmp_path / "web")
        is_running(coordinator, web)
        coordinator.stop()  # so that it does not hear of the end
        former = pid_of(web)
    assert not lives(former)
    coordinator.start()
    with serving(coordinator, tmp_path, base_port):
        coordinator.until(lambda: web.output.count("pid ") == 2)
        is_running(coordinator, web)
        assert pid_of(web) != former


def test_what_a_former_life_left_is_deleted_when_nobody_wants_it(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> None:
    with serving(coordinator, tmp_path, base_port):
        web = want(coordinator, tmp_path / "web")
        is_running(coordinator, web)
        coordinator.stop()
    folder = tmp_path / "home/hosts/0/services"
    assert [path.name for path in folder.iterdir()] == [web.id]
    coordinator.services.instances.clear()
    coordinator.start()
    with serving(coordinator, tmp_path, base_port):
        until(lambda: not list(folder.iterdir()))


def test_the_death_of_the_executor_starts_the_services_again(coordinator: StandInCoordinator, host: Hosted, tmp_path: Path) -> None:
    web, shop = want(coordinator, tmp_path / "web"), want(coordinator, tmp_path / "web", name="shop")
    is_running(coordinator, web, shop)
    former = {pid_of(web), pid_of(shop)}
    for pid in children():
        if b"skyclaw.outside.executor" in command_line(pid) and former & _children_of(pid):
            os.kill(pid, signal.SIGKILL)
    coordinator.until(lambda: all(instance.statuses[-2:] == ["starting", "running"] and instance.errors for instance in (web, shop)))
    assert {web.errors[-1], shop.errors[-1]} == {"executor died"}
    assert not former & {pid_of(web), pid_of(shop)}
    assert not [pid for pid in former if lives(pid)]


def _children_of(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_a_service_runs_in_a_copy_of_its_bundle_that_goes_when_it_ends(
    coordinator: StandInCoordinator, host: Hosted, tmp_path: Path
) -> None:
    (tmp_path / "app/sub").mkdir(parents=True)
    (tmp_path / "app/sub/index.txt").write_text("hello")
    with packed(tmp_path / "app") as archive:
        bundle = coordinator.services.keep_bundle(archive.path.read_bytes())
    script = f"cat sub/index.txt; echo more >> sub/index.txt; exec {sys.executable} -I -S {SERVICE} {tmp_path}"
    both = [want_command(coordinator, "bash", "-c", script, bundle=bundle) for _ in range(2)]
    is_running(coordinator, *both)
    folders = {ask(instance).split()[2] for instance in both}
    assert folders == {str(tmp_path / "home/hosts/0/services" / instance.id / "files") for instance in both}
    coordinator.until(lambda: all(instance.output.startswith("hello") for instance in both))
    for instance in both:
        change(coordinator, instance, None)
    until(lambda: not [folder for folder in folders if Path(folder).exists()])
    assert [path.name for path in (tmp_path / "home/hosts/0/bundles").iterdir()] == [bundle]


def test_only_the_bundles_that_were_used_last_are_kept(coordinator: StandInCoordinator, host: Hosted, tmp_path: Path) -> None:
    bundles = []
    for number in range(7):
        (tmp_path / "app").mkdir(exist_ok=True)
        (tmp_path / "app/number").write_text(str(number))
        with packed(tmp_path / "app") as archive:
            bundles.append(coordinator.services.keep_bundle(archive.path.read_bytes()))
        web = want_command(coordinator, "bash", "-c", "cat number; exec sleep 1000", bundle=bundles[-1])
        coordinator.until(lambda web=web, number=number: web.output == str(number))  # type: ignore[misc]
    until(lambda: {path.name for path in (tmp_path / "home/hosts/0/bundles").iterdir()} == set(bundles[-5:]))


def archive_of(name: str, link: str) -> bytes:
    """A bundle with a link in it."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, link
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(member)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "not found"),
        (b"no archive at all", "damaged"),
        (archive_of("way-out", "/etc"), "leads out"),
        (archive_of("../x", "y"), "no path inside"),
    ],
    ids=["none", "no archive", "a link that leads out", "a path that leads out"],
)
def test_a_bundle_that_cannot_be_had_fails_the_service(
    coordinator: StandInCoordinator, host: Hosted, content: bytes | None, error: str
) -> None:
    bundle = "0" * 64 if content is None else coordinator.services.keep_bundle(content)
    web = want_command(coordinator, "bash", bundle=bundle)
    coordinator.until(lambda: web.status == "failed")
    assert (web.error or "").startswith(f"bundle {bundle[:12]}: ")
    assert error in (web.error or "")
    change(coordinator, web, None)
    until(lambda: not list((host.folder / "home/hosts/0/services").iterdir()))


def test_a_bundle_for_which_the_host_has_no_room_is_fetched_when_there_is(
    coordinator: StandInCoordinator, host: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plenty = store_bundles.SPARE_BYTES
    monkeypatch.setattr(store_bundles, "SPARE_BYTES", 1 << 62)
    (tmp_path / "app").mkdir()
    with packed(tmp_path / "app") as archive:
        bundle = coordinator.services.keep_bundle(archive.path.read_bytes())
    web = want_command(coordinator, "bash", "-c", f"exec {sys.executable} -I -S {SERVICE} {tmp_path}", bundle=bundle)
    coordinator.until(lambda: web.errors == [f"bundle {bundle[:12]}: this host has no room for it"])
    monkeypatch.setattr(store_bundles, "SPARE_BYTES", plenty)
    is_running(coordinator, web)


def test_a_host_does_not_wait_for_a_bundle_when_it_stops(
    coordinator: StandInCoordinator, tmp_path: Path, base_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, over = threading.Semaphore(0), threading.Event()

    def fetch(_stock: BundleStock, _bundle: str) -> None:
        begun.release()
        over.wait(120)

    monkeypatch.setattr(BundleStock, "_fetch", fetch)
    with serving(coordinator, tmp_path, base_port) as host:
        webs = [want_command(coordinator, "bash", bundle=str(number) * 64) for number in range(3)]
        assert begun.acquire(timeout=30)
        host.running.drain()
        assert host.running.left.wait(30)
    assert {web.status for web in webs} == {"ended"}
    over.set()


def test_the_public_address_of_the_host_is_told_with_the_port(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> None:
    with serving(coordinator, tmp_path, base_port, service_base_url="http://web.example"):
        web = want(coordinator, tmp_path / "web")
        is_running(coordinator, web)
        assert web.endpoint == f"http://web.example:{web.port}"


def test_much_output_arrives_in_pieces_without_a_gap(coordinator: StandInCoordinator, host: Hosted) -> None:
    web = want_command(coordinator, "bash", "-c", "for n in {1..20000}; do echo é$n; done; exec sleep 1000")
    wanted = "".join(f"é{number}\n" for number in range(1, 20_001))
    coordinator.until(lambda: len(web.output) == len(wanted))
    assert web.output == wanted
    assert web.largest_output <= 32 * 1024


def test_output_that_is_too_much_is_skipped(coordinator: StandInCoordinator, host: Hosted) -> None:
    web = want_command(coordinator, "bash", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end; exec sleep 1000")
    coordinator.until(lambda: web.output.endswith("end\n"))
    assert web.output_at == 3_000_004
    assert len(web.output) < 1_500_000


def test_a_host_that_stops_at_once_leaves_no_process(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "stubborn").touch()
    with serving(coordinator, tmp_path, base_port):
        web = want(coordinator, tmp_path / "web")
        is_running(coordinator, web)
        pid = pid_of(web)
    assert not lives(pid)


def test_a_host_with_services_leaves_without_a_coordinator(coordinator: StandInCoordinator, tmp_path: Path, base_port: int) -> None:
    with serving(coordinator, tmp_path, base_port) as host:
        web = want(coordinator, tmp_path / "web")
        is_running(coordinator, web)
        pid = pid_of(web)
        coordinator.stop()
        host.running.drain()
        assert host.running.left.wait(30)
        assert not lives(pid)


@pytest.mark.skipif(not ROOT, reason="only root can run services as another user")
def test_services_of_a_host_that_runs_as_root_run_as_the_user_that_is_set(
    coordinator: StandInCoordinator, tmp_path: Path, base_port: int
) -> None:
    (tmp_path / "app").mkdir()
    with packed(tmp_path / "app") as archive:
        bundle = coordinator.services.keep_bundle(archive.path.read_bytes())
    with serving(coordinator, tmp_path, base_port, job_user="nobody"):
        web = want_command(coordinator, "bash", "-c", "touch here && id -un; exec sleep 1000", bundle=bundle)
        coordinator.until(lambda: web.output == "nobody\n")
