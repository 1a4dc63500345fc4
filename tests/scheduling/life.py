"""The life of a queue whose turns are decided ahead of their commit, as in the real process, with a judge (judge.py) who hears everything.

What the oldest turns decided is committed, what the latest decided is taken back, and after a crash the committed events, which have been
through their JSON texts, are all that is left. Here is what must be true whatever happens; `deeds.py` says what may happen.
"""

from dataclasses import dataclass
from itertools import cycle
from typing import Any
from unittest.mock import patch

from skyclaw import answers as ans
from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.codec import CODEC
from skyclaw.errors import IdempotencyConflict, NotOwner, SkyclawError
from skyclaw.records import Epoch
from skyclaw.scheduling import jobs
from skyclaw.scheduling import state as state_module
from skyclaw.scheduling.jobs import Job, Stamp
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.state import State
from skyclaw.scheduling.turn import Rules, Turn
from skyclaw.scheduling.turns import Turns
from tests.scheduling.judge import SILENCE, Judge, looks
from tests.scheduling.making import HOME, T0, numbered_ids

LEASE, OVERTIME, QUARANTINE = 60_000, 30_000, 600_000
SERVICE_LEASE, ONLINE = 15_000, 15_000
MAX_QUEUED, MAX_PARKED, RECENT = 10, 3, 3
PARKED = "parked"
LATER = "0.999.n/3"  # the token of a lease that a later owner gave


class Ticket:
    """Somebody who waits for exactly one answer."""


@dataclass
class Pending:
    """A turn that is not committed yet, and the quarantines before it."""

    turn: Turn
    quarantine: dict[str, int]


class Life:
    """A queue, its log, and what must follow from each turn."""

    def begin_to_live(self) -> None:
        """Found the log."""
        self._short_memory = patch.object(state_module, "RECENT", RECENT)
        self._short_memory.start()
        self._ids = numbered_ids()
        self._ids.__enter__()  # drawn ids would make every life of a seed another one
        self.now, self.counter, self.owners = T0, 0, 0
        self.log: list[tuple[Stamp, ev.Event]] = []  # what is committed, as it was read back from its text
        self.archive: dict[str, list[tuple[Stamp, ev.Event]]] = {}
        self.pictures: list[tuple[list[str], int]] = [([], 0)]
        self.tokens = [LATER]  # all there ever were, and one of a later owner
        self.draws = cycle((0.0, 0.6, 0.999))
        self.own(State())

    def end(self) -> None:
        """Leave no trace in other tests."""
        self._short_memory.stop()
        self._ids.__exit__(None, None, None)

    def own(self, state: State) -> None:
        """Begin to own the log, whose fold this is."""
        self.owners += 1
        self.epoch = str(Epoch(0, self.owners, "n"))
        taken, stamp = ev.OwnershipTaken("n", "restarted"), Stamp(state.end + 1, self.epoch, self.now)
        state.apply(taken, stamp)
        self.keep(taken, stamp)
        rules = Rules(lease_ms=LEASE, max_queued=MAX_QUEUED, max_parked=MAX_PARKED)
        self.queue = Queue(HOME, rules, lambda job_id, _: self.archived(job_id), lambda: next(self.draws))
        self.queue.replace(HOME, state)
        self.queue.own(HOME, self.epoch, self.now)
        self.pending: list[Pending] = []
        self.waiting: dict[Ticket, tuple[str, str]] = {}
        self.places = MAX_PARKED
        self.answered: set[Ticket] = set()
        self.disturbed = False  # has a turn been taken back, so that something is free that nobody was offered?
        self.rehear()
        self.seen = dict.fromkeys(self.judge.hosts, self.now)
        self.quarantine = {host_id: self.now + QUARANTINE for host_id, host in self.judge.hosts.items() if host.losses >= 5}
        self.floors: dict[str, int] = {}  # token -> before which its lease may not end
        self.limits: dict[str, int] = {}  # token -> up to which it may be renewed
        self.renewed = {name: self.now for facts in self.judge.services.values() for name in facts.instances}  # instance -> since when
        for job_id, job in self.judge.jobs.items():
            if job.status == "leased":
                self.lease_begins(job_id)

    @property
    def state(self) -> State:
        """The live fold."""
        return self.queue.books.home.state

    @property
    def committed(self) -> int:
        """The position up to which events are kept."""
        return self.log[-1][0].seq

    def keep(self, event: ev.Event, stamp: Stamp) -> None:
        """Commit one event."""
        kept = stamp, CODEC.decode(*CODEC.encode(event))
        self.log.append(kept)
        self.archive.setdefault(ev.stream_of(event), []).append(kept)

    def archived(self, job_id: str) -> Job | None:
        """What the committed events say about a job."""
        job = None
        for stamp, event in self.archive.get(job_id, ()):
            job = jobs.evolve(job, event, stamp)
        return job

    def rehear(self) -> None:
        """Let a new judge hear what is left."""
        self.judge = Judge()
        for stamp, event in self.log:
            self.judge.hear(event, *stamp)
        for pending in self.pending:
            for number, event in enumerate(pending.turn.events):
                self.judge.hear(event, pending.turn.start + number + 1, self.epoch, pending.turn.now)

    def lease_begins(self, job_id: str) -> None:
        """A lease has its full time from now, and is renewed until the job's own time is over."""
        limit, token = self.judge.jobs[job_id].asked.timeout_ms, str(self.judge.jobs[job_id].token)
        self.floors[token] = self.now + LEASE
        self.limits[token] = self.now + (10**12 if limit is None else max(LEASE, limit + OVERTIME))

    # What must follow from a turn, whatever was asked.

    def perform(self, command: cmd.Command, refusal: type[SkyclawError] | None = None) -> Any:
        """The answer if it is the command's own: None when it was refused, as it must be, or when the request was answered before."""
        keyed = command.keyed
        before = self.judge.keys.get((keyed.scope, keyed.key)) if keyed else None
        if before is not None and keyed is not None and before[0] != keyed.digest:
            refusal = NotOwner if getattr(command, "token", None) == LATER else IdempotencyConflict
        ticket = Ticket()
        answer = self.take_in(self.queue.ask(ticket, command, self.now), ticket)
        if before is not None and keyed is not None and before[0] == keyed.digest:
            assert answer == ans.Repeated(before[1], before[2])
            return None
        if refusal is not None:
            assert type(answer) is refusal, f"{answer!r} instead of {refusal.__name__}"
            return None
        assert not isinstance(answer, SkyclawError), repr(answer)
        return answer

    def take_in(self, turns: Turns, ticket: Ticket, settled: bool = True) -> Any:
        """Hear the events, check the answers, and return the one for the ticket."""
        turn = turns.of(self.queue.books.home)
        assert not turns.joint
        assert all(isinstance(answer, NotOwner) for _, answer in turns.free), "where one log is owned, every answer waits for it"
        assert turn.start == self.judge.end
        self.pending.append(Pending(turn, dict(self.quarantine)))
        for number, event in enumerate(turn.events):
            self.soft_state_allows(event)
            self.judge.hear(event, turn.start + number + 1, self.epoch, turn.now)
            self.soft_state_follows(event)
        mine: Any = PARKED
        for whose, answer in turns.answers:
            assert isinstance(whose, Ticket)
            assert whose is ticket or whose in self.waiting, "nobody else waits"
            assert whose not in self.answered, "one ticket, one answer"
            self.answered.add(whose)
            self.waiting.pop(whose, None)
            self.check(answer)
            mine = answer if whose is ticket else mine
        if isinstance(mine, SkyclawError):
            assert not turn.events, "a refusal has no effect"
        elif settled and not self.disturbed:
            self.nobody_waits_in_vain(but=self.quarantine)
        return mine

    def soft_state_allows(self, event: ev.Event) -> None:
        """What is not in the log has a say, too."""
        match event:
            case ev.JobLeased(host_id=host_id):
                assert self.quarantine.get(host_id, 0) <= self.now
            case ev.JobLeaseExpired(job_id=job_id):
                assert self.floors[str(self.judge.jobs[job_id].token)] <= self.now, "a lease ended before its time"
            case ev.HostForgotten(host_id=host_id):
                assert self.now - self.seen[host_id] > SILENCE
            case ev.InstancePlaced(host_id=host_id):
                assert self.quarantine.get(host_id, 0) <= self.now
                assert self.now - max(self.seen[host_id], self.state.hosts[host_id].updated_at) <= ONLINE
            case ev.InstanceEnded(instance_id=instance_id, reason="lost" | "unclaimed", error=error) if error != "its host ended it":
                assert self.now - self.renewed[instance_id] >= SERVICE_LEASE, "an instance was given up before its time"

    def soft_state_follows(self, event: ev.Event) -> None:
        """And changes with the events."""
        match event:
            case ev.JobLeased(job_id=job_id):
                self.lease_begins(job_id)
                self.tokens.append(str(self.judge.jobs[job_id].token))
            case ev.InstancePlaced(instance_id=instance_id):
                self.renewed[instance_id] = self.now
            case ev.HostForgotten(host_id=host_id):
                self.quarantine.pop(host_id, None)
            case ev.JobLeaseExpired(host_id=host_id) if host_id in self.judge.hosts and self.judge.hosts[host_id].losses >= 5:
                self.quarantine[host_id] = self.now + QUARANTINE

    def check(self, answer: object) -> None:
        """An answer shows nothing that the events do not say."""
        match answer:
            case ans.JobSeen(job=job, lease_end=end):
                assert looks(job) == self.judge.history[job.id][job.version]
                assert end is None or end <= self.now + LEASE
            case ans.JobsSeen(jobs=seen) | ans.Claimed(jobs=seen):
                for one in seen:
                    self.check(one)
            case ans.Elsewhere(job_id=job_id):
                assert job_id not in self.judge.jobs or self.judge.jobs[job_id].finished
            case ans.Repeated(subjects=subjects, seq=seq):
                assert (subjects, seq) in {entry[1:3] for entry in self.judge.keys.values()}
            case ans.HostSeen(host=host, mode=mode):
                facts = self.judge.hosts[host.id]
                assert (host.capabilities, host.max_parallel, host.mode) == (facts.capabilities, facts.room, facts.mode)
                assert (host.version, mode) == (facts.changes, self.mode_of(host.id))
            case ans.HeartbeatSeen(host=seen):
                self.check(seen)
            case ans.ServiceSeen(service=service) | ans.ServiceExplained(service=service):
                facts = self.judge.services.get(service.id)
                assert (service.removed, service.instances) == (True, ()) if facts is None else service.version == facts.changes

    def mode_of(self, host_id: str) -> str:
        """What a host is shown to be."""
        mode = self.judge.hosts[host_id].mode
        return "quarantined" if mode == "active" and self.quarantine.get(host_id, 0) > self.now else mode

    def nobody_waits_in_vain(self, but: dict[str, int]) -> None:
        """No claim is parked while there is a job for it, no watcher while the job has ended."""
        for what, whom in self.waiting.values():
            if what == "claim" and whom in self.judge.hosts and whom not in but and self.mode_of(whom) == "active":
                assert self.judge.room(whom) <= 0 or not self.judge.best(whom, self.now, 1)
            elif what == "watch" and whom in self.judge.jobs:
                assert not self.judge.jobs[whom].finished

    # What must be so at any time.

    def memory_agrees_with_the_events(self) -> None:
        """Every job is there, as the judge knows it, and counted."""
        state, judge = self.state, self.judge
        assert state.end == judge.end
        assert {job_id for job_id, job in judge.jobs.items() if not job.finished} == set(state.jobs)
        for job_id, facts in judge.jobs.items():
            job = state.find(job_id) or self.from_all_events(job_id)
            assert job is not None, "a job is lost"
            assert (looks(job), job.version) == (facts.looks, facts.changes)
        assert state.queued == sum(job.status == "queued" for job in judge.jobs.values())
        holders = {str(job.host) for job in judge.jobs.values() if job.status == "leased"}
        assert state.held == {host_id: set(judge.held(host_id)) for host_id in holders}
        assert all(judge.jobs[job_id].finished for job_id in state.recent)
        assert len(state.recent) <= RECENT

    def from_all_events(self, job_id: str) -> Job | None:
        """A job that memory let go, whether its end is committed or not."""
        job = self.archived(job_id)
        for pending in self.pending:
            for number, event in enumerate(pending.turn.events):
                if getattr(event, "job_id", None) == job_id:
                    job = jobs.evolve(job, event, Stamp(pending.turn.start + number + 1, self.epoch, pending.turn.now))
        return job

    def hosts_and_keys_agree_with_the_events(self) -> None:
        """So is every host, and every idempotency key."""
        assert {
            host.id: (host.capabilities, host.max_parallel, host.mode, host.version, host.losses_in_a_row)
            for host in self.state.hosts.values()
        } == {
            host_id: (facts.capabilities, facts.room, facts.mode, facts.changes, facts.losses)
            for host_id, facts in self.judge.hosts.items()
        }
        assert {name: (entry.digest, entry.subjects, entry.seq, entry.at) for name, entry in self.state.keys} == self.judge.keys

    def every_lease_in_force_has_an_end_and_nothing_else_has(self) -> None:
        """Between the earliest that was promised and a full lease from now."""
        leased = {job_id: str(job.token) for job_id, job in self.judge.jobs.items() if job.status == "leased"}
        deadlines = self.queue.books.home.deadlines
        assert len(deadlines) == len(leased)
        assert all(self.floors[token] <= (deadlines.end_of(job_id) or 0) <= self.now + LEASE for job_id, token in leased.items())

    def those_who_wait_have_a_place_each(self) -> None:
        """And there are not too many of them."""
        assert len(self.queue.parking) == len(self.waiting) <= self.places

    def check_all(self) -> None:
        """All of this."""
        self.memory_agrees_with_the_events()
        self.hosts_and_keys_agree_with_the_events()
        self.every_lease_in_force_has_an_end_and_nothing_else_has()
        self.those_who_wait_have_a_place_each()
