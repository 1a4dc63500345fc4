"""A log that an older version wrote is read as it was meant: each file in fixtures/event_logs holds every event of its version."""

import json
from pathlib import Path

import pytest

from skyclaw import events as ev
from skyclaw.records import Record
from skyclaw.scheduling import snapshots
from skyclaw.store.memory import MemoryEventLog
from skyclaw.store.rebuild import rebuild

LOGS = Path(__file__).parents[2] / "fixtures" / "event_logs"


def written_by(version: str) -> MemoryEventLog:
    lines = (LOGS / f"{version}.jsonl").read_text().splitlines()
    records = [Record(**{**values, "hash": bytes.fromhex(values["hash"])}) for values in map(json.loads, lines)]
    log = MemoryEventLog("node-a")
    log.log = records[0].log
    log.append(records)
    return log


@pytest.mark.parametrize("version", ["version-1", "version-2"])
def test_the_state_of_an_older_log_is_what_it_was(version: str) -> None:
    state, _ = rebuild(written_by(version))
    jobs = {job.id[-1]: job for job in (*state.jobs.values(), *state.recent.values())}
    assert {number: (job.status, job.attempts, job.failures, job.losses, job.reason) for number, job in jobs.items()} == {
        "1": ("completed", 1, 0, 0, None),
        "2": ("failed", 2, 2, 0, "failed"),
        "3": ("cancelled", 1, 0, 0, "requested"),
        "4": ("failed", 5, 0, 5, "exhausted"),
        "5": ("leased", 1, 0, 0, None),
        "6": ("queued", 0, 0, 0, None),
    }
    assert (jobs["1"].asked.priority, jobs["1"].asked.labels, jobs["1"].asked.timeout_ms) == (3, (("team", "web"),), 5000)
    assert json.loads(jobs["1"].asked.payload)["args"] == ["ä"]
    assert {host.id: (host.mode, sorted(host.capabilities)) for host in state.hosts.values()} == {
        "host-b": ("paused", ["gpu", "shell"]),
        "host-c": ("active", ["gpu", "shell"]),
    }
    assert len(state.keys) == 0  # pruned


def test_the_services_of_an_older_log_are_what_they_were() -> None:
    state, _ = rebuild(written_by("version-2"))
    services = {service.name: service for service in state.services.values()}
    assert {name: (service.status, service.rollout, service.target, service.replicas) for name, service in services.items()} == {
        "web": ("running", "failed", 1, 1),
        "stopped": ("running", "rolling", 1, 1),
    }
    web = services["web"]
    (instance,) = web.instances
    assert (instance.host_id, instance.status, instance.endpoint) == ("host-b", "running", "http://10.0.0.2:3100")
    assert (web.present.asked.env, web.present.asked.health_path, web.present.asked.drain_ms) == ((("GREETING", "ä"),), "/health", 2000)
    assert (web.newest.failures, web.reason) == (2, "python4 ENOENT")
    assert sorted(state.placed) == ["host-b", "host-c"]


def test_the_newest_log_holds_every_event_there_is() -> None:
    log = written_by("version-2")
    assert {record.type for record in log.tail(log.log, 0)} == {event.__name__ for event in ev.ALL}


def test_a_snapshot_of_another_version_is_passed_over_for_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    log = written_by("version-2")
    state, _ = rebuild(log)
    monkeypatch.setattr(snapshots, "VERSION", 99)
    log.save_snapshot(log.log, log.head(log.log), list(snapshots.Picture(state).parts()))
    monkeypatch.undo()
    again, begun = rebuild(log)
    assert begun == 0
    assert (again.jobs, again.services) == (state.jobs, state.services)


def test_a_snapshot_has_everything_that_the_events_say() -> None:
    log = written_by("version-2")
    state, _ = rebuild(log)
    log.save_snapshot(log.log, log.head(log.log), list(snapshots.Picture(state).parts()))
    again, begun = rebuild(log)
    assert begun == state.end
    assert (again.jobs, again.services, again.placed) == (state.jobs, state.services, state.placed)
