"""A host's work and its actor, to be moved step by step: the executor and the heartbeats only write down what they are told."""

from typing import Any

from actors.host_agent import HostAgent
from actors.host_boxes import Outbox, Slots
from actors.host_messages import Claimed
from actors.host_work import HostWork
from skyclaw.hosting.held_leases import Lease
from skyclaw.hosting.pacing import Rhythm
from skyclaw.hosting.payloads import Means
from skyclaw.outside.processes import Ended, Order
from skyclaw.trust.command_policy import look_up

A = Lease("job_a", "t1")
ENDED = Ended("run-1", 0, None, False, None, 5, "out", "", 3, 0, False, None)
MEANS = Means(look_up(["true"], lambda name: f"/bin/{name}", real_path=lambda path: path), "openclaw", "automaton", 300_000, 3_600_000)


def job(lease: Lease = A, **fields: Any) -> dict[str, Any]:
    """A claimed job as a coordinator's JSON has it."""
    payload = {"kind": "shell", "command": "true"}
    return {"id": lease.job_id, "leaseToken": lease.token, "leaseMs": 60_000, "payload": payload, **fields}


class Recorder:
    """Stands where the executor does, and where the heartbeats do."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.killed: list[tuple[str, str]] = []
        self.heartbeats: list[tuple[Lease, ...]] = []
        self.answered: str | None = None

    def run(self, order: Order) -> None:
        self.orders[order.run_id] = order

    def kill(self, run_id: str, reason: str) -> None:
        self.killed.append((run_id, reason))

    def running(self) -> frozenset[str]:
        return frozenset(self.orders)

    def order(self, leases: tuple[Lease, ...], answered: str | None, timeout_s: float) -> None:
        assert 1 <= timeout_s <= 10
        self.heartbeats.append(leases)
        self.answered = answered


class Bench:
    """A host with everything around it at hand; its clock is `now`."""

    def __init__(self) -> None:
        self.executor, self.slots, self.outbox = Recorder(), Slots(4), Outbox()
        self.said, self.broken, self.idle, self.now = list[str](), list[str](), list[bool](), 0
        self.work = HostWork(MEANS, 1_000, self.executor, self.slots, self.outbox, self.said.append, self.broken.append)  # type: ignore[arg-type]

    def agent(self, grace_ms: int = 30_000) -> HostAgent:
        """An actor that is not started: its messages are handled by whoever calls `handle`."""
        rhythm = Rhythm(5_000, 0)
        return HostAgent(
            self.work,
            self.executor,  # type: ignore[arg-type]
            rhythm,
            self.slots,
            self.outbox,
            lambda: self.now,
            grace_ms,
            lambda: self.idle.append(True),
            self.broken.append,
        )

    def take(self, lease: Lease = A, **fields: Any) -> None:
        self.slots.take(1)
        self.work.take(job(lease, **fields), since=0)

    def claimed(self, *leases: Lease, sent: int = 0, received: int = 0, claim_id: str = "c.1") -> Claimed:
        """What the claim loop tells when these were leased."""
        self.slots.take(len(leases))
        return Claimed(tuple(map(job, leases)), sent, received, claim_id)

    @property
    def told(self) -> list[tuple[str, object]]:
        """Everything in the outbox, shortly."""
        reports = [(report.lease.job_id, report.result["success"]) for report in self.outbox.reports()]
        return [*reports, *[(item.lease.job_id, item.reason) for item in self.outbox.returns()]]
