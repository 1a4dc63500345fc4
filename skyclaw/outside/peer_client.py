"""The channels to all coordinators that may be asked something, and the one question that strangers are asked."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skyclaw.outside.peer_addresses import Pinned
from skyclaw.outside.peer_channel import Channel, PeerSilent, Reply, tls_context

FORWARD_LIMIT = 64 * 1024 * 1024  # bytes of an answer that is passed on to a client
PROOF_LIMIT, PROOF_S = 64 * 1024, 4.0
OURS = frozenset({"host", "x-skyclaw-token", "content-length", "connection", "transfer-encoding"})  # headers that are not passed on


class PeerClient:
    """Asks other coordinators, from any thread. Only those that were made known get the token, each the one that it proved to know."""

    def __init__(self, ca_file: Path | None = None) -> None:
        self._tls = tls_context(ca_file)
        self._lock = threading.Lock()
        self._channels: dict[str, Channel] = {}

    def know(self, at: Pinned, token: str | None) -> Channel:
        """The coordinator at this address may be asked, and is to be shown this token."""
        channel = Channel(at, token, self._tls)
        with self._lock:
            before = self._channels.pop(str(at.url), None)
            self._channels[str(at.url)] = channel
        if before is not None:
            before.close()
        return channel

    def forget(self, channel: Channel) -> None:
        """Ask nothing more on this channel; what is under way ends. A later one to the same address stays."""
        with self._lock:
            if self._channels.get(str(channel.at.url)) is channel:
                del self._channels[str(channel.at.url)]
        channel.close()

    def channel(self, url: str) -> Channel:
        """The way to a known coordinator; raises PeerSilent."""
        with self._lock:
            channel = self._channels.get(url)
        if channel is None:
            raise PeerSilent("not a peer")
        return channel

    def forward(
        self, url: str, method: str, path_with_query: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Reply:
        """Pass a client's request on to a known coordinator, with our token instead of the client's; raises PeerSilent.

        It is sent once: when `PeerSilent.sent` is False it has certainly not arrived.
        """
        kept = {name.lower(): value for name, value in headers.items() if name.lower() not in OURS}
        return self.channel(url).ask(method, path_with_query, kept, body, timeout_s, FORWARD_LIMIT)

    def proof(self, at: Pinned, nonce: str) -> dict[str, Any]:
        """What a stranger says to prove itself; nothing secret is sent. Raises ServerRefused, PeerSilent."""
        channel = Channel(at, None, self._tls)
        try:
            return channel.call("GET", f"/v1/network/proof?nonce={nonce}", None, PROOF_S, PROOF_LIMIT)
        finally:
            channel.close()

    def close(self) -> None:
        """Ask nobody anything more."""
        with self._lock:
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()
