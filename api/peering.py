"""What the routes between coordinators need: somebody who knows the others, and somebody who takes in what they say about logs."""

from collections.abc import Sequence
from typing import Protocol

from skyclaw.cluster.address_book import Hint, Peer
from skyclaw.cluster.messages import Message
from skyclaw.cluster.peer_status import PeerStatus


class Proof(Protocol):
    """What proves to a stranger who we are."""

    @property
    def node(self) -> str:
        """The own id."""

    @property
    def label(self) -> str:
        """The own name."""

    @property
    def url(self) -> str:
        """The own address."""

    @property
    def proofs(self) -> Sequence[str]:
        """One for each live token."""


class Network(Protocol):
    """Knows the other coordinators; waits for none of them. `sender` is always a network address."""

    @property
    def node(self) -> str:
        """The own id."""

    @property
    def url(self) -> str | None:
        """The own address, as it is announced."""

    def peers(self) -> Sequence[Peer]:
        """The admitted ones."""

    def hints(self) -> Sequence[Hint]:
        """The addresses that have not proved themselves."""

    def evicted(self, node: str) -> bool:
        """Was it turned out?"""

    def join(self, url: str, sender: str) -> None:
        """Look at this address; raises BadPeerUrl and refusals."""

    def forget(self, url: str) -> None:
        """This address was named by mistake; raises BadPeerUrl, Unknown and refusals."""

    def left(self, node: str) -> None:
        """A coordinator says that it leaves."""

    def leave(self) -> None:
        """This coordinator is to leave; raises refusals."""

    def evict(self, node: str) -> None:
        """Turn a node out; raises refusals."""

    def proof(self, nonce: str) -> Proof:
        """Proves that we know the token; raises Refused without an address."""

    def exchange(self, status: PeerStatus, sender: str) -> PeerStatus:
        """Take in how a coordinator is, and say how we are."""


class Replication(Protocol):
    """Takes in what others say about logs."""

    def receive(self, node: str, messages: Sequence[Message], wait_ms: int) -> Sequence[Message]:
        """What there is to answer within that time, perhaps nothing; raises Unavailable.

        A Pull is answered as soon as there is news, and after the time with none; other messages as soon as all of them are dealt with.
        """
