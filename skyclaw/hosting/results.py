"""What a host reports of an attempt: a finished process, a refused command, a result that is too large to be taken.

A result is the JSON object that the coordinator's `complete` and `results` routes take, without the words that name the lease. The texts
for a timeout and a refused command are those of the TypeScript Skyclaw's hosts; their exit codes too, except that a signal's is
128 + its number.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Protocol

Result = dict[str, Any]

FAILED = 1
MARK = "\n[output truncated]\n"
MOST_RESULTS = 256
MOST_BYTES = 2 * 1024 * 1024  # of a batch; the coordinator's limit for a request is 4 MiB
TRIES = 3


class Finished(Protocol):
    """A finished process, as the executor tells it."""

    @property
    def exit_code(self) -> int: ...
    @property
    def signal(self) -> str | None: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def killed(self) -> str | None: ...
    @property
    def duration_ms(self) -> int: ...
    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...
    @property
    def stdout_bytes(self) -> int: ...
    @property
    def stderr_bytes(self) -> int: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def error(self) -> str | None: ...


def of_process(ended: Finished, timeout_ms: int) -> Result:
    """The result of a process that ended; it was allowed `timeout_ms`."""
    success = ended.exit_code == 0 and not ended.timed_out and not ended.killed and not ended.error
    result: Result = {
        "success": success,
        "durationMs": ended.duration_ms,
        "exitCode": FAILED if ended.timed_out or (ended.exit_code == 0 and not success) else ended.exit_code,
        "stdout": ended.stdout,
        "stderr": ended.stderr,
        "stdoutBytes": ended.stdout_bytes,
        "stderrBytes": ended.stderr_bytes,
        "truncated": ended.truncated,
        "timedOut": ended.timed_out,
    }
    error = f"timed out after {timeout_ms}ms" if ended.timed_out else ended.error or ended.killed
    return result | {name: value for name, value in (("signal", ended.signal), ("error", error)) if value}


def refused(error: str, exit_code: int) -> Result:
    """The result of a job that this host does not run."""
    return {"success": False, "durationMs": 0, "exitCode": exit_code, "stdout": "", "stderr": "", "error": error}


def shortened(result: Result, tries: int) -> Result:
    """What to send after `tries` attempts to deliver were refused as too large: ever less of the outputs, at last only that they were."""
    if tries >= TRIES:
        return undeliverable(result, "result_too_large", "the result is too large for the coordinator")
    cut = {stream: _cut(result[stream], len(result[stream]) // 8) for stream in ("stdout", "stderr")}
    return {**result, **cut, "truncated": True}


def undeliverable(result: Result, reason: str, error: str) -> Result:
    """The failure to report in place of a result that the coordinator does not take."""
    return {
        "success": False,
        "durationMs": result["durationMs"],
        "exitCode": result["exitCode"] or FAILED,
        "stdout": "",
        "stderr": "",
        "error": f"{reason}: {error}",
        "reason": reason,
    }


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length].removesuffix(MARK) + MARK


def batch(sizes: Iterable[int]) -> int:
    """How many of the results with these sizes, in bytes, go into one request: at least one."""
    count = total = 0
    for size in islice(sizes, MOST_RESULTS):
        total += size
        if count and total > MOST_BYTES:
            break
        count += 1
    return count
