"""What must hold after every step, and when everything has come to rest."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skyclaw.cluster.configuration import Configurations, copies_of, enough_copies
from skyclaw.cluster.replica import CONFIGURATION, configurations_of, parse_epoch
from skyclaw.cluster.replication import Effects
from skyclaw.records import GENESIS_EPOCH, GENESIS_HASH, Epoch, Record, chain_hash
from tests.cluster.simulation.clerk import OK, Reply
from tests.cluster.simulation.jobs import Job, Jobs, fold, is_of_a_job, legal

if TYPE_CHECKING:
    from tests.cluster.simulation.world import Coordinator, World


class Violation(Exception):
    """Something happened that must never happen."""


def require(ok: object, what: str, *detail: object) -> None:
    """Raise Violation unless `ok`."""
    if not ok:
        raise Violation(f"{what}: {' '.join(map(str, detail))}")


@dataclass
class Truth:
    """The committed records of a log in one generation, and what they make of it."""

    records: list[Record] = field(default_factory=list)
    jobs: Jobs = field(default_factory=dict)
    configurations: Configurations = ()

    def add(self, record: Record) -> None:
        self.records.append(record)
        fold(self.jobs, record)
        if record.type == CONFIGURATION:
            self.configurations = configurations_of(record)


class Checker:
    """Knows all that was ever committed or acknowledged. With `probe` it looks inside the nodes, too."""

    def __init__(self, world: "World", probe: bool = True) -> None:
        self.world, self.probe = world, probe
        self.truths: dict[str, dict[int, Truth]] = {}  # by log and generation
        self.refused: set[bytes] = set()  # hashes of records whose proposers were told that nothing was written
        self.acked: set[str] = set()
        self.deployed: dict[str, set[str]] = {}  # name of each acknowledged service -> the logs that had it
        self.results: dict[str, str] = {}
        self.owners: dict[tuple[str, Epoch], str] = {}
        self.newest: dict[str, Epoch] = {}  # owner of each log
        self.reported: set[bytes] = set()  # hashes of the records that nodes reported as orphans
        self.vanished: dict[str, tuple[Truth, int]] = {}  # by log: where it was forced, what others had committed beyond a position

    def truth(self, log: str) -> Truth:
        """What is committed in the newest generation."""
        truths = self.truths.setdefault(log, {0: Truth()})
        return truths[max(truths)]

    # After a step

    def before_write(self, p: "Coordinator", effects: Effects) -> None:
        """Promises only grow; writes follow from what the coordinator has, and replace nothing that is committed."""
        for log, epoch in effects.promises.items():
            require(epoch > p.disk.promised(log), "a promise is broken", p.name, log, epoch, p.disk.promised(log))
        for log, (start, records) in effects.writes.items():
            held = p.disk.logs.get(log, [])
            require(1 <= start <= len(held) + 1 and records, "a write leaves a gap", p.name, log, start, len(held))
            before = held[start - 2].hash if start > 1 else GENESIS_HASH
            for seq, record in enumerate(records, start):
                require(record.seq == seq and chain_hash(before, record) == record.hash, "the hash chain is broken", p.name, log, seq)
                before = record.hash
            replaced = held[start - 1 :]
            orphans = [one for one in effects.orphans if one.log == log]
            if start <= p.commits.get(log, 0):
                top = parse_epoch(replaced[0].epoch).generation
                require(orphans and p.node.replica(log).promised.generation > top, "a committed record is replaced", p.name, log, start)
                p.commits[log] = start - 1
            for one in orphans:
                require(one.first >= start, "a report of orphans is too long", p.name, one, start)
                self.reported.update(record.hash for record in held[one.first - 1 : one.last])

    def after_step(self, p: "Coordinator", effects: Effects) -> None:
        """The node agrees with its disk; what it calls committed is; and it owns what nobody else does."""
        for log in effects.writes:
            self._agrees(p, log)
        for log, to in effects.committed.items():
            self._committed(p, log, to)
        for gained in effects.gained:
            if p.node.owns(gained.log):
                self._owned(p, gained.log, gained.epoch)

    def undone(self, p: "Coordinator", effects: Effects) -> None:
        """The transaction failed: the node is back to what its disk has, and what was in it must never appear."""
        for log, written in effects.writes.items():
            self.refused.update(record.hash for record in written.records if is_of_a_job(record) and p.node.owns(log))
        for log in {*effects.writes, *effects.promises}:
            self._agrees(p, log)

    def _agrees(self, p: "Coordinator", log: str) -> None:
        replica, held = p.node.replica(log), p.disk.logs.get(log, [])
        last = held[-1].hash if held else GENESIS_HASH
        require((replica.end, replica.hash) == (len(held), last), "memory differs from the disk", p.name, log, replica.end, len(held))
        require(replica.promised == p.disk.promised(log), "the promise differs from the disk", p.name, log)
        require(replica.commit <= replica.end, "committed beyond the end", p.name, log)
        epoch = parse_epoch(held[-1].epoch) if held else GENESIS_EPOCH
        require(replica.last == (epoch, len(held)), "the last epoch differs from the disk", p.name, log, replica.last)
        if self.world.rng.random() < 0.05:
            after, limit = self.world.rng.randrange(len(held) + 1), self.world.rng.randint(1, 5)
            read = replica.records(after, limit, 1 << 30)
            require(read == tuple(held[after : after + len(read)]), "records are read back wrongly", p.name, log, after)
            require(read or after == len(held), "records are lost from the front", p.name, log, after)

    def _committed(self, p: "Coordinator", log: str, to: int) -> None:
        require(to <= p.node.replica(log).end, "commit beyond the end", p.name, log, to)
        require(to >= p.commits.get(log, 0) or self.vanished.get(log) is not None, "commit goes back", p.name, log, to)
        p.commits[log] = to
        if to == 0:
            return
        held = p.disk.logs[log]
        truths = self.truths.setdefault(log, {0: Truth()})
        generation = min(p.node.replica(log).owner.generation, max(truths))
        if any(to <= len(one.records) and one.records[to - 1].hash == held[to - 1].hash for one in truths.values()):
            return
        truth = truths[generation]
        known = len(truth.records)
        require(to > known, "committed prefixes differ", p.name, log, to, held[to - 1], truth.records[to - 1 : to])
        require(known == 0 or held[known - 1].hash == truth.records[-1].hash, "committed prefixes differ", p.name, log, known)
        for record in held[known:to]:
            self._is_right(p, truth, record)
            truth.add(record)

    def _is_right(self, p: "Coordinator", truth: Truth, record: Record) -> None:
        log, seq = record.log, record.seq
        require(legal(truth.jobs, record), "illegal event committed", log, seq, record.type, record.data)
        require(record.hash not in self.refused, "a refused proposal is committed", p.name, log, seq)
        if record.type == "JobCompleted":
            claim = truth.jobs[record.stream].claim
            require(f'"stdout":"result of {claim}"' in record.data, "a fenced host finished the job", log, seq, claim, record.data)
        if is_of_a_job(record):
            enough = copies_of(truth.configurations) >= self.world.min_copies
            require(enough, "written before there were enough copies", log, seq, truth.configurations)
        if self.probe and truth is self.truth(log):  # where a log was forced elsewhere, copies are given up meanwhile
            holders = self.world.holders(record)
            require(enough_copies(p.node.replica(log).configuration, holders), "fewer than k copies", p.name, log, seq, holders)

    def _owned(self, p: "Coordinator", log: str, epoch: Epoch) -> None:
        if not self.probe or self.owners.get((log, epoch)) == p.name:
            return
        require((log, epoch) not in self.owners, "two owners in one epoch", log, epoch)
        self.owners[log, epoch] = p.name
        if epoch >= self.newest.get(log, GENESIS_EPOCH):
            self.newest[log] = epoch
            truths = self.truths.setdefault(log, {0: Truth()})
            committed = truths[epoch.generation].records if epoch.generation in truths else []
            held = p.disk.logs[log]
            has_all = not committed or (len(held) >= len(committed) and held[len(committed) - 1].hash == committed[-1].hash)
            require(has_all, "owner lacks committed events", p.name, log, epoch, len(held), len(committed))

    # What clients see

    def replied(self, m: Reply) -> None:
        """An answer leaves a coordinator: from now on the network is bound by it."""
        if m.status == OK and m.op == "deploy":
            logs = {log for log, truths in self.truths.items() for truth in truths.values() if m.body in truth.jobs}
            require(logs, "an acknowledged service is not committed", m)
            self.deployed.setdefault(m.body, set()).update(logs)
        if m.status != OK or m.op not in ("enqueue", "claim", "complete"):
            return
        job_id: str
        what: Any
        job_id, what = (m.body, None) if m.op == "enqueue" else m.body
        truths = self.truths.get(job_id.split("/")[0], {}).values()
        require(any(job_id in truth.jobs for truth in truths), "acknowledged job is not committed", m)
        if m.op == "enqueue":
            self.acked.add(job_id)
        elif m.op == "claim":
            epoch, seq = what
            events = [truth.records[seq - 1] for truth in truths if seq <= len(truth.records)]
            leased = any((event.type, event.epoch, event.stream) == ("JobLeased", epoch, job_id) for event in events)
            require(leased, "lease is not committed", m)
        else:
            done = any(_outcome(truth.jobs.get(job_id)) == ("done", what) for truth in truths)
            require(done, "accepted result is not committed", m)
            if not self.vanished:
                require(self.results.setdefault(job_id, what) == what, "two different results accepted", m)

    # A forced takeover

    def forced(self, p: "Coordinator", log: str, base: int, generation: int) -> None:
        """The log goes on from the first `base` records of this copy; what was committed elsewhere has vanished."""
        old, held, new = self.truth(log), p.disk.logs.get(log, []), Truth()
        common = 0
        while common < min(base, len(old.records)) and held[common].hash == old.records[common].hash:
            common += 1
        for record in held[:common]:
            new.add(record)
        self.vanished[log] = old, common
        self.truths[log][generation] = new

    # At rest

    def missing(self) -> str:
        """What is not yet as it must be when everything has come to rest; empty when all is well."""
        coordinators = [p for p in self.world.coordinators.values() if p.up]
        jobs = {log: self.truth(log).jobs for log in self.truths}
        forced = {job_id for job_id in self.acked if self.vanished.get(job_id.split("/")[0]) is not None}
        late = [x for x in self.acked - forced if jobs[x.split("/")[0]].get(x, Job("lost")).status != "done"]
        late += [x for x in forced if jobs[x.split("/")[0]].get(x, Job("done")).status != "done"]
        lag = []
        for log in self.truths:
            records = self.truth(log).records
            for p in coordinators:
                replica, clerk = p.node.replica(log), p.clerk
                same = replica.commit == len(records) == clerk.at.get(log, 0) and clerk.copies.get(log) == jobs[log]
                if not same or (records and p.disk.logs[log][len(records) - 1].hash != records[-1].hash):
                    lag.append((p.name, log, replica.commit, len(records)))
        return f"unfinished {late}, lagging {lag}" if late or lag else ""

    def at_rest(self) -> None:
        """Everything has come to rest: what vanished was reported, by those that had it, and all find the same services."""
        for log, (old, common) in self.vanished.items():
            unreported = [record.seq for record in old.records[common:] if record.hash not in self.reported and not self._kept(record)]
            require(not unreported, "orphans were not reported", log, unreported)

        for name, logs in self.deployed.items():
            there = {log for log in self.truths if name in self.truth(log).jobs}
            require(there >= logs - self.vanished.keys(), "a service is lost", name, logs, there)
            found = {p.clerk.log_of(name) for p in self.world.coordinators.values() if p.up}
            require(not there or found == {min(there)}, "a name means several services", name, there, found)

    def _kept(self, record: Record) -> bool:
        """Is the vanished record still on the disk of some coordinator, which has not heard of the takeover, or was it wiped?"""
        return any(record in p.disk.durable.get(record.log, [])[record.seq - 1 : record.seq] for p in self.world.coordinators.values())


def _outcome(job: Job | None) -> tuple[str, str]:
    return (job.status, job.result) if job is not None else ("none", "")
