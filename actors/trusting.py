"""From whom a node takes what changes its logs, where coordinators have a token of their own.

Then the token alone is not enough: Append, Ask, Grant, Ack, Campaign and committed news count only from a node that a configuration of the
local copy names, or that the operator configured; of a log that is not known yet, from anybody who was admitted. Names are what a node says
of itself, so this keeps out nodes that were set up wrongly, not somebody who holds the token and lies.
"""

import logging
from collections.abc import Callable, Iterable, Iterator

from skyclaw.cluster.configuration import voters_of
from skyclaw.cluster.messages import Message, Pull, Pulled
from skyclaw.cluster.replication import Node

logger = logging.getLogger(__name__)

Configured = Callable[[str], bool]  # is this node one of those that the operator named?


def anybody(_node: str) -> bool:
    """Every coordinator that knows the token is trusted."""
    return True


def trusted(messages: Iterable[Message], src: str, node: Node, is_configured: Configured) -> Iterator[Message]:
    """What of these messages counts."""
    if is_configured(src):
        yield from messages
        return
    for message in messages:
        if isinstance(message, Pull):
            yield message
        elif isinstance(message, Pulled):
            yield Pulled(tuple(news for news in message.news if _has_a_say(src, news.log, node)))
        elif _has_a_say(src, message.log, node):
            yield message


def _has_a_say(src: str, log: str, node: Node) -> bool:
    if log not in node.logs:
        return True
    configurations = node.replica(log).configurations
    known = not configurations or any(src in voters_of(one) for _, one in configurations)
    if not known:
        logger.warning("message_not_trusted from=%s log=%s", src, log)
    return known
