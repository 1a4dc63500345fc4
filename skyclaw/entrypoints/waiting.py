"""Following a job: `run` and `wait` print its output as it was and exit with its code; Ctrl-C lets go of it, a second one cancels it."""

import re
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from skyclaw.entrypoints import enqueueing, rendering
from skyclaw.entrypoints.finding import find_job
from skyclaw.entrypoints.remedies import remedied
from skyclaw.entrypoints.session import Session, tell
from skyclaw.errors import ServerRefused, SkyclawError, Unreachable
from skyclaw.outside.paths import job_path

FINISHED = frozenset({"completed", "failed", "cancelled"})
STREAMS = ("stdout", "stderr")
TIMED_OUT, INTERRUPTED = 124, 130
PARK_MS = 20_000  # one long poll; a terminal's line is renewed each second
PATIENCE_S = 60.0  # how long no coordinator may answer before we let go
TROUBLE_AFTER_S = 2.0  # without an answer, before it is said why
AGAIN_S = 2.0  # a second Ctrl-C within this time cancels
REASON_AFTER_S = 3.0  # in the queue, before it is said why
REASON_AGAIN_S = 10.0  # between two looks whether the reason is still the same
_TIMED_OUT = re.compile(r"timed out after ([0-9]+)ms", re.ASCII)


def run(session: Session, words: Sequence[str], **options: Any) -> int:
    """Enqueue a command and follow it."""
    job = enqueueing.submit(session, enqueueing.shell(words, options), options)
    return follow(session, job, bool(options.get("raw")), bool(options.get("json")))


def wait(session: Session, words: Sequence[str], raw: bool = False, json: bool = False) -> int:
    """Follow a job that was enqueued before."""
    return follow(session, find_job(session.coordinators, words[0]), raw, json)


def follow(session: Session, job: dict[str, Any], raw: bool, as_json: bool) -> int:
    """Wait for the job's end, print what it wrote (or the job as JSON); the answer is the exit code."""
    try:
        job = _to_the_end(session, job)
    except KeyboardInterrupt:
        return _let_go(session, job["id"])
    if as_json:
        rendering.show_json(job)
    else:
        _print_result(job, raw)
    return exit_code(job)


def exit_code(job: Mapping[str, Any]) -> int:
    """The job's own exit code; 124 when it timed out, 130 when it was cancelled, 1 when it failed without one."""
    result = job.get("result") or {}
    if job["status"] == "cancelled":
        return INTERRUPTED
    if result.get("timedOut"):
        return TIMED_OUT
    code = int(result.get("exitCode") or 0) & 0xFF
    return code or int(job["status"] != "completed")


def _print_result(job: Mapping[str, Any], raw: bool) -> None:
    result = job.get("result") or {}
    rendering.pour(str(result.get("stdout", "")), sys.stdout, raw)
    rendering.pour(str(result.get("stderr", "")), sys.stderr, raw)
    if job["status"] == "cancelled":
        rendering.say(f"{job['id']} was cancelled")
    elif cause := failure(job):
        rendering.say(f"{job['id']} failed: {cause}")
    if cut := cut_output(job):
        rendering.say(cut)


def failure(job: Mapping[str, Any]) -> str:
    """Why the job failed, and which setting of the host decided it; empty when nothing more is known than its exit code."""
    result, error = job.get("result") or {}, str(job.get("error") or "")
    if result.get("signal") and not result.get("timedOut"):
        name = str(result["signal"])
        killed = f"killed by {'signal ' if name.isdecimal() else 'SIG'}{name}"
        return f"{error} ({killed})" if error else killed
    limit = _TIMED_OUT.fullmatch(error)
    if limit and job.get("timeoutMs", 0) > int(limit[1]):
        return f"{error} (the host's SKYCLAW_MAX_TIMEOUT_MS)"
    return remedied(error)


def cut_output(job: Mapping[str, Any]) -> str:
    """The sentence about output that the host did not keep; empty when it kept all."""
    result = job.get("result") or {}
    if not result.get("truncated"):
        return ""
    sizes = [(len(str(result.get(name, "")).encode("utf-8", "replace")), int(result.get(f"{name}Bytes", 0))) for name in STREAMS]
    cut = [(kept, written) for kept, written in sizes if written > kept] or sizes
    kept, written = (sum(column) for column in zip(*cut, strict=True))
    return f"output was cut to {kept} of {written} bytes; SKYCLAW_MAX_OUTPUT_BYTES on the host"


def _to_the_end(session: Session, job: dict[str, Any]) -> dict[str, Any]:
    """Ask until the job has finished. A coordinator that is away for a while is asked again."""
    line, delay, heard, told = _ProgressLine(), _Delay(session, job["id"]), time.monotonic(), ""
    try:
        while job["status"] not in FINISHED:
            line.update(job)
            try:
                if reason := delay.news(job):
                    line.clear()
                    rendering.say(reason)
                answer, heard = _ask(session, job["id"], min(line.park_ms, delay.park_ms(job))), time.monotonic()
                job = answer["job"]
                pause, told = answer.get("retryAfterMs", 0) / 1000, ""
            except (Unreachable, ServerRefused) as trouble:
                _bear(trouble, job["id"], heard)
                pause = 1.0
                if time.monotonic() - heard > TROUBLE_AFTER_S and str(trouble) != told:
                    told = str(trouble)
                    line.clear()
                    tell(told)
            time.sleep(pause)
    finally:
        line.clear()
    return job


def _ask(session: Session, job_id: str, park_ms: int) -> dict[str, Any]:
    """The job, after at most that time; an answer that came at once although nothing happened is not asked for again at once."""
    asked = time.monotonic()
    answer = session.coordinators.get(job_path(job_id), {"waitMs": park_ms}, timeout_s=park_ms / 1000 + 10)
    if answer["job"]["status"] not in FINISHED and time.monotonic() - asked < 0.1:
        answer.setdefault("retryAfterMs", 250)
    return answer


def _bear(trouble: Unreachable | ServerRefused, job_id: str, heard: float) -> None:
    """Return when asking again may help; raises what cannot be borne, or no longer."""
    if isinstance(trouble, ServerRefused) and trouble.status < 500:
        raise trouble
    if time.monotonic() - heard > PATIENCE_S:
        rendering.say(f"the job is not lost; come back with: skyclaw wait {job_id}")
        if isinstance(trouble, ServerRefused):
            trouble.details["triedForS"] = round(time.monotonic() - heard)
        raise trouble


def _let_go(session: Session, job_id: str) -> int:
    try:
        rendering.say(f"detached, the job goes on; come back with: skyclaw wait {job_id} (Ctrl-C again within 2 s cancels it)")
        time.sleep(AGAIN_S)
    except KeyboardInterrupt:
        _cancel(session, job_id)
    return INTERRUPTED


def _cancel(session: Session, job_id: str) -> None:
    try:
        session.coordinators.post(job_path(job_id, "cancel"), {}, key=uuid.uuid4().hex)
        rendering.say(f"{job_id} is cancelled")
    except SkyclawError as error:
        rendering.say(f"{job_id} could not be cancelled: {error}; try: skyclaw cancel {job_id}")


class _ProgressLine:
    """One line on stderr that is written over; only when a terminal reads it. Says once, to everybody, that no host can run the job."""

    def __init__(self) -> None:
        self._watched = rendering.is_terminal(sys.stderr)
        self._since = time.monotonic()
        self._told = False
        self.park_ms = 1_000 if self._watched else PARK_MS

    def update(self, job: Mapping[str, Any]) -> None:
        """Show how the job stands."""
        if job.get("unschedulable") and not self._told:
            self._told = True
            self.clear()
            rendering.say(f"no known host can run {job['id']}; it waits for one. Why: skyclaw explain {job['id']}")
        if self._watched:
            seconds = int(time.monotonic() - self._since)
            sys.stderr.write(f"\r\x1b[2K[skyclaw] {rendering.safe_line(job['id'])} {rendering.safe_line(job['status'])}, {seconds} s")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._watched:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


class _Delay:
    """Asks why a job is still in the queue, and tells it again when the reason is another one."""

    def __init__(self, session: Session, job_id: str) -> None:
        self._session, self._job_id = session, job_id
        self._next = time.monotonic() + REASON_AFTER_S
        self._said = ""

    def news(self, job: Mapping[str, Any]) -> str:
        """The sentence to say now; empty when there is none. Raises Unreachable, and ServerRefused when it is not for good."""
        if job["status"] != "queued" or time.monotonic() < self._next:
            return ""
        self._next = time.monotonic() + REASON_AGAIN_S
        try:
            answer = self._session.coordinators.get(job_path(self._job_id, "explain"))
        except ServerRefused as refusal:
            if refusal.status >= 500:
                raise
            return ""  # waiting goes on without a reason; what is wrong with the job itself, waiting tells
        reason = str(next(iter(answer["reasons"]), "")) if answer["status"] == "queued" else ""
        if reason in ("", self._said):
            return ""
        self._said = reason
        return f"{self._job_id} waits: {reason}"

    def park_ms(self, job: Mapping[str, Any]) -> int:
        """How long to wait for the job before `news` is due."""
        return max(1, round((self._next - time.monotonic()) * 1000)) if job["status"] == "queued" else PARK_MS
