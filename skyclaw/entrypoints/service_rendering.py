"""What the command line shows of services: the table of all, and one with its instances and revisions."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from skyclaw.entrypoints import rendering
from skyclaw.entrypoints.remedies import remedied

Record = Mapping[str, Any]


def show_services(services: Sequence[Record]) -> None:
    """A table with one line for each."""
    rows = [
        (
            service["name"],
            standing(service),
            f"{running(service)}/{service['replicas']}",
            service.get("revision", ""),
            rendering.age(service["updatedAt"]),
            rendering.shortened(words(service)),
        )
        for service in services
    ]
    columns = ("NAME", "STATUS", "RUNNING", "REVISION", "CHANGED", "WORK")
    rendering.show_table(columns, rows, {"WORK": 8, "NAME": 8})


def show_briefly(services: Sequence[Record]) -> None:
    """A shorter table, next to others."""
    rows = [(one["name"], standing(one), f"{running(one)}/{one['replicas']}", one.get("revision", "")) for one in services]
    rendering.show_table(("SERVICE", "STATUS", "RUNNING", "REVISION"), rows, {"SERVICE": 8})


def show_service(service: Record, host_names: Mapping[str, str]) -> None:
    """All that is known of one."""
    rendering.show_facts(_facts(service))
    if instances := service["assignments"]:
        rendering.show()
        rows = [
            (
                instance.get("instanceId", ""),
                instance["status"],
                instance.get("revision", ""),
                host_names.get(instance["hostId"], instance["hostId"]),
                instance.get("endpoint", ""),
                rendering.age(instance.get("startedAt")),
                instance.get("error", ""),
            )
            for instance in instances
        ]
        columns = ("INSTANCE", "STATUS", "REVISION", "HOST", "ENDPOINT", "UP", "ERROR")
        rendering.show_table(columns, rows, {"ERROR": 20, "HOST": 6, "INSTANCE": 13})
    if revisions := service.get("revisions"):
        rendering.show()
        history = [
            (one["revision"], _role(service, one), rendering.age(one["deployedAt"]), one["reason"], rendering.shortened(words(one)))
            for one in revisions
        ]
        rendering.show_table(("REVISION", "STATE", "AGE", "REASON", "WORK"), history, {"WORK": 8, "REASON": 8})


def words(record: Record) -> str:
    """The command as one would type it."""
    return " ".join(shlex.quote(str(word)) for word in (record["command"], *record["args"]))


def running(service: Record) -> int:
    """How many of its instances run."""
    return sum(instance["status"] == "running" for instance in service["assignments"])


def ending(service: Record) -> int:
    """How many instances a service still has that was stopped."""
    return sum(instance["status"] != "failed" for instance in service["assignments"])


def standing(service: Record) -> str:
    """Its status in a few words."""
    rollout = service.get("rollout", {})
    if service.get("removed"):
        return "being removed"
    if service.get("stopped"):
        return "stopping" if ending(service) else "stopped"
    if rollout.get("state") == "rolling" and service["status"] == "running" and service.get("goodRevision") not in (None, 0):
        return f"running, rolling to {rollout['revision']}"
    return str(service["status"])


def sentence(service: Record) -> str:
    """Its name and how it stands, in one line."""
    if service.get("stopped"):
        count = ending(service)
        rest = f", {count} {'instance ends' if count == 1 else 'instances end'}" if count else ""
        return f"{service['name']} is {standing(service)}{rest}"
    return f"{service['name']} is {standing(service)}, {running(service)} of {service['replicas']} running, revision {service['revision']}"


def problem(service: Record) -> str:
    """Why it is not as it should be; empty when nothing is known."""
    rollout = service.get("rollout", {})
    if rollout.get("state") == "failed":
        return remedied(str(rollout.get("reason") or "the rollout failed"))
    errors = [str(instance["error"]) for instance in service["assignments"] if instance.get("error")]
    return remedied(errors[-1]) if errors else ""


def _facts(service: Record) -> dict[str, object]:
    health, rollout = service.get("health", {}), service.get("rollout", {})
    return {
        "service": service["id"],
        "name": service["name"],
        "status": standing(service),
        "running": f"{running(service)} of {service['replicas']}",
        "work": words(service),
        "needs": ", ".join(service["requiredCapabilities"]),
        "folder": service.get("cwd"),
        "environment": ", ".join(service.get("env", {})),
        "bundle": service.get("bundle"),
        "healthy when": _healthy_when(health) if health else None,
        "drain": _seconds(service["drainMs"]) if "drainMs" in service else None,
        "created": f"{service['createdAt']} ({rendering.age(service['createdAt'])} ago)",
        "revision": service.get("revision"),
        "rollout": f"{rollout['state']}, revision {rollout['revision']}" if rollout else None,
        "problem": problem(service),
    }


def _healthy_when(health: Record) -> str:
    what = f"GET {health['path']} answers 2xx" if health.get("path") else "its port accepts connections"
    return f"{what}, within {_seconds(health['timeoutMs'])} of its start"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g} s"


def _role(service: Record, revision: Record) -> str:
    """Which of the revisions it is; what the coordinator says of it, or what follows from the record."""
    if "state" in revision:
        return str(revision["state"])
    number = revision["revision"]
    return "good" if number == service.get("goodRevision") else "wanted" if number == service.get("revision") else ""
