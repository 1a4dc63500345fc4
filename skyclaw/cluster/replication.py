"""The protocol by which the copies of a log stay one log. A `Node` does no I/O: messages, times and proposals go in, effects come out.

The rules (names as in Raft where they are the same; Howard's flexible quorums; a network of many small groups instead of one):

 1. Persist before send. What a call makes durable (promises, records) is on the disk before any of its messages leaves. Messages to
    oneself are sent in the same way: the own copy counts once it is durable.
 2. A log has voters and a number of copies k, both in the log. Committed is what k voters have. Whoever takes the log over needs the
    grants of V-k+1 voters, so that one of them has every committed record.
 3. Epochs carry the node's id, so that no two nodes ever share one, and (epoch, position) names one record for ever.
 4. A node obeys no epoch below its promise. Whatever it learns of a higher one (Append, Grant given, committed news) is its promise.
 5. Copies that agree on the epoch at a position agree on all before it. A follower takes records behind such a position only; it drops
    records of its own at the first real conflict, never at a mere repetition, and never committed ones (but see 10).
 6. The owner counts copies of records of its own epoch; older ones are committed underneath. It writes OwnershipTaken first thing.
 7. Who has not heard from the owner for a while asks the voters whether they would let it take over (which binds nobody), and
    campaigns only when enough of them would: a flapping node never disturbs a working owner. Every node that any configuration of its
    log names may campaign, also one that is being removed, because it may be the only one that has all records.
 8. A grant is given only to a copy at least as complete, as (epoch, position).
 9. Voters change in two steps: old and new together, then the new alone, each once the one before is committed in its own epoch.
10. An operator may force a log that has lost its voters: the generation in the epoch goes up, and only such an epoch overwrites
    committed records. What is lost that way is reported as orphans. Whoever hears of a higher generation promises it at once, and
    neither campaigns nor passes records on before its own copy has come up to it.
11. An owner that has lost contact with its voters for long owns no more: nothing can be committed, and what is committed can be read.
12. An owner asks a level voter to campaign when it wants to let go, and takes no more proposals until that has succeeded or failed.

Leases, hosts and answers are not known here. Times are whole milliseconds of any clock that does not run backwards.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from skyclaw.cluster.configuration import (
    Configuration,
    Configurations,
    as_event,
    copies_of,
    enough_copies,
    enough_grants,
    founding,
    voters_of,
)
from skyclaw.cluster.messages import Ack, Append, Ask, Campaign, Grant, Message, News, Pull, Pulled
from skyclaw.cluster.replica import Broken, Ownership, Past, Replica, Restored
from skyclaw.codec import CODEC
from skyclaw.errors import LostContact, NotOwner, TooFewCopies
from skyclaw.events import Event, OwnershipTaken, stream_of
from skyclaw.records import GENESIS_EPOCH, GENESIS_HASH, Epoch, Record, sealed

FOLLOWER, CANDIDATE, OWNER = "follower", "candidate", "owner"


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in ms, and how much goes into one message."""

    heartbeat_ms: int = 1000
    suspect_ms: int = 3500  # silence after which an owner is doubted; up to twice that before somebody acts
    fresh_ms: int = 3500  # a voter heard of within this time counts as in contact
    batch_records: int = 500
    batch_characters: int = 1024 * 1024
    window_records: int = 4000  # sent to a voter and not acknowledged


class Written(NamedTuple):
    """Everything of a log from position `start` on is replaced by these records."""

    start: int
    records: list[Record]


class Gained(NamedTuple):
    """This node owns the log: everything up to `end` is now its own to commit."""

    log: str
    epoch: Epoch
    committed: int
    end: int


class Orphans(NamedTuple):
    """Records of a log that a forced takeover replaced, the first and the last position. They may have been committed."""

    log: str
    first: int
    last: int


@dataclass(slots=True)
class Effects:
    """What must happen: first the promises and writes, in one durable transaction, then all the rest."""

    promises: dict[str, Epoch] = field(default_factory=dict)
    writes: dict[str, Written] = field(default_factory=dict)
    sends: list[tuple[str, Message]] = field(default_factory=list)
    committed: dict[str, int] = field(default_factory=dict)
    gained: list[Gained] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)  # logs, and up to where they were known to be committed just then; before `gained`
    orphans: list[Orphans] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)  # commit positions that these effects change, as they were


@dataclass(slots=True)
class Seat:
    """A node's place in a log: its copy, its role, and who let it take over."""

    replica: Replica
    role: str = FOLLOWER
    heard: float = float("-inf")  # when the owner was last heard of
    timer: float | None = None  # when to doubt the owner
    polls: set[str] = field(default_factory=set)  # who would let me take over
    votes: set[str] = field(default_factory=set)  # who does
    reason: str = "takeover"
    eager: bool = False  # it owned the log last, and nobody is known to have taken it over
    owned: Ownership | None = None


class Node:
    """This node's seats in all logs. After any calls, `effects` says what must happen."""

    def __init__(
        self,
        name: str,
        copies: Iterable[Restored],
        past: Past,
        pace: Pace,
        draw: Callable[[], float],
        min_copies: int = 1,
    ) -> None:
        self.name, self.pace, self.min_copies = name, pace, min_copies
        self._past, self._draw = past, draw
        self._seats = {one.log: Seat(Replica(one, past)) for one in copies}
        self._effects = Effects()
        self._unsent: dict[str, Seat] = {}  # own logs with records that nobody was sent yet
        self._now = 0

    # What the driver asks

    @property
    def logs(self) -> Sequence[str]:
        """All logs of which this node has a copy."""
        return list(self._seats)

    def replica(self, log: str) -> Replica:
        """This node's copy of a log."""
        return self._seat(log).replica

    def owns(self, log: str) -> bool:
        """Is this node the owner of the log, as far as it knows?"""
        return log in self._seats and self._seats[log].role == OWNER

    def ownership(self, log: str) -> Ownership | None:
        """What it knows as the owner."""
        return self._seats[log].owned if log in self._seats else None

    def epoch(self, log: str) -> str:
        """The epoch under which it owns the log; empty when it does not."""
        owned = self.ownership(log)
        return str(owned.epoch) if owned is not None else ""

    def in_contact(self, log: str, now: int) -> bool:
        """Are enough voters near for a write?"""
        return self._in_contact(self._seats[log], now)

    def pull(self, now: int) -> Pull:
        """What to ask any other node for."""
        return Pull(tuple(seat.replica.copy()._replace(fed=self._is_fed(seat, now)) for seat in self._seats.values()))

    def effects(self) -> Effects:
        """Everything that must happen because of the calls so far; what the former effects wrote counts as durable."""
        for log, written in self._effects.writes.items():
            self._seats[log].replica.trim(written.start - 1)
        for seat in self._unsent.values():
            self._ship(seat)
        self._unsent.clear()
        effects, self._effects = self._effects, Effects()
        for log in effects.writes:
            seat = self._seats[log]
            if seat.owned is not None:
                r = seat.replica
                effects.sends.append((self.name, Ack(log, seat.owned.epoch, True, r.end, r.promised)))
        return effects

    def undo(self, effects: Effects, durable: Iterable[Restored]) -> None:
        """The transaction of these effects failed: the copies it concerned go back to what is durable, the messages are lost.

        What was lost stays lost, and nothing was gained. What is still known to be committed is told by the next effects.
        """
        self._effects, self._unsent = Effects(), {}
        for one in durable:
            seat, written = self._seats[one.log], effects.writes.get(one.log)
            if any(orphans.log == one.log for orphans in effects.orphans):
                seat.replica.commit = effects.before[one.log]
            elif written is not None:
                seat.replica.commit = min(seat.replica.commit, written.start - 1)
            seat.replica.restore(one)
            gained = any(gain.log == one.log for gain in effects.gained)
            if gained or seat.replica.owner > seat.replica.promised:
                seat.replica.owner = seat.replica.last[0]  # who vouches for an epoch has promised it
            if seat.owned is not None and seat.owned.epoch == one.promised and not gained:
                for follower in seat.owned.followers.values():
                    follower.next = min(follower.next, follower.match + 1)
            else:
                seat.role, seat.owned = FOLLOWER, None
        for log in effects.committed:
            if (commit := self._seats[log].replica.commit) > effects.before[log]:
                self._effects.committed[log] = commit
                self._effects.before[log] = effects.before[log]

    # What happens

    def found(self, log: str, now: int) -> None:
        """Begin an own log that has no records."""
        self._now = now
        seat = self._seat(log)
        self._write(seat, [self._record(seat, GENESIS_EPOCH, as_event(founding(self.name)))])

    def propose(self, log: str, epoch: str, records: Sequence[Record], now: int) -> None:
        """Append sealed records to an own log. Raises NotOwner, TooFewCopies, LostContact: then nothing was written."""
        self._now = now
        seat = self._seats.get(log)
        if seat is None or seat.owned is None or str(seat.owned.epoch) != epoch:
            raise NotOwner(log)
        if copies_of(seat.replica.configuration) < self.min_copies:
            raise TooFewCopies
        if seat.owned.yields_to is not None or not self._in_contact(seat, now):
            raise LostContact
        if records[0].seq != seat.replica.end + 1:
            raise ValueError(f"log {log} ends at {seat.replica.end}: no record {records[0].seq} can follow")
        self._write(seat, records)

    def reconfigure(self, log: str, wanted: Configuration, now: int) -> bool:
        """Begin to change the voters of an own log (rule 9). Returns False when it is not the moment; asking again does no harm."""
        self._now = now
        seat = self._seats.get(log)
        if seat is None or seat.owned is None or seat.owned.yields_to is not None or not self._in_contact(seat, now):
            return False
        r = seat.replica
        one_alone = r.settled and len(r.configuration) == 1 and r.epoch_at(r.commit) == seat.owned.epoch
        if not one_alone or not 1 <= wanted.copies <= len(wanted.voters) or r.configuration[0] == wanted:
            return False
        self._append(seat, as_event((r.configuration[0], wanted)))
        return True

    def transfer(self, log: str, to: str, now: int) -> None:
        """Let go of an own log: `to` shall take it over as soon as it is level (rule 12)."""
        self._now = now
        seat = self._seats.get(log)
        if seat is not None and seat.owned is not None and to != self.name and to in voters_of(seat.replica.configuration):
            seat.owned.yields_to, seat.owned.yields_until = to, now + self.pace.suspect_ms
            self._invite(seat)

    def force(self, log: str, wanted: Configuration, operator: str, now: int) -> None:
        """Own the log from now on with these voters, whatever the former ones say (rule 10)."""
        self._now = now
        seat = self._seat(log)
        r = seat.replica
        generation = max(r.promised, r.highest, r.owner).generation + 1
        self._follow(seat, Epoch(generation, 1, self.name))
        seat.votes = set()
        self._own(seat, f"forced by {operator}", (wanted,))

    def undelivered(self, peer: str) -> None:
        """What was sent to a node lately may not have arrived: it is sent again."""
        for seat in self._seats.values():
            if seat.owned is not None and peer in seat.owned.followers:
                follower = seat.owned.followers[peer]
                follower.next, follower.told = follower.match + 1, 0

    def tick(self, now: int) -> None:
        """Time has passed."""
        self._now = now
        for seat in list(self._seats.values()):
            if seat.owned is not None:
                self._beat(seat, seat.owned)
            elif seat.timer is None and not self._may_begin(seat):
                self._set_timer(seat)
            elif seat.timer is None or now >= seat.timer:
                self._doubt(seat)

    def receive(self, src: str, message: Message, now: int) -> None:
        """A message came. Raises Broken when its records cannot follow from this node's."""
        self._now = now
        match message:
            case Append():
                self._on_append(src, message)
            case Ack():
                self._on_ack(src, message)
            case Ask():
                self._on_ask(src, message)
            case Grant():
                self._on_grant(src, message)
            case Campaign():
                self._on_campaign(src, message)
            case Pull():
                self._send(src, self.answer(message))
            case Pulled():
                self._on_pulled(message)

    # Owning a log

    def _beat(self, seat: Seat, owned: Ownership) -> None:
        if self._is_left_alone(seat, owned):
            seat.eager = True  # to own it again when they are back
            self._follow(seat, owned.epoch)
            return
        if owned.yields_to is not None and self._now >= owned.yields_until:
            owned.yields_to = None
        if self._now >= owned.beat_at:
            owned.beat_at = self._now + self.pace.heartbeat_ms
            self._settle(seat, owned)
            self._ship(seat, beat=True)
            self._invite(seat)

    def _is_left_alone(self, seat: Seat, owned: Ownership) -> bool:
        """Has the owner been out of contact for so long that it should stop owning?"""
        if self._in_contact(seat, self._now):
            owned.alone_since = None
        elif owned.alone_since is None:
            owned.alone_since = self._now
        return owned.alone_since is not None and self._now - owned.alone_since >= self.pace.suspect_ms

    def _ship(self, seat: Seat, to: Iterable[str] | None = None, beat: bool = False) -> None:
        """Send the voters what they have not been sent; with `beat` also those for whom there is nothing new."""
        r, owned = seat.replica, seat.owned
        if owned is None:
            return
        for voter in sorted(voters_of(r.configuration) - {self.name}) if to is None else to:
            follower = owned.follower(voter, r.end)
            due = beat or (follower.told < r.commit and not follower.probed)
            while due or (not follower.probed and follower.next <= r.end and follower.next - follower.match <= self.pace.window_records):
                prev = min(follower.next - 1, r.end)
                room = prev - follower.match < self.pace.window_records
                records = r.records(prev, self.pace.batch_records, self.pace.batch_characters) if room else ()
                self._send(voter, Append(r.log, owned.epoch, prev, r.epoch_at(prev), records, r.commit))
                follower.told, due = r.commit, False
                if not follower.probed:
                    follower.next = prev + len(records) + 1

    def _on_ack(self, src: str, m: Ack) -> None:
        seat = self._seat(m.log)
        r, owned = seat.replica, seat.owned
        self._hear_of(seat, m.promised)
        if owned is None or m.epoch != owned.epoch:
            return
        if m.promised > owned.epoch:
            self._follow(seat, r.promised)  # somebody else has been granted more: deposed
            return
        follower = owned.follower(src, r.end)
        follower.seen = self._now
        if m.ok:
            follower.match, follower.probed = max(follower.match, m.match), False
            follower.next = max(follower.next, follower.match + 1)
            self._count(seat, owned)
        elif m.shape is not None:
            following = max(r.common(m.shape), follower.match) + 1
            if not follower.probed or following != follower.next:
                follower.next, follower.probed = following, True
                self._ship(seat, [src], beat=True)
        if seat.owned is owned and src != self.name:
            self._ship(seat, [src])
            self._invite(seat)

    def _count(self, seat: Seat, owned: Ownership) -> None:
        """Commit what enough voters have (rule 6)."""
        r = seat.replica
        reached = min(_held_by(one, owned) for one in r.configuration)
        if reached > r.commit and r.epoch_at(reached) == owned.epoch:
            self._advance(seat, reached)

    def _settle(self, seat: Seat, owned: Ownership) -> None:
        """Once a change of voters is committed, take the next step of it (rule 9)."""
        r = seat.replica
        if not r.settled or r.epoch_at(r.commit) != owned.epoch:
            return
        if len(r.configuration) == 2:
            self._append(seat, as_event(r.configuration[1:]))
        elif self.name not in (voters := voters_of(r.configuration)):
            self._ship(seat)
            self._send(max(sorted(voters), key=lambda voter: owned.follower(voter, r.end).match), Campaign(r.log, owned.epoch))
            self._follow(seat, owned.epoch)

    def _invite(self, seat: Seat) -> None:
        """Ask the one to whom the log goes to campaign, once it has everything."""
        owned = seat.owned
        if owned is not None and owned.yields_to is not None:
            follower = owned.followers.get(owned.yields_to)
            if follower is not None and follower.match == seat.replica.end:
                self._send(owned.yields_to, Campaign(seat.replica.log, owned.epoch))

    def _is_fed(self, seat: Seat, now: int) -> bool:
        """Does everything new of this log come from its owner, or from here?"""
        return seat.owned is not None or now - seat.heard < self.pace.suspect_ms

    def _in_contact(self, seat: Seat, now: int) -> bool:
        owned = seat.owned
        if owned is None:
            return False
        near = {node for node, follower in owned.followers.items() if now - follower.seen < self.pace.fresh_ms}
        return enough_copies(seat.replica.configuration, near | {self.name})

    def _own(self, seat: Seat, reason: str, configurations: Configurations = ()) -> None:
        r = seat.replica
        epoch, before = r.promised, r.commit
        seat.role, seat.owned = OWNER, Ownership(epoch, self._now)
        for node in seat.votes | {self.name}:
            seat.owned.follower(node, r.end).seen = self._now
        r.owner = epoch
        if configurations:
            self._append(seat, as_event(configurations))
        self._append(seat, OwnershipTaken(self.name, reason))
        self._effects.gained.append(Gained(r.log, epoch, before, r.end))

    # Taking a log over

    def _may_begin(self, seat: Seat) -> bool:
        """May this node campaign without having waited? The one that owned the log last may, and one that votes alone."""
        r = seat.replica
        return r.last[0].node == self.name or voters_of(r.configuration) == {self.name}

    def _doubt(self, seat: Seat) -> None:
        """Nobody was heard of: ask the others what they think."""
        r = seat.replica
        seat.role, seat.polls = FOLLOWER, set()
        seat.eager = seat.eager or seat.timer is None
        self._set_timer(seat)
        if any(self.name in voters_of(configurations) for _, configurations in r.configurations):
            seat.polls = {self.name}
            self._to_voters(seat, Ask(r.log, None, r.last))
            self._consider(seat)

    def _consider(self, seat: Seat) -> None:
        wanted = seat.role == FOLLOWER and self.name in seat.polls and not seat.replica.overtaken
        if wanted and enough_grants(seat.replica.configuration, seat.polls):
            self._campaign(seat, "restarted" if seat.replica.last[0].node == self.name else "takeover")

    def _campaign(self, seat: Seat, reason: str) -> None:
        r = seat.replica
        counter = max(r.highest.counter, r.promised.counter, r.owner.counter)
        self._follow(seat, Epoch(r.last[0].generation, counter + 1, self.name))
        seat.role, seat.reason, seat.votes, seat.polls = CANDIDATE, "founded" if r.end == 1 else reason, set(), set()
        self._to_voters(seat, Ask(r.log, r.promised, r.last))
        self._send(self.name, Grant(r.log, r.promised, True, r.promised))  # its own, once the promise is durable

    def _on_ask(self, src: str, m: Ask) -> None:
        seat = self._seat(m.log)
        r = seat.replica
        ok = m.last >= r.last
        if m.epoch is None:
            ok = ok and self._is_silent(seat, src)
        else:
            self._hear_of(seat, m.epoch)
            ok = ok and m.epoch >= r.promised
            if ok and m.epoch != r.promised:
                seat.eager = False
                self._follow(seat, m.epoch)
        self._send(src, Grant(m.log, m.epoch, ok, r.promised))

    def _is_silent(self, seat: Seat, src: str) -> bool:
        """Is nobody there who owns the log? Certainly not when the one who owned it last asks."""
        if seat.owned is not None:
            return not self._in_contact(seat, self._now)
        return seat.replica.owner.node == src or self._now - seat.heard >= self.pace.suspect_ms * 0.8

    def _on_grant(self, src: str, m: Grant) -> None:
        seat = self._seat(m.log)
        r = seat.replica
        self._hear_of(seat, m.promised)
        if not m.ok:
            return
        if m.epoch is None:
            seat.polls.add(src)
            self._consider(seat)
        elif seat.role == CANDIDATE and m.epoch == r.promised:
            seat.votes.add(src)
            if enough_grants(r.configuration, seat.votes):
                self._own(seat, seat.reason)

    def _on_campaign(self, src: str, m: Campaign) -> None:
        seat = self._seat(m.log)
        r = seat.replica
        if src == m.epoch.node and m.epoch == r.promised and not r.overtaken and self.name in voters_of(r.configuration):
            self._campaign(seat, "handed over")

    # Following

    def _on_append(self, src: str, m: Append) -> None:
        seat = self._seat(m.log)
        r = seat.replica
        if src != m.epoch.node:
            return
        if m.epoch < r.promised:
            self._send(src, Ack(m.log, m.epoch, False, 0, r.promised))
            return
        self._follow(seat, m.epoch)
        seat.heard, seat.polls, seat.eager, r.owner = self._now, set(), False, max(r.owner, m.epoch)
        if m.prev > r.end or r.epoch_at(m.prev) != m.prev_epoch:
            self._send(src, Ack(m.log, m.epoch, False, 0, r.promised, r.shape()))
            return
        end = self._merge(seat, m.prev, m.records, m.epoch)
        self._advance(seat, min(m.commit, end))
        self._send(src, Ack(m.log, m.epoch, True, end, r.promised))

    def _merge(self, seat: Seat, prev: int, records: Sequence[Record], owner: Epoch) -> int:
        """Take over what is new among the owner's records, behind a position where both copies agree (rule 5); returns their end."""
        r = seat.replica
        for index, record in enumerate(records):
            seq = prev + 1 + index
            if seq > r.end or str(r.epoch_at(seq)) != record.epoch:
                fresh = records[index:]
                r.verify(fresh)
                if seq <= r.end and owner.generation > r.epoch_at(seq).generation:
                    self._overrule(seat, seq)
                elif seq <= r.commit:
                    raise Broken(f"{owner.node} would replace the committed event {r.log}/{seq}")
                self._write(seat, fresh)
                break
        return prev + len(records)

    def _overrule(self, seat: Seat, seq: int) -> None:
        """Give up records that may be committed, which only a forced takeover can demand (rule 10)."""
        r = seat.replica
        self._effects.orphans.append(Orphans(r.log, seq, r.end))
        self._effects.before.setdefault(r.log, r.commit)
        if seq <= r.commit:
            r.commit = self._effects.committed[r.log] = seq - 1

    def answer(self, pull: Pull) -> Pulled:
        """What is committed here beyond somebody's copies."""
        known = {copy.log: copy for copy in pull.copies}
        news, room = [], self.pace.batch_characters
        for log, seat in self._seats.items():
            r, theirs = seat.replica, known.get(log)
            if theirs is not None and theirs.fed and theirs.owner >= r.owner:
                continue
            if r.promised.generation > r.epoch_at(r.commit).generation:
                if theirs is None or r.owner > theirs.owner:
                    news.append(News(log, r.owner, 0, GENESIS_HASH, (), 0))  # what is committed here may be overruled
                continue
            common = min(r.common(theirs.shape), r.commit) if theirs is not None else 0
            if room > 0 and r.commit > common:
                records = r.records(common, min(self.pace.batch_records, r.commit - common), room)
                room -= sum(len(record.data) for record in records)
            else:
                records = ()
            if theirs is None or records or r.owner > theirs.owner or min(r.commit, common) > theirs.commit:
                news.append(News(log, r.owner, common, r.hash_at(common), records, r.commit))
        return Pulled(tuple(news))

    def _on_pulled(self, m: Pulled) -> None:
        damages = []
        for news in m.news:
            try:
                self._on_news(news)
            except Broken as damage:  # of this log; the others are none the worse for it
                damages.append(damage)
        if damages:
            raise damages[0]

    def _on_news(self, news: News) -> None:
        seat = self._seat(news.log)
        r = seat.replica
        r.owner = max(r.owner, news.owner)
        top = max([news.owner, *(Epoch.parse(record.epoch) for record in news.records[-1:])])
        if top > r.promised:
            self._follow(seat, top)  # rule 4
        if news.owner.generation < r.promised.generation:
            return  # from before a forced takeover of which the other has not heard
        if news.prev <= r.end and r.hash_at(news.prev) == news.prev_hash:  # else the copy has changed since it asked
            self._advance(seat, min(news.commit, self._merge(seat, news.prev, news.records, news.owner)))

    # Common to all roles

    def _seat(self, log: str) -> Seat:
        return self._seats.setdefault(log, Seat(Replica(Restored(log), self._past)))

    def _follow(self, seat: Seat, epoch: Epoch) -> None:
        """Obey an epoch; who owned the log does so no longer."""
        r = seat.replica
        if epoch != r.promised:
            r.promised, r.highest = epoch, max(r.highest, epoch)
            self._effects.promises[r.log] = epoch
        gained = [gain for gain in self._effects.gained if gain.log == r.log]
        if gained:
            self._effects.gained.remove(gained[0])  # and nobody has heard of it yet
        elif seat.owned is not None:
            self._effects.lost[r.log] = r.commit
        seat.role, seat.owned = FOLLOWER, None
        self._set_timer(seat)

    def _hear_of(self, seat: Seat, epoch: Epoch) -> None:
        """Somebody has promised this epoch, or wants it. A higher generation is obeyed wherever it is heard of (rule 10)."""
        r = seat.replica
        r.highest = max(r.highest, epoch)
        if epoch.generation > r.promised.generation:
            self._follow(seat, Epoch(epoch.generation, 0, ""))

    def _set_timer(self, seat: Seat) -> None:
        wait = self.pace.heartbeat_ms if seat.eager else self.pace.suspect_ms
        seat.timer = self._now + wait * (1 + self._draw())

    def _advance(self, seat: Seat, to: int) -> None:
        """Everything up to a position is committed."""
        r = seat.replica
        if to > r.commit:
            self._effects.before.setdefault(r.log, r.commit)
            r.commit = self._effects.committed[r.log] = to
            if seat.owned is not None:
                self._unsent[r.log] = seat  # so that the voters hear of it
                self._settle(seat, seat.owned)

    def _append(self, seat: Seat, event: Event) -> None:
        assert seat.owned is not None
        self._write(seat, [self._record(seat, seat.owned.epoch, event)])

    def _record(self, seat: Seat, epoch: Epoch, event: Event) -> Record:
        name, version, data = CODEC.encode(event)
        r = seat.replica
        return sealed(r.hash, Record(r.log, r.end + 1, str(epoch), stream_of(event), name, version, self._now, data))

    def _write(self, seat: Seat, records: Sequence[Record]) -> None:
        """Put records into the copy, over whatever stands at their positions."""
        r, start = seat.replica, records[0].seq
        r.put(start, records)
        written = self._effects.writes.get(r.log)
        if written is None or start < written.start:
            self._effects.writes[r.log] = Written(start, list(records))
        else:
            written.records[start - written.start :] = records
        if seat.owned is not None:
            self._unsent[r.log] = seat

    def _send(self, to: str, message: Message) -> None:
        self._effects.sends.append((to, message))

    def _to_voters(self, seat: Seat, message: Message) -> None:
        for voter in sorted(voters_of(seat.replica.configuration) - {self.name}):
            self._send(voter, message)


def _held_by(one: Configuration, owned: Ownership) -> int:
    """Up to which position enough voters of a configuration have the log."""
    ends = sorted((owned.followers[voter].match if voter in owned.followers else 0 for voter in one.voters), reverse=True)
    return ends[one.copies - 1]
