"""Jobs that are no longer live, and services as they were, read back by folding their own few events. Safe to use from any thread.

A job's events stand in one log, the one whose tag its id bears, and so do a service's; a host's stand in every log in which it was
registered. What is not committed yet may be replaced: whoever must not see it says up to which position to read.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from skyclaw import events as ev
from skyclaw.codec import CODEC, Codec, UnsupportedEvent
from skyclaw.errors import NotUnderstood
from skyclaw.ids import JOB_ID, SERVICE_ID
from skyclaw.records import Record
from skyclaw.scheduling import jobs
from skyclaw.scheduling.jobs import CANCELLED, COMPLETED, FAILED, Job, Stamp
from skyclaw.services import service as services
from skyclaw.services.service import Service
from skyclaw.store.event_log import EventLog

ENDS = {COMPLETED: ev.JobCompleted.__name__, FAILED: ev.JobFailed.__name__, CANCELLED: ev.JobCancelled.__name__}
CHUNK = 200
_TAG = slice(len("job_"), len("job_") + 8)  # where a job's id bears the tag of its log


class Archive:
    """The jobs of all logs in a store; where a log is not named, its own is meant."""

    def __init__(self, store: EventLog, codec: Codec = CODEC) -> None:
        self._store, self._codec = store, codec

    def job(self, job_id: str, until: int | None = None) -> Job | None:
        """The job with its outputs, as it was at position `until` (now, when None); None when its log does not know it."""
        return self._fold(self.events(job_id, until))

    def service(self, service_id: str, until: int | None = None) -> Service | None:
        """The service as it was at position `until` (now, when None), or before it was forgotten; None when its log does not know it."""
        service: Service | None = None
        for event, r in self._understood(self.events(service_id, until)):
            service = services.evolve(service, event, r.at) or service
        return service

    def events(self, stream: str, until: int | None = None, after: int = 0, limit: int | None = None) -> list[Record]:
        """The events of one job, service or host, log by log, oldest first.

        Those behind position `after` and up to position `until` (all, when None); the first `limit` of them (all, when None).
        """
        records = self._store.stream(stream, until, after, limit)
        if JOB_ID.fullmatch(stream) or SERVICE_ID.fullmatch(stream):
            return [record for record in records if record.log == stream[_TAG]]
        return records

    def finished(self, statuses: Sequence[str], before: int | None, limit: int, log: str | None = None) -> Iterator[tuple[int, Job | None]]:
        """The positions before `before` at which a job ended in one of these statuses, at most `limit` of them, the latest first.

        With the job as it was then; None where the job went on since: of those nothing but their last position is read.
        """
        log = self._store.log if log is None else log
        for page in self._newest(log, [ENDS[status] for status in statuses if status in ENDS], before, limit):
            last = self._store.last(log, [stream for _, stream in page])
            for seq, stream in page:
                yield seq, self._job_or_none(stream, seq) if last.get(stream) == seq else None

    def enqueued(self, before: int | None, limit: int, log: str | None = None) -> Iterator[tuple[int, Job | None]]:
        """The positions before `before` at which jobs were accepted, at most `limit` of them, the latest first, with the jobs."""
        for page in self._newest(self._store.log if log is None else log, [ev.JobEnqueued.__name__], before, limit):
            for seq, stream in page:
                yield seq, self._job_or_none(stream)

    def _job_or_none(self, job_id: str, until: int | None = None) -> Job | None:
        with suppress(NotUnderstood):
            return self.job(job_id, until)
        return None

    def _newest(self, log: str, types: list[str], before: int | None, limit: int) -> Iterator[list[tuple[int, str]]]:
        while types and limit > 0 and (page := self._store.newest(log, types, before, min(limit, CHUNK))):
            yield page
            before, limit = page[-1][0], limit - len(page)

    def _fold(self, records: list[Record]) -> Job | None:
        """The job as far as this version understands its events."""
        job = None
        for event, r in self._understood(records):
            job = jobs.evolve(job, event, Stamp(r.seq, r.epoch, r.at))
        return job

    def _understood(self, records: list[Record]) -> Iterator[tuple[ev.Event, Record]]:
        """The events up to the first one that this version does not understand; raises NotUnderstood when there is none before it."""
        for number, r in enumerate(records):
            try:
                event = self._codec.decode(r.type, r.version, r.data)
            except UnsupportedEvent as unknown:
                if number == 0:
                    raise NotUnderstood from unknown
                return
            yield event, r
