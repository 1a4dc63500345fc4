"""How every coordinator comes to have the bundles that services need.

1. A coordinator that is asked for a bundle that it does not have asks the others, once, and keeps what it gets. `x-skyclaw-tried` in their
   requests keeps them from asking in turn.
2. A new bundle is made known to the others by asking each of them for it: by rule 1 it fetches it. Should that fail, rule 3 comes to it.
3. Now and then each one fetches what the revisions of services need, and deletes what nothing has needed for an hour.
4. A bundle travels in pieces, so that it never is in memory as a whole, and each piece has a deadline. FETCHES bound how many threads of
   the server are held by that.
"""

import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

from api.forwarding import TRIED
from api.parts import Cluster
from api.peering import Network
from skyclaw.errors import SkyclawError, Unavailable, UnknownBundle
from skyclaw.outside.peer_channel import PeerSilent
from skyclaw.store.bundles import BadBundle, BundleFiles

logger = logging.getLogger(__name__)

PIECE = 4 * 1024 * 1024  # bytes
PIECE_S = 20.0
OFFER_S = 120.0  # for another coordinator to fetch a bundle
FETCHES = 4
MOST_NEW = 64  # bundles that wait for being made known
RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


class BundleExchange:
    """The bundles of this coordinator, and of the others. `clock` says ms."""

    def __init__(self, files: BundleFiles, cluster: Cluster, network: Network | None, clock: Callable[[], int]) -> None:
        self._files, self._cluster, self._network, self._clock = files, cluster, network, clock
        self._fetches, self._one_at_a_time = threading.BoundedSemaphore(FETCHES), threading.Lock()
        self._new: deque[str] = deque(maxlen=MOST_NEW)
        self.news = threading.Event()  # there is something to be made known

    @property
    def files(self) -> BundleFiles:
        """Those that are here."""
        return self._files

    def require(self, sha256: str, tried: Collection[str] = ()) -> int:
        """Have this bundle here, from now on for an hour at least; returns its size. Raises UnknownBundle, Unavailable.

        It is fetched unless another coordinator asks: `tried` are those that have had the request.
        """
        self._files.touch(sha256)
        size = self._files.size(sha256)
        if size is None and not tried:
            with self._place(), self._one_at_a_time:
                size = self._files.size(sha256) or self._fetch(sha256)
        if size is None:
            raise UnknownBundle(f"unknown bundle: {sha256}")
        return size

    def announce(self, sha256: str) -> None:
        """There is a new bundle here: the others are to have it, too."""
        self._new.append(sha256)
        self.news.set()

    def make_known(self) -> int:
        """Let the others fetch what is new here; returns how many bundles were new."""
        self.news.clear()
        count = 0
        while self._new:
            count, sha256 = count + 1, self._new.popleft()
            for node in self._others():
                try:
                    self._cluster.forward(node, "HEAD", f"/v1/bundles/{sha256}", {}, b"", OFFER_S)
                except PeerSilent as silence:
                    logger.info("bundle_not_offered bundle=%s to=%s cause=%s", sha256, node, silence)
        return count

    def look_after(self, used: Collection[str]) -> tuple[int, int]:
        """Fetch what is missing of the bundles that are `used`, and delete what has not been used for an hour; returns how many."""
        fetched = 0
        for sha256 in used:
            if self._files.size(sha256) is None:
                try:
                    self.require(sha256)
                except SkyclawError as error:
                    logger.info("bundle_not_fetched bundle=%s cause=%s", sha256, error)
                else:
                    fetched += 1
        return fetched, self._files.prune(used, self._clock())

    def _others(self) -> Sequence[str]:
        owners = map(self._cluster.owner, self._cluster.logs())
        peers = (peer.node for peer in self._network.peers()) if self._network is not None else ()
        return [node for node in dict.fromkeys((*owners, *peers)) if node is not None and node != self._cluster.node]

    def _fetch(self, sha256: str) -> int | None:
        for node in self._others():
            try:
                first = self._piece(node, sha256, 0)
                if first is not None:
                    length, data = first
                    return self._files.write(sha256, self._pieces(node, sha256, length, data), length)
            except (PeerSilent, BadBundle) as failure:
                logger.info("bundle_not_fetched bundle=%s from=%s cause=%s", sha256, node, failure)
        return None

    def _pieces(self, node: str, sha256: str, length: int, first: bytes) -> Iterator[bytes]:
        """All of a bundle, the first piece of which is here; raises PeerSilent."""
        at, data = 0, first
        while data:
            yield data
            at += len(data)
            piece = self._piece(node, sha256, at) if at < length else None
            data = piece[1] if piece is not None else b""

    def _piece(self, node: str, sha256: str, at: int) -> tuple[int, bytes] | None:
        """The size of a bundle, and its bytes from there on; None when it is not there. Raises PeerSilent."""
        headers = {TRIED: quote(self._cluster.node, safe="#:@"), "range": f"bytes={at}-{at + PIECE - 1}"}
        reply = self._cluster.forward(node, "GET", f"/v1/bundles/{sha256}", headers, b"", PIECE_S)
        match = RANGE.fullmatch(reply.headers.get("content-range", ""))
        if reply.status != 206 or match is None or int(match[1]) != at:
            return None
        return int(match[3]), reply.body

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._fetches.acquire(blocking=False):
            raise Unavailable("too many bundles are being fetched; try again")
        try:
            yield
        finally:
            self._fetches.release()
