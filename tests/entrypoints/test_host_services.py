"""`python -m skyclaw host` with services: how it is stopped and killed, its folder, and what its settings mean."""

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from skyclaw.entrypoints import host_means
from skyclaw.entrypoints.settings import HostSettings, host_settings
from skyclaw.errors import SettingsWrong
from tests.support.real_processes import HostProcess, lives, wait_until
from tests.support.stand_in_coordinator import StandInCoordinator, coordinating
from tests.support.stand_in_services import StandInInstance

SERVICE = str(Path(__file__).parents[1] / "support" / "small_service.py")
BASE_PORT = 19_000


@pytest.fixture
def coordinator() -> Iterator[StandInCoordinator]:
    with coordinating() as coordinator:
        yield coordinator


@pytest.fixture
def host(coordinator: StandInCoordinator, tmp_path: Path) -> Iterator[HostProcess]:
    """A host that runs the small service; killed if the test leaves it alive."""
    host = HostProcess(tmp_path, coordinator.url, SKYCLAW_ALLOWED_COMMANDS=sys.executable, SKYCLAW_SERVICE_BASE_PORT=BASE_PORT)
    host.start()
    yield host
    host.kill()


def run_services(coordinator: StandInCoordinator, folder: Path, count: int) -> list[StandInInstance]:
    """Services that are running."""
    with coordinator.changed:
        instances = [coordinator.services.want(sys.executable, "-I", "-S", SERVICE, str(folder)) for _ in range(count)]
    coordinator.until(lambda: all(instance.status == "running" for instance in instances))
    return instances


def answer(instance: StandInInstance) -> list[str]:
    """The service's process id, its name and its folder."""
    with urllib.request.urlopen(f"http://127.0.0.1:{instance.port}/", timeout=30) as said:
        return str(said.read().decode()).split()


def send(host: HostProcess, number: signal.Signals) -> None:
    assert host.process is not None
    host.process.send_signal(number)


def test_a_signal_ends_the_services_and_the_coordinator_is_told(coordinator: StandInCoordinator, host: HostProcess, tmp_path: Path) -> None:
    instances = run_services(coordinator, tmp_path, 3)
    pids = [int(answer(instance)[0]) for instance in instances]
    assert host.stop() == 0
    assert {instance.status for instance in instances} == {"ended"}
    assert not [pid for pid in pids if lives(pid)]
    assert host.printed.count("[skyclaw] service web revision 1 ended\n") == 3


def test_a_second_signal_waits_for_no_service(coordinator: StandInCoordinator, host: HostProcess, tmp_path: Path) -> None:
    (tmp_path / "stubborn").touch()
    (instance,) = run_services(coordinator, tmp_path, 1)
    pid = int(answer(instance)[0])
    send(host, signal.SIGINT)
    coordinator.until(lambda: instance.status == "starting")
    assert lives(pid)
    send(host, signal.SIGINT)
    assert host.process is not None
    assert host.process.wait(30) == 130
    assert not lives(pid)


def test_a_killed_host_leaves_no_service_and_its_next_life_starts_them_anew(
    coordinator: StandInCoordinator, host: HostProcess, tmp_path: Path
) -> None:
    instances = run_services(coordinator, tmp_path, 2)
    pids = [int(answer(instance)[0]) for instance in instances]
    host.kill()
    wait_until(lambda: not any(map(lives, pids)), "the services end")
    host.start()
    coordinator.until(lambda: all(instance.output.count("pid ") == 2 for instance in instances))
    coordinator.until(lambda: all(instance.status == "running" for instance in instances))
    assert not {int(answer(instance)[0]) for instance in instances} & set(pids)


def test_a_service_runs_where_the_host_was_started(coordinator: StandInCoordinator, host: HostProcess, tmp_path: Path) -> None:
    (instance,) = run_services(coordinator, tmp_path, 1)
    assert answer(instance)[1:] == ["web", str(tmp_path)]


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    return host_settings({"SKYCLAW_HOME": str(tmp_path), "SKYCLAW_ALLOWED_COMMANDS": "true"})


def test_a_host_takes_services_unless_it_is_told_otherwise() -> None:
    assert host_settings({}).services == 16
    assert host_settings({"SKYCLAW_SERVICE_MAX": "3"}).services == 3
    assert host_settings({"SKYCLAW_SERVICE_HOST_ENABLED": "0", "SKYCLAW_SERVICE_MAX": "3"}).services == 0


def test_the_public_address_has_no_port_and_no_path() -> None:
    name = "SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL"
    assert host_settings({name: "http://web.example/"}).service_base_url == "http://web.example"
    for wrong in ("http://web.example:80", "http://web.example/path"):
        with pytest.raises(SettingsWrong, match="must have no port and no path"):
            host_settings({name: wrong})


@pytest.mark.parametrize(("services", "listed", "has_it"), [(16, (), True), (16, ("service-host",), True), (0, ("service-host",), False)])
def test_the_capability_follows_from_the_settings(settings: HostSettings, services: int, listed: tuple[str, ...], has_it: bool) -> None:
    settings = replace(settings, services=services, capabilities=("shell", *listed))
    config = host_means.config(settings, host_means.means(settings).policy)
    assert config.capabilities.count("service-host") == int(has_it)
    assert config.labels["services"] == str(services)


def test_the_folders_of_another_users_services_are_where_that_user_can_go(settings: HostSettings, tmp_path: Path) -> None:
    assert host_means.service_parent(settings, tmp_path) == tmp_path / "services"
    theirs = host_means.service_parent(replace(settings, job_user="nobody"), tmp_path)
    assert tmp_path not in theirs.parents
    assert theirs != host_means.work_parent(replace(settings, job_user="nobody"), tmp_path)


def test_a_service_may_have_processes_while_jobs_have_theirs(settings: HostSettings) -> None:
    """Its limit was set before those jobs began, and the kernel counts all processes of the user."""
    few = replace(settings, services=1, max_parallel=1)
    limits = host_means.service_limits(few)
    assert limits.processes is not None
    assert limits.processes * limits.parallel == 2 * (host_means.limits(few).processes or 0)


def test_the_hosts_of_a_machine_begin_with_different_ports(settings: HostSettings) -> None:
    """Two that look at the same moment would find the same port, and one service might be taken for the other."""
    three = replace(settings, services=3)
    assert [host_means.first_port_of(three, Path(f"/home/hosts/{slot}")) for slot in (0, 1, 2, 320, 321)] == [0, 3, 6, 0, 3]


def test_a_host_does_not_load_what_only_packing_needs() -> None:
    program = "import sys, skyclaw.entrypoints.host; print({'pathspec'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
