"""A coordinator with a planted bug: a write counts as safe when one coordinator has it. The kill test must find it out."""

import os
import sys
import threading

from skyclaw.cluster import replication
from skyclaw.cluster.configuration import Configuration
from skyclaw.cluster.replica import Ownership
from skyclaw.entrypoints.cli import main
from skyclaw.outside.peer_link import PeerLink

_held_by, _exchange = replication._held_by, PeerLink._exchange


def held_by(one: Configuration, owned: Ownership) -> int:
    """What one voter has counts as if all had it."""
    return _held_by(one._replace(copies=1), owned)


def exchange(self: PeerLink, body: bytes) -> None:
    """A network that takes its time, which does no harm by itself."""
    threading.Event().wait(0.03)
    _exchange(self, body)


replication._held_by = held_by
PeerLink._exchange = exchange  # type: ignore[method-assign]
sys.exit(main(["coordinator"], os.environ))
