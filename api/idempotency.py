"""Idempotency keys: what identifies a request, and how an answer that was given before is given again."""

import hashlib
import json
import re
from typing import Any

from falcon import Request

from api.errors import HttpRefused
from skyclaw.commands import Keyed

KEY = re.compile(r"[\x21-\x7e]{1,255}")


def keyed(req: Request, body: dict[str, Any]) -> Keyed | None:
    """The request's key, if it has one: the same path and the same body, whatever the order of its names, are the same request."""
    key = req.env.get("HTTP_X_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not KEY.fullmatch(key):
        raise HttpRefused(400, "bad_idempotency_key", "x-idempotency-key must be 1 to 255 printable ASCII characters without spaces")
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return Keyed(req.path, key, hashlib.sha256(f"{req.path}\n{canonical}".encode()).hexdigest()[:32])
