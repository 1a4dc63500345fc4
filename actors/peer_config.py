"""What PeerManager is told at its start: who this coordinator is, whom it shall know, and whom to tell what it learns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skyclaw.cluster.messages import Message, Pull
from skyclaw.outside.peer_addresses import DEFAULT_NETWORKS, BadPeerUrl, Network, parse


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """A coordinator among its peers; `url` is what it announces, None when nobody can reach it. The tokens are those of peers."""

    node: str
    label: str
    log: str | None  # tag of its own log; a witness has none
    url: str | None
    tokens: tuple[str, ...] = field(default=(), repr=False)
    peer_urls: tuple[str, ...] = ()
    discovery: bool = True
    sync_ms: int = 3_000
    networks: tuple[Network, ...] = DEFAULT_NETWORKS
    ca_file: Path | None = None
    witness: bool = False
    strict: bool = False  # coordinators have a token of their own: only those that a log or the operator names may change a log


@dataclass(frozen=True, slots=True)
class Outlook:
    """The rest of the coordinator as PeerManager sees it. Called by several threads; nothing here may wait for another coordinator."""

    arrived: Callable[[str, Sequence[Message]], None]  # messages of a node, for the Replicator
    undelivered: Callable[[str], None]  # whatever was given to this node's link may be lost
    pull: Callable[[], Pull | None]  # what to ask a peer for; None: nothing
    positions: Callable[[], Mapping[str, int]]  # tag of a log: how far the copy here is committed
    ready: Callable[[], bool] = lambda: True
    leaving: Callable[[], bool] = lambda: False  # are others to take over what this one does?
    heard_hosts: Callable[[], Mapping[str, int]] = dict  # id of a host that was heard of here: ms since then
    on_hosts: Callable[[str, Mapping[str, int]], None] = lambda _node, _hosts: None  # a peer heard of these
    evict: Callable[[str], None] = lambda _node: None  # the operator turned it out: write it down; raises refusals
    leave: Callable[[], None] = lambda: None  # the operator wants this coordinator to leave the network; raises refusals


def normal(url: str) -> str:
    """The one way to write the address of a coordinator; what cannot be one stays as it is."""
    try:
        return str(parse(url))
    except BadPeerUrl:
        return url
