"""The jobs a host has in hand, from the lease to the report.

A plain class that HostAgent owns. Nothing in it waits for a coordinator or for a job; only an executor that has died is started again by
the next job, which takes some 10 s at most.
"""

import logging
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from actors.host_boxes import Outbox, Slots
from actors.host_messages import GiveBack, Renewed, Report, Settled
from skyclaw.hosting import payloads, results
from skyclaw.hosting.held_leases import Attempt, HeldLeases, Lease, Stage, Why
from skyclaw.outside.processes import EXECUTOR_DIED, Ended, Executor, Order
from skyclaw.trust.command_policy import CommandRefused

logger = logging.getLogger(__name__)

LEASE_MS = 60_000  # of a coordinator that does not say
NO_EXECUTOR = f"{EXECUTOR_DIED}: "  # and it could not be started again: the fault is this host's, not the job's


class HostWork:
    """Starts and stops processes as the leases allow, and puts what is to be told into the outbox. Times are ms of the host's clock."""

    def __init__(
        self,
        means: payloads.Means,
        max_output_bytes: int,
        executor: Executor,
        slots: Slots,
        outbox: Outbox,
        say: Callable[[str], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._means, self._max_output_bytes, self._on_broken = means, max_output_bytes, on_broken
        self._executor, self._slots, self._outbox, self._say = executor, slots, outbox, say
        self._held, self._names = HeldLeases(), (f"run-{number}" for number in count(1))
        self._limits_missing: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether a process lives."""
        return bool(self._executor.running())

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to do or to tell."""
        return self._slots.unused and not self._outbox.owes

    @property
    def shortest_lease_ms(self) -> int | None:
        """The shortest lease that is held."""
        return self._held.shortest_ms()

    def listed(self) -> tuple[Lease, ...]:
        """The leases to be renewed."""
        return self._held.listed()

    def recover(self, reports: Iterable[Report], now: int) -> None:
        """Results of a former life are on their way: their leases are this life's."""
        for report in reports:
            self._held.take(Attempt(report.attempt_id, report.lease, report.kind, report.lease_ms, now, stage=Stage.ENDED))
            self._slots.take(1)

    def take(self, job: dict[str, Any], since: int) -> None:
        """Run a job whose lease counts from `since`."""
        attempt = self._enter(job, since)
        self._say(f"[skyclaw] running {attempt.lease.job_id} ({attempt.kind})")
        try:
            launch = payloads.launch(job, self._means)
        except CommandRefused as refusal:
            self._report(attempt, results.refused(str(refusal), refusal.exit_code))
            return
        order = Order(
            run_id=attempt.id,
            argv=launch.argv,
            env=launch.env,
            cwd=launch.cwd,
            timeout_ms=attempt.timeout_ms,
            max_output_bytes=self._max_output_bytes,
            job_id=attempt.lease.job_id,
        )
        self._executor.run(order)

    def decline(self, job: dict[str, Any], since: int) -> None:
        """Give a job back that came too late."""
        self._give_back(self._enter(job, since), Why.DRAINED)

    def ended(self, ended: Ended) -> None:
        """A process ended: report it, or give its job back, or forget it, as its lease wants it."""
        attempt = self._held.get(ended.run_id)
        if attempt is None:
            return
        self._mention_missing(ended.limits_missing)
        if ended.error and ended.error.startswith(NO_EXECUTOR):
            self._give_back(attempt, attempt.why or Why.UNABLE)
            self._on_broken(ended.error)
        elif attempt.why is None or (attempt.why.gives_back and not ended.killed):
            self._report(attempt, results.of_process(ended, attempt.timeout_ms))
        elif attempt.why.gives_back:
            self._give_back(attempt, attempt.why)
        else:
            self._settle(attempt.id)

    def told(self, settled: Settled) -> None:
        """A coordinator has heard of these attempts."""
        for item in settled.items:
            if isinstance(item, Report) and settled.accepted:
                self._say(f"[skyclaw] completed {item.lease.job_id}: {'ok' if item.result['success'] else 'failed'}")
        self._settle(*[item.attempt_id for item in settled.items])

    def renewed(self, renewed: Renewed) -> None:
        """A heartbeat was answered: leases go on, or are gone. A result that is on its way will be told so itself."""
        gone = dict.fromkeys(renewed.lost, Why.LOST) | dict.fromkeys(renewed.cancelled, Why.CANCELLED)
        not_renewed = gone.keys() | renewed.doubtful
        self._held.renew((lease for lease in renewed.leases if lease.job_id not in not_renewed), renewed.sent)
        for job_id, why in gone.items():
            attempt = self._held.of_job(job_id)
            if attempt is not None and attempt.stage is Stage.RUNNING and attempt.lease in renewed.leases:
                self._stop(attempt, why)

    def stop_overdue(self, now: int) -> None:
        """Stop what runs under a lease that is no longer certain."""
        for attempt in self._held.overdue(now):
            self._stop(attempt, Why.LAPSED)

    def stop_all(self) -> None:
        """Stop what runs, because the host leaves."""
        for attempt in self._held.running():
            self._stop(attempt, Why.DRAINED)

    def _enter(self, job: dict[str, Any], since: int) -> Attempt:
        lease, lease_ms = Lease(str(job.get("id")), str(job.get("leaseToken", ""))), job.get("leaseMs", LEASE_MS)
        former = self._held.of_job(lease.job_id)
        if former is not None:  # it was leased again, so the former lease is over
            self._stop(former, Why.LOST)
        attempt = Attempt(next(self._names), lease, payloads.kind_of(job), lease_ms, since, payloads.timeout_of(job, self._means))
        self._held.take(attempt)
        return attempt

    def _report(self, attempt: Attempt, result: results.Result) -> None:
        self._held.end(attempt.id)
        self._outbox.put(Report(attempt.id, attempt.lease, attempt.lease_ms, attempt.kind, result))

    def _give_back(self, attempt: Attempt, why: Why) -> None:
        self._held.give_back(attempt.id, why)
        self._outbox.put(GiveBack(attempt.id, attempt.lease, why.value))

    def _stop(self, attempt: Attempt, why: Why) -> None:
        """End an attempt that would otherwise go on; of one that has ended, no lease is held any more."""
        logger.warning("job_stopped job=%s why=%s", attempt.lease.job_id, why.value)
        self._held.stop(attempt.id, why)
        self._executor.kill(attempt.id, why.value)

    def _mention_missing(self, limits: tuple[str, ...]) -> None:
        """Say once which limits this machine cannot keep."""
        if limits and limits != self._limits_missing:
            logger.warning("limits_missing limits=%s", ",".join(limits))
            self._limits_missing = limits

    def _settle(self, *attempt_ids: str) -> None:
        """These attempts are over; their slots become free together, so that one claim can fill them."""
        over = [attempt_id for attempt_id in attempt_ids if self._held.settle(attempt_id) is not None]
        self._slots.give(len(over))
