"""What a host runs for a job's payload.

`shell` runs its `command`; `openclaw-run` and `automaton-run` run the command that the host's owner named for them, with the payload's
`args` verbatim, and `run` only when there are no `args` at all, as the TypeScript Skyclaw's hosts do. Anything else is refused: to run
what one does not know as something else would be a surprise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skyclaw.trust.command_policy import CommandPolicy, CommandRefused, check_env

LEAST_TIMEOUT_MS = 1_000


@dataclass(frozen=True, slots=True)
class Means:
    """What the host has to run jobs with, and how long it lets them, in milliseconds."""

    policy: CommandPolicy
    openclaw_command: str
    automaton_command: str
    timeout_ms: int
    max_timeout_ms: int


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to be started: what the policy made of the payload. `cwd` None means the job's own directory."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None


def launch(job: Mapping[str, Any], means: Means) -> Launch:
    """The process for a claimed job; raises CommandRefused with a sentence for whoever submitted it."""
    payload = job.get("payload")
    if not isinstance(payload, dict):
        raise CommandRefused("the job has no payload")
    command, args = _command(payload, means)
    _text(command, "command")
    env, cwd = _env(payload), payload.get("cwd")
    if cwd is not None:
        _text(cwd, "payload.cwd")
    check_env(env)
    return Launch((means.policy.path_of(command), *args), env, means.policy.cwd_of(cwd))


def kind_of(job: Mapping[str, Any]) -> str:
    """The kind of a job's payload, as far as it can be told to people."""
    payload = job.get("payload")
    return str(payload.get("kind"))[:64] if isinstance(payload, dict) else "None"


def timeout_of(job: Mapping[str, Any], means: Means) -> int:
    """How long a job may run, in milliseconds: what its payload says, else the job, else the host; within the host's limits."""
    payload = job.get("payload")
    inner = payload.get("timeoutMs") if isinstance(payload, dict) else None
    asked = [ms for ms in (inner, job.get("timeoutMs")) if isinstance(ms, int | float)]
    return min(max(LEAST_TIMEOUT_MS, int(asked[0]) if asked else means.timeout_ms), means.max_timeout_ms)


def _command(payload: dict[str, Any], means: Means) -> tuple[Any, tuple[str, ...]]:
    match payload.get("kind"):
        case "shell":
            return payload.get("command"), _args(payload, ())
        case "openclaw-run":
            return means.openclaw_command, _args(payload, ("run",))
        case "automaton-run":
            return means.automaton_command, _args(payload, ("run",))
        case kind:
            raise CommandRefused(f"unknown payload kind: {str(kind)[:64]}")


def _args(payload: dict[str, Any], absent: tuple[str, ...]) -> tuple[str, ...]:
    args = payload.get("args")
    if args is None:
        return absent
    if not isinstance(args, list):
        raise CommandRefused("payload.args must be a list of texts")
    for arg in args:
        _text(arg, "payload.args", empty=True)
    return tuple(args)


def _env(payload: dict[str, Any]) -> dict[str, str]:
    env = payload.get("env") or {}
    if not isinstance(env, dict):
        raise CommandRefused("payload.env must be an object of texts")
    for name, value in env.items():
        _text(name, "payload.env")
        _text(value, f"payload.env.{name[:64]}", empty=True)
    return env


def _text(value: object, name: str, empty: bool = False) -> None:
    """Only what a process can be given: text, without NUL."""
    if not isinstance(value, str) or not (value or empty):
        raise CommandRefused(f"{name} must be a text")
    if "\0" in value:
        raise CommandRefused(f"{name} must not hold a NUL character")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise CommandRefused(f"{name} must not hold a lone surrogate")
