"""Bugs to inject: each makes one rule of the protocol, or of the clerk on top of it, not hold. The simulation must catch them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

from skyclaw.cluster import replication
from skyclaw.cluster.configuration import Configuration, Configurations, as_event
from skyclaw.cluster.messages import Append, Ask, Campaign, News
from skyclaw.cluster.replica import Ownership, Replica, Restored
from skyclaw.cluster.replication import Effects, Node, Seat
from skyclaw.records import Epoch
from tests.cluster.simulation.clerk import Book, Clerk
from tests.cluster.simulation.jobs import Token
from tests.cluster.simulation.world import Coordinator, World


class Fault(NamedTuple):
    """What is wrong, and what to put in the place of what is right: (owner, attribute, value)."""

    what: str
    patches: tuple[tuple[Any, str, Any], ...]


def _obeying_any(method: Callable[..., None]) -> Callable[..., None]:
    def obey(self: Node, src: str, m: Ask | Append) -> None:
        replica = self.replica(m.log)
        if m.epoch is not None and m.epoch < replica.promised:
            replica.promised = m.epoch
            self._effects.promises[m.log] = m.epoch
        method(self, src, m)

    return obey


def _few_grants(configurations: Configurations, granters: Iterable[str]) -> bool:
    holders = set(granters)
    return bool(configurations) and all(len(one.voters & holders) >= max(1, one.grants - 1) for one in configurations)


def _take_and_send_at_once(self: World, p: Coordinator) -> None:
    effects = p.node.effects()
    sends, effects.sends = effects.sends, []
    with mock.patch.object(p.node, "effects", return_value=effects):
        _TAKE(self, p)
    if effects.promises or effects.writes:
        p.busy += 100
    for to, message in sends:
        if to == p.name:
            self.at(0, self.step, p, lambda now, message=message: p.node.receive(p.name, message, now))
        else:
            self.net(p.name, to, message)


def _on_ask_of_anybody(self: Node, src: str, m: Ask) -> None:
    _ON_ASK(self, src, m._replace(last=max(m.last, self.replica(m.log).last)))


def _count_older_epochs(self: Node, seat: Seat, owned: Ownership) -> None:
    reached = min(replication._held_by(one, owned) for one in seat.replica.configuration)
    self._advance(seat, reached)


def _change_in_one_step(self: Node, log: str, wanted: Configuration, now: int) -> bool:
    append = self._append

    def alone(seat: Seat, _: object) -> None:
        append(seat, as_event((wanted,)))

    with mock.patch.object(self, "_append", alone):
        return _RECONFIGURE(self, log, wanted, now)


def _learn_without_promise(self: Node, news: News) -> None:
    replica = self._seat(news.log).replica
    if news.owner.generation > replica.promised.generation:
        _ON_NEWS(self, news)
        return
    with mock.patch.object(self, "_follow"):
        _ON_NEWS(self, news)


def _ship_and_count(self: Node, seat: Seat, to: Iterable[str] | None = None, beat: bool = False) -> None:
    _SHIP(self, seat, to, beat)
    for node, follower in seat.owned.followers.items() if seat.owned is not None else ():
        if node != self.name:
            follower.match = max(follower.match, follower.next - 1)


def _restore_nothing(self: Replica, one: Restored) -> None:
    if not hasattr(self, "starts"):
        _RESTORE(self, one)


def _own_at_once(self: Node, src: str, m: Campaign) -> None:
    seat = self._seat(m.log)
    if m.epoch == seat.replica.promised and seat.owned is None:
        seat.votes = {src}
        self._follow(seat, Epoch(m.epoch.generation, m.epoch.counter + 1, self.name))
        self._own(seat, "handed over")


def _undo_and_stay_owner(self: Node, effects: Effects, durable: Iterable[Restored]) -> None:
    roles = {log: (self._seats[log].role, self._seats[log].owned) for log in effects.writes}
    _UNDO(self, effects, durable)
    for log, (role, owned) in roles.items():
        self._seats[log].role, self._seats[log].owned = role, owned


_TAKE, _ON_ASK, _RECONFIGURE, _ON_NEWS = World._take, Node._on_ask, Node.reconfigure, Node._on_news
_SHIP, _RESTORE, _UNDO = Node._ship, Replica.restore, Node.undo


def _any_token(_: Clerk, __: Token, ___: Token) -> bool:
    return True


def _known_at_once(_: Clerk, __: str, ___: int) -> bool:
    return True


def _always_new(_: Clerk, __: Book, ___: str) -> bool:
    return True


FAULTS: dict[str, Fault] = {
    "obeys_any_epoch": Fault(
        "grants and obeys epochs below its promise",
        ((Node, "_on_ask", _obeying_any(Node._on_ask)), (Node, "_on_append", _obeying_any(Node._on_append))),
    ),
    "few_grants": Fault("takes over with V-k grants instead of V-k+1", ((replication, "enough_grants", _few_grants),)),
    "sends_before_sync": Fault("messages leave before what they tell of is durable", ((World, "_take", _take_and_send_at_once),)),
    "no_token": Fault("accepts a completion without comparing the fencing token", ((Clerk, "_is_in_force", _any_token),)),
    "grants_to_stale_copy": Fault("grants to a candidate whose copy is behind", ((Node, "_on_ask", _on_ask_of_anybody),)),
    "counts_older_epochs": Fault("counts copies of records of older epochs", ((Node, "_count", _count_older_epochs),)),
    "answers_early": Fault("answers before the event is committed", ((Clerk, "_is_known", _known_at_once),)),
    "no_dedupe": Fault("ignores the idempotency key on a retry", ((Clerk, "_is_new", _always_new),)),
    "one_step": Fault("changes the voters in one step", ((Node, "reconfigure", _change_in_one_step),)),
    "learns_without_promise": Fault(
        "learns committed records of a newer epoch and promises nothing", ((Node, "_on_news", _learn_without_promise),)
    ),
    "counts_what_was_sent": Fault(
        "counts a voter's copy when it was sent, not when it is durable there", ((Node, "_ship", _ship_and_count),)
    ),
    "undo_forgets": Fault("keeps in memory what could not be stored", ((Replica, "restore", _restore_nothing),)),
    "undo_keeps_owner": Fault("owns a log although the taking over could not be stored", ((Node, "undo", _undo_and_stay_owner),)),
    "owns_without_grants": Fault("takes a log that is handed over without grants", ((Node, "_on_campaign", _own_at_once),)),
    "polls_blindly": Fault("would let others take over although it hears the owner", ((Node, "_is_silent", lambda *_: True),)),
    "common_too_far": Fault(
        "finds the common end of two copies one position too far",
        ((Replica, "common", lambda self, other, right=Replica.common: min(right(self, other) + 1, self.end)),),
    ),
}


@contextmanager
def injected(name: str) -> Iterator[None]:
    """A fault is in the code while this lasts."""
    with ExitStack() as stack:
        for owner, attribute, value in FAULTS[name].patches:
            stack.enter_context(mock.patch.object(owner, attribute, value))
        yield
