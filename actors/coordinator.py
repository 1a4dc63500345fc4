"""The actors of a coordinator, started from its logs and started again from them when one of them dies.

Replicator and JobQueue share the logs' ends, so they live and die together; LeaseReaper and Steward go with them. PeerManager keeps
nothing that could be lost, and is started again with the rest.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pykka

from actors.asking import Post
from actors.cluster import Cluster
from actors.desk import Desk
from actors.job_queue import JobQueue
from actors.lease_reaper import INTERVAL_S, LeaseReaper
from actors.log_orders import LogOrders
from actors.log_views import LogSeen, LogViews
from actors.peer_config import Outlook, PeerConfig
from actors.peer_manager import PeerManager
from actors.peers import Peers
from actors.replicator import Replicator
from actors.replicator_messages import StopParking
from actors.steward import Steward
from actors.stored_copies import StoredPast, durable_copy, evicted
from actors.ticker import Tick, Ticker
from actors.trusting import Configured, anybody
from skyclaw import commands as cmd
from skyclaw.cluster.configuration import founding
from skyclaw.cluster.membership import Policy
from skyclaw.cluster.replica import Restored
from skyclaw.cluster.replication import Node, Pace
from skyclaw.errors import NotOwner, StorageReadOnly, Unavailable
from skyclaw.events import PeerEvicted
from skyclaw.outside.clock import Clock
from skyclaw.records import Record
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.state import State
from skyclaw.scheduling.turn import Rules
from skyclaw.store.archive import Archive
from skyclaw.store.event_log import EventLog
from skyclaw.store.rebuild import rebuild

logger = logging.getLogger(__name__)

RESTARTS, WITHIN_S = 5, 60.0
STOP_S = 15.0
OWN_S = 10.0  # for a log with one voter to be owned
TICKS_PER_BEAT = 4
STEWARD_S = 1.0
LOOK_S = 0.005
OFFER_S = 1.0  # for one voter to take a log over, before another one is asked


class Coordinator:
    """Start, stop, and the ways in: `desk` for commands, `archive` for what is no longer live, `cluster` for all that concerns others."""

    def __init__(
        self,
        store: EventLog,
        clock: Clock,
        rules: Rules,
        on_fatal: Callable[[], None],
        min_copies: int | None = None,
        reap_every_s: float | None = INTERVAL_S,
        pace: Pace | None = None,
        peering: PeerConfig | None = None,
    ) -> None:
        self.log, self.archive = store, Archive(store)
        self._clock, self._rules, self._on_fatal, self._min_copies = clock, rules, on_fatal, min_copies
        self._pace = pace or Pace()
        self._witness = peering is not None and peering.witness
        self._queue, self._replicator, self._reaper = Post("JobQueue"), Post("Replicator"), Post("LeaseReaper")
        self._steward = Post("Steward")
        self.views, self.desk = LogViews(), Desk(self._queue, self._explain)
        home = None if self._witness else store.log
        self.cluster = Cluster(store.node, home, min_copies or 1, self.views, self.desk, self._queue, self._replicator, clock)
        self.orders = LogOrders(store, self.cluster)
        if peering is not None:
            self.cluster.peers = Peers(peering, self._outlook(self.cluster), clock)
        self._tickers = self._make_tickers(reap_every_s)
        self._died = threading.Event()
        self._stopping = False
        self._supervisor = threading.Thread(target=self._supervise, name="Supervisor", daemon=True)

    @property
    def actors(self) -> Mapping[str, bool]:
        """Which of the required actors live."""
        return {post.name: post.alive for post in self._posts()}

    @property
    def ready(self) -> bool:
        """Can it serve as it should?"""
        return all(self.actors.values()) and self.cluster.ready and not self.log.read_only

    def start(self) -> None:
        """Rebuild the state and begin to decide; raises what makes the database unusable."""
        self._start_actors()
        self._supervisor.start()
        for ticker in self._tickers:
            ticker.start()

    def stop(self) -> None:
        """Decide nothing more; everything that was decided is stored."""
        self._stopping = True
        self._died.set()
        if self._supervisor.ident is not None:
            self._supervisor.join()
        for ticker in self._tickers:
            ticker.stop()
        self._stop_actors()

    def hand_over(self, within_s: float) -> bool:
        """Let others own what is owned here, before a stop; returns whether all of it could be given."""
        ends = time.monotonic() + within_s
        offers: dict[str, tuple[float, int]] = {}  # log -> when it is offered again, and how often it was
        while owned := [(seen.log, heirs) for seen in self.views.all if seen.owned and (heirs := heirs_of(seen))]:
            for log, heirs in owned:
                again, times = offers.get(log, (0.0, 0))
                if time.monotonic() >= again:
                    offers[log] = time.monotonic() + OFFER_S, times + 1
                    self.cluster.transfer(log, heirs[times % len(heirs)])
            if time.monotonic() > ends:
                return False
            time.sleep(LOOK_S)
        return True

    def send_waiters_home(self) -> None:
        """Whoever waits for a job, for its end, or for news of a log is answered now: they would hold up the server's stop."""
        with suppress(Unavailable):
            self.desk.ask(cmd.StopParking())
        with suppress(Unavailable):
            self._replicator.tell(StopParking())

    def _explain(self, refusal: NotOwner) -> Exception:
        """Nobody owns the log that this coordinator owned last: that may be because it cannot write."""
        seen = self.views.of(refusal.log)
        if seen is None or seen.owner not in ("", self.log.node) or seen.owned:
            return refusal
        return StorageReadOnly() if self.log.read_only else self.views.failure or refusal

    def _posts(self) -> list[Post]:
        peers = [self.cluster.peers.post] if self.cluster.peers is not None else []
        return [self._replicator, self._queue, self._reaper, self._steward, *peers]

    def _make_tickers(self, reap_every_s: float | None) -> list[Ticker]:
        tickers = [
            Ticker(self._replicator.tell, self._pace.heartbeat_ms / 1000 / TICKS_PER_BEAT, "replicator-ticker"),
            Ticker(self._steward.tell, min(STEWARD_S, self._pace.heartbeat_ms / 1000), "steward-ticker"),
        ]
        return [*tickers, Ticker(self._reaper.tell, reap_every_s, "reaper-ticker")] if reap_every_s else tickers

    @staticmethod
    def _outlook(cluster: Cluster) -> Outlook:
        return Outlook(
            arrived=cluster.arrived,
            undelivered=cluster.undelivered,
            pull=cluster.pull,
            positions=cluster.positions,
            ready=lambda: cluster.ready,
            heard_hosts=cluster.heard_hosts,
            on_hosts=cluster.on_hosts,
            evict=cluster.evict,
            leave=cluster.leave,
            leaving=lambda: cluster.leaving,
        )

    def _start_actors(self) -> None:
        queue = Queue(self.log.log, self._rules, self.archive.job, random.random)
        self.cluster.stuck = queue.stuck
        copies = []
        snapshots = {}
        for log in self.log.logs():
            copy, state, snapshots[log] = self._restore(log)
            copies.append(copy)
            queue.replace(log, state)
        committed, evictions = {copy.log: copy.committed for copy in copies}, self._evictions()
        node = Node(self.log.node, copies, StoredPast(self.log), self._pace, random.random, self._min_copies or 1)
        if not self.log.head(self.log.log).seq and not self._witness:
            node.found(self.log.log, self._clock())
        peers = self.cluster.peers
        send = peers.send if peers is not None else _nobody
        self._queue.ref = JobQueue.start(queue, self._replicator, self._clock, self.log, snapshots, self._on_death)  # it must miss nothing
        self._replicator.ref = Replicator.start(
            self.log,
            node,
            self._queue,
            self._clock,
            send,
            self.views,
            peers.refuse if peers is not None else _nobody,
            _is_configured(peers),
            self._on_death,
            evictions=[one for one in evictions if one.seq > committed[one.log]],
        )
        self._reaper.ref = LeaseReaper.start(self.desk, self._on_death)
        self._steward.ref = Steward.start(
            self.log.node,
            Policy(self._min_copies, self._pace.fresh_ms),
            self._pace.heartbeat_ms,
            lambda: self.views.all,
            self.cluster,
            self._replicator.tell,
            self._clock,
            self._witness,
            self._on_death,
        )
        if peers is not None:
            peers.picture = replace(peers.picture, evicted=evicted(one for one in evictions if one.seq <= committed[one.log]))
            peers.post.ref = PeerManager.start(peers, self._outlook(self.cluster), self._clock, self._on_death)
        self._own_what_is_ours_alone()

    def _evictions(self) -> list[Record]:
        return [record for log in self.log.logs() for record in self.log.of_types(log, [PeerEvicted.__name__])]

    def _restore(self, log: str) -> tuple[Restored, State, int]:
        """What is durable of a copy, and its state as far as it is known to be committed; where one node votes, that is all of it."""
        copy = durable_copy(self.log, log, 0)
        snapshot = self.log.snapshot(log)
        alone = copy.configurations and copy.configurations[-1][1] == founding(self.log.node)
        known = max(self.log.committed(log), snapshot[0].seq if snapshot else 0)
        state, begun = rebuild(self.log, log, None if alone else known)
        return copy._replace(committed=state.end), state, begun

    def _own_what_is_ours_alone(self) -> None:
        """Nobody has to be asked about a log in which nobody else votes: it is owned before the first request comes."""
        self._replicator.tell(Tick())
        ends = time.monotonic() + OWN_S
        while time.monotonic() < ends and not self._stopping:
            waits = [seen for seen in self.views.all if seen.voters == (self.log.node,) and not seen.owned]
            if not waits or self.log.read_only or self.views.failure is not None:
                break
            time.sleep(LOOK_S)

    def _stop_actors(self) -> None:
        for post in reversed(self._posts()):
            if post.ref is not None:
                _stop(post.ref)

    def _on_death(self, _name: str) -> None:
        self._died.set()

    def _supervise(self) -> None:
        deaths: deque[float] = deque(maxlen=RESTARTS)
        while not self._stopping:
            self._died.wait()
            self._died.clear()
            if self._stopping:
                break
            if len(deaths) == RESTARTS and time.monotonic() - deaths[0] < WITHIN_S:
                logger.critical("actors_keep_dying restarts=%d within_s=%d", RESTARTS, WITHIN_S)
                self._on_fatal()
                break
            deaths.append(time.monotonic())
            self._restart()

    def _restart(self) -> None:
        try:
            self._stop_actors()
            self._died.clear()  # whoever died of the death of another one needs no restart of its own
            self._start_actors()
        except Exception:
            logger.critical("restart_failed", exc_info=True)
            self._on_fatal()
        else:
            logger.warning("actors_restarted end=%d", self.log.head(self.log.log).seq)


def heirs_of(seen: LogSeen) -> list[str]:
    """Who could take a log over, the best first: of the voters that were heard of the most level one, and the one heard of last."""
    near = [one for one in seen.followers if one.heard_at is not None and one.node in seen.voters]
    best = sorted(near, key=lambda one: (one.end, one.heard_at), reverse=True)
    return [one.node for one in best] if seen.in_contact and len(seen.voters) > 1 else []


def _is_configured(peers: Peers | None) -> Configured:
    """Whom the operator named; everybody, where coordinators have no token of their own."""
    if peers is None or not peers.config.strict:
        return anybody
    return lambda node: (peer := peers.picture.peers.get(node)) is not None and peer.configured


def _nobody(*_said: object) -> None:
    """Without peers there is nobody to tell anything."""


def _stop(ref: pykka.ActorRef[Any]) -> None:
    try:
        ref.stop(block=True, timeout=STOP_S)
    except pykka.Timeout:
        logger.critical("actor_does_not_stop actor=%s", ref.actor_class.__name__)
