"""What a host's executor is asked for, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass

EXECUTOR_DIED = "executor died"


@dataclass(frozen=True, slots=True)
class Order:
    """One process to run. `argv[0]` is absolute, `env` the job's own variables and `cwd` have been checked by the command policy.

    `run_id` is unique, and is found in the environment of all its processes. `cwd` None is the job's own directory, a relative one is
    inside it. `max_output_bytes` are kept of each stream. Without `stdin` the process reads nothing.
    """

    run_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None
    timeout_ms: int
    max_output_bytes: int
    job_id: str
    stdin: bytes | None = None


@dataclass(frozen=True, slots=True)
class ServiceOrder:
    """One process that runs until it ends by itself or is told to: no time limit, and no limit of what it prints.

    `argv[0]` and `cwd` are absolute; `env` comes on top of what a job gets. `output` is an existing folder into whose rotating files goes
    what it writes to both of its streams, in the order in which it comes (see rotating): the newest `kept_bytes` of it stay there. The
    `last_bytes` that this process wrote are handed back with its end, as if all had gone to stdout. Who runs the process must be able to
    write there and to enter `cwd`, or the order ends with 126. Between TERM and KILL are `grace_ms`.
    """

    run_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    instance_id: str
    output: str
    kept_bytes: int = 5 << 20
    last_bytes: int = 4_096
    grace_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Ended:
    """How an order ended; nothing that it started runs any more.

    `signal` ("SEGV") is what ended the process, its `exit_code` is 128 + the signal's number then; 127 and 126 are those of a command
    that is missing or cannot be started. `killed` is the reason that was given to `kill`, or "output". The outputs are text of at most the
    bytes asked for, `stdout_bytes` and `stderr_bytes` count all that was written (for a service the first one counts both). `error` is
    None for a process that just exited. `limits_missing` names what this machine could not enforce.
    """

    run_id: str
    exit_code: int
    signal: str | None
    timed_out: bool
    killed: str | None
    duration_ms: int
    stdout: str
    stderr: str
    stdout_bytes: int
    stderr_bytes: int
    truncated: bool
    error: str | None
    limits_missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What each job may use at the level `process`; None is no limit. `output_bytes` and `term_grace_ms` count at every level.

    `processes` cannot be counted for each job, only for the user: all jobs together may have it `parallel` times, beside what the user
    runs otherwise. A job that writes more than `output_bytes` is killed. Between TERM and KILL are `term_grace_ms`.
    """

    processes: int | None = 128
    files: int | None = 256
    file_bytes: int | None = 256 << 20
    memory_bytes: int | None = 1 << 30
    output_bytes: int | None = 64 << 20
    term_grace_ms: int | None = 2_000
    parallel: int = 1
