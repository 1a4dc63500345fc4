"""The thread that brings results to the coordinators, gives jobs back, and says that the host drains.

Nothing leaves the outbox before a coordinator has taken or refused it. What could not be brought is on the disk until then.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from actors.host_boxes import Outbox
from actors.host_loops import Loop, Tell, is_unknown_host
from actors.host_messages import GiveBack, HostUnknown, Report, Settled
from skyclaw.errors import ServerRefused, Unavailable
from skyclaw.hosting import results
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.kept_results import KeptResult, KeptResults
from skyclaw.outside.paths import host_path, job_path

logger = logging.getLogger(__name__)

NOT_NOW = {"unavailable", "undecided", "storage_readonly", "storage_full", "storage_failed", "queue_full"}
NOT_NOW |= {"owner_unknown", "not_owner", "lost_contact", "too_few_copies"}
TOO_LARGE = frozenset({"payload_too_large", "result_too_large"})
UNFIT = (400, 409, 413, 422)  # statuses that mean the request itself, not the host or the moment

Written = tuple[Report, bytes]


class DeliveryLoop(Loop):
    """Empties the outbox; HostAgent hears of each thing that is settled."""

    def __init__(self, coordinators: Coordinators, host_id: str, outbox: Outbox, kept: KeptResults, tell: Tell, enough: int = 1) -> None:
        super().__init__("host-deliveries")
        self._coordinators, self._host_id, self._outbox, self._kept, self._tell = coordinators, host_id, outbox, kept, tell
        self._on_disk = {report.attempt_id for report in outbox.reports()}  # what a former process left
        self._disk = threading.Lock()
        self._enough = enough
        outbox.nudge = self.nudge

    def has_work(self) -> bool:
        return bool(self._outbox)

    def once(self) -> float:
        self.gather(lambda: len(self._outbox) >= self._enough)
        if self._outbox.goodbye:
            self._coordinators.post(host_path(self._host_id, "drain"), {})
            self._outbox.goodbye = False
        for item in self._outbox.returns():
            self._give_back(item)
        waiting = [(report, _text(report)) for report in self._outbox.reports(results.MOST_RESULTS)]
        self._deliver(waiting[: results.batch(len(text) for _, text in waiting)])
        return 0.0

    def failed(self, error: Exception) -> None:
        if is_unknown_host(error):
            self._tell(HostUnknown())
        self._outbox.goodbye_failed = self._outbox.goodbye
        self._keep()

    def stop(self, timeout_s: float = 0.0) -> None:
        """End; what could not be delivered in time is on the disk then."""
        super().stop(timeout_s)
        self._keep()

    def _deliver(self, batch: Sequence[Written]) -> None:
        if not batch:
            return
        body = {"results": [orjson.Fragment(text) for _, text in batch]}
        try:
            answer = self._coordinators.post(host_path(self._host_id, "results"), body)
        except ServerRefused as refusal:
            if refusal.status not in UNFIT:
                raise
            self._deliver_apart(batch, refusal)
        else:
            self._settle_all([report for report, _ in batch], answer.get("results"))

    def _deliver_apart(self, batch: Sequence[Written], refusal: ServerRefused) -> None:
        """One of them is not taken: find it, and put something in its place that can be."""
        half = len(batch) // 2
        if half:
            self._deliver(batch[:half])
            self._deliver(batch[half:])
        else:
            self._replace(batch[0][0], refusal.status == 413 or refusal.code in TOO_LARGE, refusal.code, str(refusal))

    def _settle_all(self, reports: Sequence[Report], answers: Any) -> None:
        if not isinstance(answers, list) or len(answers) != len(reports):
            raise Unavailable("the coordinator's answer does not fit the results that were sent")
        told = list(zip(reports, answers, strict=True))
        self._settle([report for report, said in told if said.get("ok")], accepted=True)
        not_now = ""
        for report, said in told:
            code, error = str(said.get("code")), str(said.get("error"))
            if said.get("ok"):
                continue
            if code in NOT_NOW:
                not_now = error
            elif code in TOO_LARGE:
                self._replace(report, True, code, error)
            else:
                logger.warning("result_dropped job=%s code=%s cause=%s", report.lease.job_id, code, error)
                self._settle([report], accepted=False)
        if not_now:
            raise Unavailable(not_now)

    def _replace(self, report: Report, too_large: bool, code: str, error: str) -> None:
        """The coordinator will never take this result as it is."""
        logger.warning("result_refused job=%s code=%s tries=%d cause=%s", report.lease.job_id, code, report.tries + 1, error)
        if report.tries >= results.TRIES:
            self._settle([report], accepted=False)
        elif too_large:
            fitting = results.shortened(report.result, report.tries + 1)
            self._outbox.put(replace(report, result=fitting, tries=report.tries + 1))
        else:
            fitting = results.undeliverable(report.result, code, error)
            self._outbox.put(replace(report, result=fitting, tries=results.TRIES))

    def _give_back(self, item: GiveBack) -> None:
        body = {"hostId": self._host_id, "leaseToken": item.lease.token, "reason": item.reason}
        try:
            self._coordinators.post(job_path(item.lease.job_id, "release"), body)
        except ServerRefused as refusal:
            if is_unknown_host(refusal) or refusal.status not in (404, *UNFIT):
                raise
            logger.warning("release_dropped job=%s code=%s cause=%s", item.lease.job_id, refusal.code, refusal)
        self._outbox.remove([item])
        self._tell(Settled((item,), accepted=True))

    def _settle(self, reports: Sequence[Report], accepted: bool) -> None:
        if reports:
            self._outbox.remove(reports)
            self._forget(reports)
            self._tell(Settled(tuple(reports), accepted))

    def _keep(self) -> None:
        """Put on the disk what is not there yet."""
        with self._disk:
            for report in self._outbox.reports():
                if report.attempt_id not in self._on_disk:
                    try:
                        self._kept.keep(_kept(self._host_id, report))
                    except OSError:
                        logger.exception("result_not_kept job=%s", report.lease.job_id)
                        return
                    self._on_disk.add(report.attempt_id)

    def _forget(self, reports: Sequence[Report]) -> None:
        with self._disk:
            for report in reports:
                if report.attempt_id in self._on_disk:
                    self._on_disk.discard(report.attempt_id)
                    self._kept.forget(report.lease.job_id, report.lease.token)


def _kept(host_id: str, report: Report) -> KeptResult:
    return KeptResult(host_id, report.lease.job_id, report.lease.token, report.lease_ms, report.kind, report.result)


def _text(report: Report) -> bytes:
    """The result as the request lists it."""
    return orjson.dumps({"jobId": report.lease.job_id, "leaseToken": report.lease.token, **report.result})
