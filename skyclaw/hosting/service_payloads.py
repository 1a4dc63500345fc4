"""What coordinators want of a host's services, as their JSON says it, and what the host runs for it.

The list of commands, the variables and the folders are checked as for jobs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skyclaw.hosting import payloads
from skyclaw.hosting.payloads import Launch, Means
from skyclaw.hosting.service_life import Terms
from skyclaw.trust.command_policy import CommandRefused

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # it becomes the name of a folder
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TAG = slice(4, 12)  # of an instance's id: the tag of the log that it belongs to


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instance that a coordinator lists. `asked` is what to run: command, args, env and cwd, not checked yet."""

    instance_id: str
    name: str
    revision: int
    asked: Mapping[str, Any]
    terms: Terms
    health_path: str | None
    bundle: str | None
    draining: bool

    def env_values(self) -> tuple[str, ...]:
        """The values of its own variables, some of which may be secrets."""
        env = self.asked.get("env")
        return tuple(map(str, env.values())) if isinstance(env, Mapping) else ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A coordinator's answer to what this host told of its services.

    `stop` are instances that are not wanted; `logs` are the tags of the logs that the answer speaks for: of their instances, only those in
    `wanted` are. `output_at` says from which offset on an instance's output is wanted, `digest` stands for all that is wanted. `partial` is
    the answer of a coordinator that could not find out all that is wanted: another one may know more.
    """

    wanted: tuple[Wanted, ...]
    stop: frozenset[str]
    logs: frozenset[str]
    output_at: Mapping[str, int]
    lease_ms: int
    digest: str | None
    partial: bool

    def speaks_for(self, instance_id: str) -> bool:
        """Whether it would list the instance if it were wanted."""
        return instance_id[_TAG] in self.logs


def answer(said: Mapping[str, Any]) -> Answer:
    """The answer in a coordinator's JSON; entries that make no sense are left out."""
    listed = [(entry, wanted) for entry in said.get("instances", ()) if (wanted := _wanted(entry)) is not None]
    digest, lease_ms = said.get("digest"), said.get("leaseMs")
    return Answer(
        tuple(wanted for _, wanted in listed),
        frozenset(map(str, said.get("stop", ()))),
        frozenset(map(str, said.get("logs", ()))),
        {wanted.instance_id: _whole(entry.get("outputAt"), 0) for entry, wanted in listed},
        _whole(lease_ms, 15_000),
        digest if isinstance(digest, str) else None,
        said.get("partial") is True,
    )


def launch(wanted: Wanted, port: int, folder: str, means: Means) -> Launch:
    """The process for an instance, which starts in `folder` or below it; raises CommandRefused."""
    checked = payloads.launch({"payload": {"kind": "shell", **wanted.asked}}, means)
    if "PORT" in checked.env:
        raise CommandRefused("environment variable not allowed: PORT")
    own = {"PORT": str(port), "SKYCLAW_SERVICE_NAME": wanted.name}
    cwd = folder if checked.cwd is None else checked.cwd if checked.cwd.startswith("/") else f"{folder.rstrip('/')}/{checked.cwd}"
    return Launch(checked.argv, {**checked.env, **own}, cwd)


def _wanted(entry: object) -> Wanted | None:
    if not isinstance(entry, dict):
        return None
    health = entry["health"] if isinstance(entry.get("health"), dict) else {}
    path, bundle, instance_id = health.get("path"), entry.get("bundle"), str(entry.get("instanceId", ""))
    if not _ID.fullmatch(instance_id) or not (bundle is None or _SHA256.fullmatch(str(bundle))):
        return None
    return Wanted(
        instance_id=instance_id,
        name=str(entry.get("name")),
        revision=_whole(entry.get("revision"), 0),
        asked={key: entry[key] for key in ("command", "args", "env", "cwd") if entry.get(key) is not None},
        terms=Terms(_whole(health.get("timeoutMs"), 30_000), _whole(entry.get("drainMs"), 10_000)),
        health_path=path if isinstance(path, str) else None,
        bundle=bundle,
        draining=entry.get("state") == "drain",
    )


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise
