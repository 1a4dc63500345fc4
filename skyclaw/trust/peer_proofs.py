"""How a coordinator proves that it knows the token without showing it, and at which address it does so.

The proof covers the asker's nonce, the prover's own address and its node id: passed on by somebody in between, it speaks for an address
that is not the one that was asked.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence

PURPOSE = "skyclaw-peer-1"


def proof(token: str, nonce: str, url: str, node: str) -> str:
    """The proof, as hex digits."""
    return hmac.new(token.encode(), "\n".join((PURPOSE, nonce, url, node)).encode(), hashlib.sha256).hexdigest()


def proven_token(tokens: Sequence[str], nonce: str, url: str, node: str, proofs: Iterable[str]) -> str | None:
    """The first of our live tokens that one of these proofs was made with: the one to show; None when there is none.

    A coordinator without tokens proves itself with the empty one.
    """
    shown = [text.encode(errors="replace") for text in proofs]
    found: str | None = None
    for token in reversed(tokens or ("",)):
        expected = proof(token, nonce, url, node).encode()
        if any(hmac.compare_digest(expected, one) for one in shown):
            found = token
    return found
