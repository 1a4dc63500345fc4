"""The links to all peers, one for each, and the tokens they show."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from skyclaw.outside.peer_addresses import Pinned
from skyclaw.outside.peer_channel import Channel
from skyclaw.outside.peer_client import PeerClient
from skyclaw.outside.peer_link import Hearing, PeerLink

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Linked:
    link: PeerLink
    channel: Channel
    token: str | None


class PeerLinks:
    """Starts and stops links; used by one thread."""

    def __init__(self, own: str, client: PeerClient, hearing: Hearing) -> None:
        self._own, self._client, self._hearing = own, client, hearing
        self._linked: dict[str, _Linked] = {}

    def connect(self, node: str, at: Pinned, token: str | None) -> None:
        """Have a link to the node there; the one that there is stays, unless it leads elsewhere or shows another token."""
        before = self._linked.get(node)
        if before is not None and before.channel.at == at and before.token == token:
            return
        if before is not None:
            self._end(before)
        channel = self._client.know(at, token)
        linked = self._linked[node] = _Linked(PeerLink(self._own, node, channel, self._hearing), channel, token)
        linked.link.start()

    def wake(self, node: str) -> None:
        """The node was heard of: a link that waits because it could not reach it is to try again."""
        linked = self._linked.get(node)
        if linked is not None:
            linked.link.wake()

    def to(self, nodes: Collection[str]) -> Mapping[str, PeerLink]:
        """The links to these nodes."""
        return {node: linked.link for node, linked in self._linked.items() if node in nodes}

    def keep_only(self, nodes: Collection[str]) -> None:
        """End the links to all others."""
        for node in [node for node in self._linked if node not in nodes]:
            linked = self._linked.pop(node)
            logger.info("peer_gone node=%s url=%s", node, linked.channel.at.url)
            self._end(linked)

    def address_of(self, node: str) -> str:
        """The network address of a node that has a link; empty when it has none."""
        linked = self._linked.get(node)
        return linked.channel.at.addresses[0] if linked is not None else ""

    def stop(self) -> None:
        """End all."""
        self._client.close()
        for linked in self._linked.values():
            linked.link.stop()

    def _end(self, linked: _Linked) -> None:
        linked.link.stop()
        self._client.forget(linked.channel)
