"""Knows the other coordinators: finds them, has them prove themselves, exchanges news with them, and keeps a link to each.

1. An address gets the token only after the coordinator there has proved that it knows it, at that address.
2. This actor never waits for another coordinator: it starts errands, and hears what came of them.
3. What others read is the picture it leaves in `Peers`, replaced as a whole after each change.
"""

import logging
from collections.abc import Callable
from types import TracebackType

from actors.base import Actor
from actors.peer_address import OwnAddress
from actors.peer_complaints import Complaints
from actors.peer_config import Outlook, normal
from actors.peer_errands import Answered, Errands, Failed, OwnSeen, Proven
from actors.peer_links import PeerLinks
from actors.peers import Came, Changed, Evict, Forget, Left, Peers, Picture, Suggested
from actors.puller import Puller
from actors.ticker import Tick, Ticker
from skyclaw.cluster.address_book import AddressBook
from skyclaw.cluster.peer_status import PeerStatus, Told
from skyclaw.errors import ServerRefused
from skyclaw.outside.clock import Clock
from skyclaw.outside.peer_addresses import BadPeerUrl, check_literal
from skyclaw.outside.peer_link import Hearing

logger = logging.getLogger(__name__)

TICK_S = 0.1
EVICTED = "evicted"  # what a coordinator answers to one that was turned out


class Unlinked:
    """The coordinator at the end of this link says that it is not the one we take it for, does not know our token, or turned us out."""

    def __init__(self, node: str, reason: str, code: str) -> None:
        self.node, self.reason, self.code = node, reason, code


class PeerManager(Actor):
    """Keeps the address book and the links, and the picture of both in `peers`."""

    def __init__(self, peers: Peers, outlook: Outlook, clock: Clock, on_death: Callable[[str], None] | None = None) -> None:
        super().__init__(on_death)
        config = peers.config
        self._peers, self._config, self._outlook, self._clock = peers, config, outlook, clock
        self._book = AddressBook(config.node, config.url, map(normal, config.peer_urls), clock())
        self._book.evict(peers.picture.evicted)
        self._own, self._complaints = OwnAddress(config.node, config.url, clock()), Complaints()
        self._errands = Errands(peers, peers.post.tell)
        self._links = PeerLinks(config.node, peers.client, Hearing(outlook.arrived, outlook.undelivered, self._on_refused))
        self._puller, self._ticker = Puller(peers, outlook), Ticker(peers.post.tell, TICK_S, "peer-ticker")

    def on_start(self) -> None:
        """Begin to look for peers, and to pull from them."""
        super().on_start()
        self._publish()
        self._puller.start()
        self._ticker.start()

    def on_stop(self) -> None:
        """Say nothing more to anybody."""
        self._end()

    def on_failure(self, _type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Leave nothing running behind: whoever starts it again starts anew."""
        self._end()
        super().on_failure(_type, error, traceback)

    def handle(self, message: object) -> None:
        """Take in what somebody said, or do what is due."""
        match message:
            case Tick():
                self._do_what_is_due()
                return
            case Changed():
                self._ask_everybody_again()
                return
            case Suggested(url, sender):
                self._suggest(url, sender)
            case Forget(url):
                self._book.forget_hint(url)
            case Came(status, sender):
                self._take_in(status, sender)
            case Answered(url, status, address):
                self._answered(url, status, address)
            case Proven():
                self._admit(message)
            case Failed():
                self._fail(message)
            case OwnSeen(found):
                self._see_own(found)
            case Unlinked():
                self._look_again(message)
            case Left(node):
                self._book.drop(node)
            case Evict(nodes):
                self._book.evict(nodes)
        self._publish()

    def _do_what_is_due(self) -> None:
        now = self._clock()
        self._book.forget(now)
        if self._peers.departed:
            return
        if self._own.url is not None and self._own.is_due(now):
            self._errands.look_at_own(self._own.url)
        for hint in self._book.hints.values():
            if hint.due <= now:
                self._errands.prove(hint.url, hint.source, configured=hint.configured)
        for peer in self._book.peers.values():
            if peer.due > now:
                continue
            if peer.in_doubt:
                self._errands.prove(peer.url, self._links.address_of(peer.node), configured=peer.configured)
            else:
                self._errands.exchange(peer)

    def _ask_everybody_again(self) -> None:
        now = self._clock()
        for peer in list(self._book.peers.values()):
            if not (peer.in_doubt or peer.refuses):
                self._book.ask_again(peer.node, now)

    def _suggest(self, url: str, sender: str) -> None:
        if self._config.discovery and not self._peers.departed:
            self._book.suggest(url, sender, self._clock())

    def _answered(self, url: str, status: PeerStatus, address: str) -> None:
        peer = self._book.peers.get(status.node)
        if peer is not None and peer.url == url:
            self._book.ask_again(peer.node, self._clock() + self._config.sync_ms)
            self._take_in(status, address)
            self._peers.turned_out = self._peers.turned_out and self._is_turned_out()

    def _take_in(self, status: PeerStatus, sender: str) -> None:
        """What a coordinator says of itself counts once it is admitted; what it says of others is hearsay."""
        if status.node in self._book.evicted or status.node == self._config.node:
            return
        now = self._clock()
        own = (Told(status.node, status.url, status.number),) if status.url else ()
        for told in (*own, *(status.peers if status.node in self._book.peers else ())):
            self._learn(told, sender, now)
        if self._book.hear(status, now):
            self._links.wake(status.node)
            self._outlook.on_hosts(status.node, status.hosts)

    def _learn(self, told: Told, sender: str, now: int) -> None:
        if not self._config.discovery or self._peers.departed:
            return
        try:
            url = check_literal(told.url, sender, self._config.networks)
        except BadPeerUrl:
            return
        self._book.learn(told._replace(url=str(url)), sender, now)

    def _admit(self, proven: Proven) -> None:
        now = self._clock()
        if proven.elsewhere is not None:
            return self._find_elsewhere(proven, proven.elsewhere, now)
        known = self._book.peers.get(proven.node)
        peer = self._book.prove(proven.url, proven.node, proven.label, now)
        if peer is None:
            return None
        if known is None:
            logger.info("peer_admitted node=%s url=%s", peer.node, peer.url)
            self._ask_everybody_again()
        elif known.in_doubt:
            logger.info("peer_back node=%s url=%s", peer.node, peer.url)
        if peer.url == proven.url:
            self._links.connect(peer.node, proven.at, proven.token)
            self._links.wake(peer.node)
        return None

    def _find_elsewhere(self, proven: Proven, elsewhere: str, now: int) -> None:
        """It is one of ours, but says that it is at another address: that is where it must prove itself."""
        self._book.fail(proven.url, f"it says that its address is {elsewhere}", now)
        if proven.node == self._config.node:
            self._book.prove(proven.url, proven.node, proven.label, now)
            return
        try:
            url = check_literal(elsewhere, proven.at.addresses[0], self._config.networks)
        except BadPeerUrl:
            return
        self._book.suggest(str(url), proven.at.addresses[0], now)

    def _on_refused(self, node: str, refusal: ServerRefused) -> None:
        """Called by a link."""
        if refusal.status in (401, 403, 404) or refusal.code == "wrong_node":
            self._peers.post.tell(Unlinked(node, str(refusal), refusal.code))

    def _fail(self, failed: Failed) -> None:
        """Nothing came of asking there: worth a line when it is news."""
        now, url = self._clock(), failed.url
        hint = self._book.hints.get(url)
        if hint is not None and (level := self._complaints.level(hint, failed.reason, now)) is not None:
            logger.log(level, "peer_not_admitted url=%s cause=%s", url, failed.reason)
        peer = next((peer for peer in self._book.peers.values() if peer.url == url), None)
        if peer is not None and failed.code == EVICTED:
            return self._book.be_refused(peer.node, now)
        if peer is not None and not peer.in_doubt:
            logger.warning("peer_silent node=%s url=%s cause=%s", peer.node, url, failed.reason)
        return self._book.fail(url, failed.reason, now)

    def _is_turned_out(self) -> bool:
        """Does a peer say so, or a log?"""
        return self._config.node in self._book.evicted or any(peer.refuses for peer in self._book.peers.values())

    def _note_whether_turned_out(self) -> None:
        if self._is_turned_out() and not self._peers.turned_out:
            self._peers.turned_out = True
            logger.warning("turned_out node=%s by=%s", self._config.node, [peer.node for peer in self._book.peers.values() if peer.refuses])

    def _see_own(self, found: Proven | Failed) -> None:
        self._own.see(found, self._clock())
        if self._own.elsewhere != self._peers.elsewhere:
            self._peers.elsewhere = self._own.elsewhere
            self._ask_everybody_again()

    def _look_again(self, unlinked: Unlinked) -> None:
        peer = self._book.peers.get(unlinked.node)
        if peer is not None and unlinked.code == EVICTED:
            self._book.be_refused(peer.node, self._clock())
        elif peer is not None and not peer.in_doubt:
            logger.warning("peer_in_doubt node=%s url=%s cause=%s", peer.node, peer.url, unlinked.reason)
            self._book.fail(peer.url, unlinked.reason, self._clock())

    def _publish(self) -> None:
        """Show everybody how it is now, and end the links to those who are peers no more."""
        self._note_whether_turned_out()
        peers, hints = dict(self._book.peers), dict(self._book.hints)
        told, evicted = self._book.told(self._clock()), frozenset(self._book.evicted)
        links = self._links.to([node for node, peer in peers.items() if not peer.refuses])
        gone, own = frozenset(self._book.gone), frozenset(self._book.own)
        self._peers.picture = Picture(peers, hints, links, told, evicted, gone, own, self._book.full_until)
        self._links.keep_only(peers)
        self._complaints.keep_only(hints)

    def _end(self) -> None:
        self._ticker.stop()
        self._links.stop()
        self._puller.stop()
        picture = self._peers.picture
        self._peers.picture = Picture(hints=picture.hints, evicted=picture.evicted)
