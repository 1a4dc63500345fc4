"""The shared token: who shows it may do everything, nobody else may do anything but ask for the coordinator's health, or for its proof.

Where coordinators have a token of their own, it alone opens what only they should do; for everything else it is as good as the shared one,
because they pass on what their clients ask.
"""

import hashlib
import hmac
from collections.abc import Iterable

from falcon import Request, Response

from api.errors import HttpRefused

OPEN_PATHS = frozenset({"/health", "/v1/network/proof"})
PEER_PATHS = frozenset({"/v1/network/status", "/v1/network/join"})
PEER_PREFIX = "/v1/replicate/"


class TokenAuth:
    """Middleware that compares digests, so that the time it takes tells nothing; without tokens everything is open."""

    def __init__(self, tokens: Iterable[str], peer_tokens: Iterable[str] = ()) -> None:
        self._digests = [_digest(token.encode()) for token in tokens]
        self._peer_digests = [_digest(token.encode()) for token in peer_tokens]

    def process_request(self, req: Request, _resp: Response) -> None:
        """Refuse whoever shows no token or a wrong one, before anybody learns which paths there are."""
        path = req.path
        if path in OPEN_PATHS:
            return
        digest = _digest(req.env.get("HTTP_X_SKYCLAW_TOKEN", "").encode("latin-1", "replace"))  # the bytes as they came
        is_shared, is_peers = _among(digest, self._digests), _among(digest, self._peer_digests)
        if self._peer_digests and (path in PEER_PATHS or path.startswith(PEER_PREFIX)):
            if is_shared and not is_peers:
                raise HttpRefused(403, "forbidden", "only coordinators may do this, with SKYCLAW_PEER_TOKEN")
            allowed = is_peers
        else:
            allowed = is_shared or is_peers or not self._digests
        if not allowed:
            raise HttpRefused(401, "unauthorized", "unauthorized", {"WWW-Authenticate": "Skyclaw"})


def _among(digest: bytes, known: Iterable[bytes]) -> bool:
    """Is it one of these? Looks at all of them, whatever it finds."""
    found = False
    for one in known:
        found |= hmac.compare_digest(digest, one)
    return found


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
