"""What clients and hosts may ask of a queue, and what time, disks and power may do to it; each deed knows what must follow."""

from collections import Counter
from typing import Any

from skyclaw import answers as ans
from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.errors import (
    AlreadyFinished,
    NotFinished,
    NotLeased,
    NotOwner,
    QueueFull,
    Refused,
    SkyclawError,
    StaleAttempt,
    Unavailable,
    UnknownHost,
    UnknownJob,
)
from skyclaw.scheduling.jobs import Stamp
from skyclaw.scheduling.snapshots import Picture, restore
from skyclaw.scheduling.state import State
from tests.scheduling.judge import KEY_TTL, SILENCE, Facts, looks
from tests.scheduling.life import LATER, LEASE, MAX_QUEUED, PARKED, SERVICE_LEASE, Life, Ticket
from tests.scheduling.making import asked, outcome
from tests.scheduling.observing import observed

UNLISTED, PURGE = 10_000, 60_000
Refusal = type[SkyclawError] | None
Key = tuple[str, str] | None


class Deeds(Life):
    """Arguments are small numbers and words, so that they can be drawn at random; who and what they mean depends on what there is."""

    def begin(self, offered: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
        """Some hosts, and some work."""
        for number, host in enumerate(offered):
            self.register(f"h{number + 1}", host["names"], host["room"], 0, None, host["takes"])
        if wanted:
            self.enqueue(wanted, None)
        self.commit(len(self.pending))

    # Who and what.

    def some_job(self, index: int, status: str | None = None) -> str:
        """Mostly one that there is, every other time one in this status, if there is any."""
        known = list(self.judge.jobs)
        if status is not None and index % 2:
            known = [job_id for job_id in known if self.judge.jobs[job_id].status == status] or known
        return known[-1 - index // 2 % len(known)] if known and index < 96 else "nobody's"

    def some_host(self, number: int) -> str:
        """Nearly always one that there is."""
        known = sorted(self.judge.hosts)
        return known[number % len(known)] if known and number < 9 else "h3"

    def likely_host(self, job_id: str, number: int, which: int) -> str:
        """Mostly the one that holds the job, or held it last."""
        facts = self.judge.jobs.get(job_id)
        return facts.host if facts is not None and facts.host is not None and which > 1 else self.some_host(number)

    def some_token(self, job_id: str, which: int, index: int) -> str | None:
        """Mostly the right one; or none; or any."""
        facts = self.judge.jobs.get(job_id)
        if which == 0 or facts is None:
            return None
        return self.tokens[-1 - index % len(self.tokens)] if which == 1 else facts.token or facts.last_token

    def keyed(self, key: Key, scope: str) -> cmd.Keyed | None:
        """An idempotency key, or none."""
        return cmd.Keyed(scope, *key) if key else None

    def hidden(self, job_id: str) -> bool:
        """Has the job ended, is that not committed, and has memory let it go already?"""
        facts = self.judge.jobs.get(job_id)
        return facts is not None and facts.finished and job_id not in self.state.recent and self.judge.endings[job_id] > self.committed

    def too_early(self, job_id: str) -> bool:
        """A lease that is not committed is known to no host."""
        facts = self.judge.jobs.get(job_id)
        return facts is not None and facts.last_token is not None and int(facts.last_token.rpartition("/")[2]) > self.committed

    def ask_about(self, job_id: str, command: cmd.Command, refusal: Refusal) -> Any:
        """A job whose end is only being written, and which memory let go, must be refused for that."""
        if self.hidden(job_id) and refusal is not UnknownHost:
            known = self.archived(job_id)
            if known is not None and known.finished:
                return None  # the archive knows an earlier end; all since then would have to be in one commit, with a thousand other ends
            refusal = Unavailable if known is not None else refusal if refusal is NotOwner else UnknownJob
        return self.perform(command, refusal)

    def new(self, kind: type[ev.Event]) -> list[Any]:
        """The events of this kind in the latest turn."""
        return [event for event in self.pending[-1].turn.events if isinstance(event, kind)]

    # What clients do.

    def enqueue(self, wanted: list[dict[str, Any]], key: Key) -> None:
        """Hand in jobs; a single one carries its key itself."""
        keyed = self.keyed(key, "/v1/jobs")
        identity = {"scope": keyed.scope, "key": keyed.key, "digest": keyed.digest} if keyed and len(wanted) == 1 else {}
        new = []
        for wish in wanted:
            self.counter += 1
            not_before = 0 if wish["delay"] is None else self.now + wish["delay"]
            fields = {name: value for name, value in wish.items() if name != "delay"}
            new.append(asked(f"j{self.counter}", not_before=not_before, **fields, **identity))
        queued = sum(job.status == "queued" for job in self.judge.jobs.values())
        answer = self.perform(cmd.Enqueue(tuple(new), keyed=keyed), QueueFull if queued + len(new) > MAX_QUEUED else None)
        assert answer is None or [seen.job.asked for seen in answer.jobs] == new

    def cancel(self, index: int, key: Key) -> None:
        """Stop a job."""
        job_id = self.some_job(index)
        facts = self.judge.jobs.get(job_id)
        refusal = UnknownJob if facts is None else AlreadyFinished if facts.finished else None
        self.ask_about(job_id, cmd.Cancel(job_id, keyed=self.keyed(key, f"/v1/jobs/{job_id}/cancel")), refusal)

    def retry(self, index: int, key: Key) -> None:
        """Queue a finished job again."""
        job_id = self.some_job(index)
        facts = self.judge.jobs.get(job_id)
        refusal: Refusal = UnknownJob
        if facts is not None:
            refusal = NotFinished if not facts.finished else Refused if facts.status == "completed" else None
        self.ask_about(job_id, cmd.Retry(job_id, keyed=self.keyed(key, f"/v1/jobs/{job_id}/retry")), refusal)

    def watch(self, index: int) -> None:
        """Wait for a job's end."""
        job_id, ticket = self.some_job(index), Ticket()
        live, full = job_id in self.state.jobs, len(self.waiting) >= self.places
        if live and not full:
            self.waiting[ticket] = "watch", job_id
        answer = self.take_in(self.queue.ask(ticket, cmd.FindJob(job_id, park=True), self.now), ticket)
        if not live:
            assert isinstance(answer, ans.Elsewhere)
            assert (answer.job_id, answer.until) == (job_id, self.pending[-1].turn.start)
        elif full:
            assert answer.parked is False
        else:
            assert answer is PARKED

    def give_up(self, index: int) -> None:
        """Wait no longer; whoever was answered already is not answered again."""
        tickets = [*self.waiting, *self.answered]
        if tickets:
            ticket = tickets[index % len(tickets)]
            waited = ticket in self.waiting
            turns = self.queue.give_up(ticket, self.now)
            assert [whose for whose, _ in turns.answers] == [ticket] * waited
            assert not any(turn.events for turn in turns)
            self.take_in(turns, ticket, settled=False)

    def explain(self, index: int) -> None:
        """Ask why a job waits."""
        job_id = self.some_job(index)
        now = {host_id: self.mode_of(host_id) == "active" and self.judge.room(host_id) > 0 for host_id in self.judge.hosts}
        answer = self.ask_about(job_id, cmd.Explain(job_id), None if job_id in self.judge.jobs else UnknownJob)
        if answer is not None:
            assert looks(answer.job) == self.judge.history[job_id][answer.job.version]
            assert answer.reasons
            assert [fit.host_id for fit in answer.hosts] == ([] if answer.job.finished else list(self.state.hosts))
            assert all(now[fit.host_id] for fit in answer.hosts if fit.can)

    def survey(self) -> None:
        """Look at everything."""
        statuses = Counter(job.status for job in self.judge.jobs.values())
        answer = self.perform(cmd.Survey())
        for seen in answer.see(answer.live):
            self.check(seen)
            able = any(host.capabilities.issuperset(seen.job.asked.required) for host in self.judge.hosts.values())
            assert seen.unschedulable is (seen.job.status == "queued" and not able)
        assert (answer.queued, answer.leased) == (statuses["queued"], statuses["leased"])
        assert len(answer.live) == answer.queued + answer.leased
        assert {seen.host.id for seen in answer.hosts} == set(self.judge.hosts)
        assert [seen.host.id for seen in self.perform(cmd.ListHosts()).hosts] == [seen.host.id for seen in answer.hosts]

    # What hosts do.

    def register(self, host_id: str, offered: tuple[str, ...], room: int, listed: int, key: Key, takes: str | None) -> None:
        """Begin a life, keeping some leases of the former one."""
        held = self.judge.held(host_id)
        kept = [job_id for number, job_id in enumerate(held) if listed >> number & 1]
        leases = tuple(cmd.HeldLease(job_id, str(self.judge.jobs[job_id].token)) for job_id in kept)
        labels = (("services", takes),) if takes is not None else ()
        command = cmd.Register(host_id, host_id, offered, room, labels, leases, keyed=self.keyed(key, "/v1/hosts/register"))
        if self.perform(command) is not None:
            self.seen[host_id] = self.now
            assert {event.job_id for event in self.new(ev.JobReleased) if event.lost} == set(held) - set(kept)
            assert ("claim", host_id) not in self.waiting.values()

    def claim(self, number: int, limit: int, claim_id: str | None, park: bool, key: Key) -> None:
        """Ask for work."""
        host_id = self.some_host(number)
        host = self.judge.hosts.get(host_id)
        park = park and (host is None or host.since <= self.committed)  # it waits only once it knows that it is registered
        keyed = self.keyed(key, f"/v1/hosts/{host_id}/claim") if not park else None
        command = cmd.Claim(host_id, limit, claim_id, park, keyed=keyed)
        if host is None:
            self.perform(command, UnknownHost)
            return
        expected, reason = self.due(host_id, limit, claim_id)
        waits = park and not expected and reason in (None, "full")
        if waits and sum(waited != ("claim", host_id) for waited in self.waiting.values()) < self.places:
            ticket = Ticket()
            turns = self.queue.ask(ticket, command, self.now)
            self.waiting[ticket] = "claim", host_id
            answer = self.take_in(turns, ticket)
            assert answer is PARKED
        else:
            answer = self.perform(command)
            if answer is not None:
                assert ([seen.job.id for seen in answer.jobs], answer.reason, answer.crowded) == (expected, reason, waits)
        if answer is not None:
            self.seen[host_id] = self.now

    def due(self, host_id: str, limit: int, claim_id: str | None) -> tuple[list[str], str | None]:
        """What the host must get, or why it gets nothing."""
        known = self.judge.jobs
        same = [job_id for job_id in self.judge.held(host_id) if claim_id is not None and known[job_id].claim == claim_id]
        if same:
            return sorted(same, key=lambda job_id: (-known[job_id].asked.priority, known[job_id].position)), None
        if self.mode_of(host_id) != "active":
            return [], self.mode_of(host_id)
        room = self.judge.room(host_id)
        return self.judge.best(host_id, self.now, min(limit, room)), "full" if room <= 0 else None

    def work(self, number: int, ends: list[dict[str, Any]]) -> None:
        """Take jobs and, once it is certain whose they are, report on most of them."""
        self.claim(number, len(ends), None, False, None)
        self.commit(len(self.pending))
        for end, job_id in zip(ends, self.judge.held(self.some_host(number)), strict=False):
            if end["end"] != "silence":
                place = 2 * list(reversed(self.judge.jobs)).index(job_id)
                self.report(number, {"index": place, "which": max(end["which"], 2), "success": end["end"] == "success"}, None)

    def heartbeat(self, number: int, style: str, key: Key) -> None:
        """Live, listing all leases, or none, or the wrong ones, or without a list."""
        host_id, known = self.some_host(number), self.judge.jobs
        mine = {cmd.HeldLease(job_id, str(known[job_id].token)) for job_id in self.judge.held(host_id)}
        strange = {cmd.HeldLease(job_id, str(job.last_token)) for job_id, job in known.items()} - mine
        strange |= {cmd.HeldLease("?", "?")} | {cmd.HeldLease(held.job_id, "old") for held in mine}
        some = set(sorted(mine, key=str)[::2]) | strange
        listed = {"without a list": None, "all": mine, "none": set(), "some and strange ones": some}[style]
        old = {held for held in mine if self.now - known[held.job_id].leased_at > UNLISTED}
        hidden = {job_id for job_id in known if self.hidden(job_id)}
        command = cmd.Heartbeat(host_id, None if listed is None else tuple(listed), keyed=self.keyed(key, f"/v1/hosts/{host_id}/heartbeat"))
        answer = self.perform(command, None if host_id in self.judge.hosts else UnknownHost)
        if answer is None:
            return
        self.seen[host_id] = self.now
        renewed = mine if listed is None else mine & listed
        for held in renewed:
            self.floors[held.token] = min(self.now + LEASE, self.limits[held.token])
        assert {event.job_id for event in self.new(ev.JobReleased)} == {held.job_id for held in old - renewed}
        gone = {held.job_id for held in listed or ()} - {held.job_id for held in renewed}
        cancelled = {job_id for job_id in gone if job_id in known and known[job_id].status == "cancelled"}
        assert sorted(answer.cancelled + answer.lost) == sorted(gone)
        assert set(answer.cancelled) - hidden == (cancelled & set(self.queue.books.home.state.recent)) - hidden

    def report(self, number: int, told: dict[str, Any], key: Key) -> None:
        """Say how an attempt ended, whether it is in force or not."""
        job_id = self.some_job(told["index"], "leased")
        host_id = self.likely_host(job_id, number, told["which"])
        if self.too_early(job_id):
            return
        token = self.some_token(job_id, told["which"], told["index"])
        verdict = self.verdict(job_id, host_id, token)
        keyed = self.keyed(key, f"/v1/jobs/{job_id}/complete")
        command = cmd.Report(job_id, host_id, token, outcome(told["success"]), keyed=keyed)
        answer = self.ask_about(job_id, command, None if verdict == "duplicate" else verdict)
        ended = self.new(ev.JobCompleted if told["success"] else ev.JobFailed)
        if answer is not None and verdict == "duplicate":
            assert answer.duplicate
            assert not ended
        elif answer is not None:
            assert [event.job_id for event in ended] == [job_id]

    def verdict(self, job_id: str, host_id: str, token: str | None) -> Any:
        """What must become of a report: a refusal, "duplicate", or None when it is to be accepted."""
        if host_id not in self.judge.hosts:
            return UnknownHost
        if job_id not in self.judge.jobs:
            return NotOwner if token == LATER else UnknownJob
        facts: Facts = self.judge.jobs[job_id]
        verdict = self.verdict_of_the_owner(facts, host_id, token)
        refused = verdict is not None and verdict != "duplicate"
        return NotOwner if refused and token == LATER else verdict

    def verdict_of_the_owner(self, facts: Facts, host_id: str, token: str | None) -> Any:
        """The same where nobody owns the log by now who knows of later leases."""
        if facts.status in ("completed", "failed") and facts.host == host_id and token in (None, facts.last_token):
            return "duplicate"
        if facts.token is None:
            return NotLeased if facts.host in (None, host_id) else StaleAttempt
        return None if facts.host == host_id and token in (None, facts.token) else StaleAttempt

    def report_all(self, number: int, several: list[dict[str, Any]]) -> None:
        """Say how several attempts ended; each is judged by itself."""
        host_id = self.some_host(number)
        chosen: list[cmd.Report] = []
        for told in several:
            job_id = self.some_job(told["index"], "leased")
            if not self.hidden(job_id) and not self.too_early(job_id) and job_id not in [one.job_id for one in chosen]:
                token = self.some_token(job_id, told["which"], told["index"])
                chosen.append(cmd.Report(job_id, host_id, token, outcome(told["success"])))
        verdicts = [self.verdict(one.job_id, host_id, one.token) for one in chosen]
        statuses = {job_id: job.status for job_id, job in self.judge.jobs.items()}
        refusal = None if host_id in self.judge.hosts else UnknownHost
        answer = self.perform(cmd.ReportAll(host_id, tuple(chosen)), refusal)
        for one, verdict, result in zip(chosen, verdicts, answer.results if answer is not None else (), strict=answer is not None):
            if result[1] in ("unavailable", "unknown_job", "not_owner") and self.hidden(one.job_id):
                continue  # an end before it in this very list made memory let its own go
            if verdict == "duplicate":
                assert result == (one.job_id, statuses[one.job_id])
            elif verdict is not None:
                assert result[:2] == (one.job_id, verdict.code)
            else:
                assert result[0] == one.job_id
                assert result[1] == "completed" if one.outcome.success else result[1] in ("failed", "queued")

    def release(self, number: int, index: int, which: int, key: Key) -> None:
        """Give a job back."""
        job_id = self.some_job(index, "leased")
        host_id = self.likely_host(job_id, number, which)
        if self.too_early(job_id):
            return
        token = self.some_token(job_id, which, index)
        verdict = self.verdict(job_id, host_id, token)
        command = cmd.Release(job_id, host_id, token, "leaving", keyed=self.keyed(key, f"/v1/jobs/{job_id}/release"))
        self.ask_about(job_id, command, NotLeased if verdict == "duplicate" else verdict)

    def change_mode(self, number: int, mode: str, key: Key) -> None:
        """Let a host take work, or not."""
        host_id = self.some_host(number)
        refusal = None if host_id in self.judge.hosts else UnknownHost
        before = self.quarantine.pop(host_id, None) if mode == "active" else None
        command = cmd.ChangeMode(host_id, mode, keyed=self.keyed(key, f"/v1/hosts/{host_id}/{mode}"))
        answer = self.perform(command, refusal)
        if before is not None:
            self.pending[-1].quarantine[host_id] = before
            if answer is None:
                self.quarantine[host_id] = before

    # What time, disks and power do.

    def pass_time(self, ms: int) -> None:
        """The clock goes on."""
        self.now += ms

    def reap(self, ms: int) -> None:
        """And is looked at."""
        self.now += ms
        self.disturbed = False
        answer = self.perform(cmd.Reap())
        self.nobody_waits_in_vain(but={})
        for job_id in [job_id for job_id, job in self.judge.jobs.items() if job.status == "leased"]:
            assert (self.queue.books.home.deadlines.end_of(job_id) or 0) > self.now
        assert answer.expired == len(self.new(ev.JobLeaseExpired))
        busy = {host_id for host_id in self.judge.hosts if self.judge.held(host_id) or self.judge.instances_of(host_id)}
        assert all(self.now - self.seen[host_id] <= SILENCE for host_id in self.judge.hosts if host_id not in busy)
        assert all(self.now - at < SERVICE_LEASE for at in self.queue.books.home.renewed.values())
        assert answer.lost >= sum(event.reason in ("lost", "unclaimed") for event in self.new(ev.InstanceEnded))
        assert all(entry[3] >= self.now - KEY_TTL - PURGE for entry in self.judge.keys.values())

    def commit(self, number: int) -> None:
        """The oldest turns are stored."""
        for _ in range(min(number, len(self.pending))):
            turn = self.pending.pop(0).turn
            for place, event in enumerate(turn.events):
                self.keep(event, Stamp(turn.start + place + 1, self.epoch, turn.now))

    def fail_to_commit(self, number: int) -> None:
        """The latest turns are not."""
        for _ in range(min(number, len(self.pending))):
            pending = self.pending.pop()
            pending.turn.take_back()
            self.quarantine = pending.quarantine
            self.disturbed = True
        self.rehear()

    def send_home(self) -> None:
        """The process prepares for its end: whoever waits is answered, and nobody waits any more."""
        waiting, self.places = len(self.waiting), 0
        assert self.perform(cmd.StopParking()) == ans.Dismissed(waiting)
        assert not self.waiting

    def take_picture(self) -> None:
        """A snapshot is written."""
        self.commit(len(self.pending))
        self.pictures.append((list(Picture(self.state).parts()), self.state.end))

    def crash(self, number: int, which: int) -> None:
        """What was not stored, and all soft state, is lost; what is read back is what was in memory."""
        self.commit(number)
        for pending in reversed(self.pending):
            pending.turn.take_back()
        old = observed(self.state)
        assert old == observed(self.rebuilt(0))
        assert old == observed(self.rebuilt(which))
        self.own(self.rebuilt(which))

    def rebuilt(self, which: int) -> State:
        """The fold of the log, from one of the pictures on."""
        parts, end = self.pictures[which % len(self.pictures)]
        state = restore(parts, end) if end else State()
        for stamp, event in self.log:
            if stamp.seq > end:
                state.apply(event, stamp)
        return state
