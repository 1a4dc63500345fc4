"""A coordinator with a planted bug: it answers before the commit. The kill test must find it out."""

import os
import sys
import threading

from actors.replicator import Append, Replicator
from skyclaw.entrypoints.cli import main

_handle = Replicator.handle


def handle(self: Replicator, message: object) -> None:
    """Answer at once, and commit a little later."""
    if isinstance(message, Append) and message.events:
        for reply, answer in message.answers:
            reply.set(answer)
        threading.Event().wait(0.02)
    _handle(self, message)


Replicator.handle = handle  # type: ignore[method-assign]
sys.exit(main(["coordinator"], os.environ))
