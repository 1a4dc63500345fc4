"""/v1/import: takes over what a coordinator of the TypeScript version has, page by page. Whoever sends a page again changes nothing.

A job keeps the later part of its id, its former one is a label (`imported-id`). Times of its own past are kept with its result and as
labels: here, it began when it was taken over.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from falcon import Request, Response
from marshmallow import ValidationError

from api import bodies
from api.enqueueing import Enqueueing
from api.fields import Printed, Strict, Text, Whole, capabilities, problem, shown, wrong
from api.parts import Parts
from api.payloads import payload
from api.schemas import CUT, LONGEST, MAX_ERROR, NULL_IS_MISSING, SHORT_TEXT, Closed, RegisterRequest
from api.targets import HOST_ID
from api.views import View, dump
from skyclaw.events import HostRegistered, JobCompleted, JobEnqueued, JobFailed
from skyclaw.ids import JOB_ID
from skyclaw.scheduling.importing import Arrival, Import, Imported, ids_in
from skyclaw.scheduling.jobs import COMPLETED, FAILED, LEASED, QUEUED

MAX_RECORDS = 500
SCOPE = "/v1/import"
UNKNOWN_HOST = "unknown-host"
STATUSES = (QUEUED, LEASED, COMPLETED, FAILED)


class Records(Strict):
    """A list of objects, to be looked at one by one."""

    def read(self, value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > MAX_RECORDS:
            raise problem(f"must be a list of at most {MAX_RECORDS} records")
        return value


class ImportRequest(Closed):
    """Records as `/v1/state` of the TypeScript version has them, and the name of the coordinator they are from."""

    source = Text(SHORT_TEXT, "a text of 1 to 256 characters", required=True, error_messages=NULL_IS_MISSING)
    jobs = Records(load_default=())
    hosts = Records(load_default=())


IMPORT, REGISTER = ImportRequest(), RegisterRequest()
DURATION, EXIT_CODE, OUTPUT = Whole(0, LONGEST), Whole(-(2**31), 2**31 - 1), Printed()


class Imports:
    """/v1/import."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._enqueueing = parts, Enqueueing(parts)

    def on_post(self, req: Request, resp: Response) -> None:
        """Take over what is new; what cannot be understood is refused by itself, and named."""
        asked, home = IMPORT.read(bodies.read_replication(req)), self._enqueueing.home(req)
        log = home or self._parts.log
        assert log is not None
        refused: list[View] = []
        hosts = [host for _, host in _each(asked["hosts"], _host, refused)]
        jobs = list(_each(asked["jobs"], lambda record: _arrival(record, log, asked["source"]), refused))
        unknown = tuple(job for _, job in jobs if not self._is_stored(job))
        answer: Imported = self._parts.desk.ask(Import(unknown, tuple(hosts), home))
        fresh = frozenset(answer.jobs)
        new = {"jobs": [former for former, job in jobs if job.asked.job_id in fresh], "hosts": answer.hosts}
        resp.data = dump({"ok": True, "nodeId": self._parts.node, "log": log, "new": new, "refused": refused})

    def _is_stored(self, job: Arrival) -> bool:
        """Has it been taken over into any log, however long ago?"""
        return any(self._parts.archive.job(job_id) is not None for job_id in ids_in(self._parts.logs, job.asked.job_id))


def _each(records: list[Any], read: Callable[[dict[str, Any]], Any], refused: list[View]) -> Iterator[tuple[str, Any]]:
    """(id, what was read) of the records that can be understood."""
    for record in records:
        name = record.get("id") if isinstance(record, dict) else None
        try:
            if not isinstance(name, str):
                raise problem("must be an object with an id")
            yield name, read(record)
        except ValidationError as error:
            refused.append({"id": name if isinstance(name, str) else "", "error": _sentence(error.messages)})


def _host(record: dict[str, Any]) -> HostRegistered:
    fields = {"hostId": record["id"]} | {name: record[name] for name in ("name", "capabilities", "maxParallel") if name in record}
    asked = REGISTER.read(fields)
    return HostRegistered(asked["host_id"], asked["name"], asked["capabilities"], asked["max_parallel"], life=1)


def _arrival(record: dict[str, Any], log: str, source: str) -> Arrival:
    former, status = record["id"], record.get("status")
    if not JOB_ID.fullmatch(former):
        raise wrong("the id of a job", former, "id")
    if status not in STATUSES:
        raise ValidationError({"status": [f"must be one of {', '.join(STATUSES)}, not {shown(status)}"]})
    job_id, over = next(ids_in([log], former)), status in (COMPLETED, FAILED)
    asked = _asked(record, job_id, source, lenient=over)
    return Arrival(asked, _end(record, job_id) if over else None)


def _asked(record: dict[str, Any], job_id: str, source: str, *, lenient: bool) -> JobEnqueued:
    """What was asked for; of a job that has run, the payload is not judged any more."""
    sent, former = record.get("payload"), record["id"]
    if not (lenient and isinstance(sent, dict) and isinstance(sent.get("kind"), str)):
        sent = _payload(sent)
    requirement = record.get("requirement")
    required = capabilities(requirement.get("requiredCapabilities", []) if isinstance(requirement, dict) else [])
    times = {f"imported-{name}": _text(record.get(key)) for name, key in (("created-at", "createdAt"), ("updated-at", "updatedAt"))}
    labels = {"imported-from": source, "imported-id": former, **{name: text for name, text in times.items() if text}}
    limit = sent.get("timeoutMs")
    return JobEnqueued(
        job_id,
        sent["kind"],
        orjson.dumps(sent).decode(),
        required,
        submitted_by=_text(record.get("submittedBy")),
        timeout_ms=limit if type(limit) is int and limit > 0 else None,
        labels=tuple(sorted(labels.items())),
        scope=SCOPE,
        key=f"import/{former}",
        digest=hashlib.sha256(former.encode()).hexdigest()[:32],
    )


def _payload(sent: Any) -> dict[str, Any]:
    try:
        checked = payload(sent)
    except ValidationError as error:
        raise ValidationError({"payload": error.messages}) from None
    if b"\\u0000" in orjson.dumps(checked):
        raise ValidationError({"payload": ["must not contain the character NUL"]})
    return checked


def _end(record: dict[str, Any], job_id: str) -> JobCompleted | JobFailed:
    """How the job ended there, as far as that is told."""
    told = record.get("result")
    result: dict[str, Any] = told if isinstance(told, dict) else {}
    well = record["status"] == COMPLETED
    host = record.get("assignedHostId")
    host_id = host if isinstance(host, str) and HOST_ID.fullmatch(host) else UNKNOWN_HOST
    duration, code = _or(DURATION, result.get("durationMs"), 0), _or(EXIT_CODE, result.get("exitCode"), 0 if well else 1)
    stdout, stderr = (_or(OUTPUT, result.get(name), "") for name in ("stdout", "stderr"))
    finished_at = _text(result.get("finishedAt"))
    detail = orjson.dumps({"importedFinishedAt": finished_at} if finished_at else {}).decode()
    if well:
        return JobCompleted(job_id, host_id, duration, code, stdout, stderr, detail)
    error = _or(OUTPUT, record.get("error"), None)
    if error is not None and len(error) > MAX_ERROR:
        error = error[: MAX_ERROR - len(CUT)] + CUT
    return JobFailed(job_id, host_id, duration, code, stdout, stderr, error, detail=detail)


def _or(field: Strict, value: Any, otherwise: Any) -> Any:
    """What the field makes of the value; something else when it is none."""
    try:
        return field.read(value)
    except ValidationError:
        return otherwise


def _text(value: Any) -> str | None:
    """A short text, if it is one."""
    return value if isinstance(value, str) and SHORT_TEXT.fullmatch(value) else None


def _sentence(messages: Any, path: str = "") -> str:
    """The first of the messages, after the path to the field that it is about."""
    if isinstance(messages, dict):
        name, inner = next(iter(messages.items()))
        return _sentence(inner, path if name == "_schema" else ".".join(filter(None, (path, str(name)[:64]))))
    if isinstance(messages, list):
        return _sentence(messages[0], path)
    return f"{path} {messages}".strip()
