"""What the gateway passes on of headers, and what it says itself (RFC 9110, section 7.6).

1. Hop-by-hop headers, and those that Connection names, go no further, in either direction.
2. What only proxies may say about a request (X-Forwarded-*, Forwarded) is not believed: the gateway says what it saw itself.
3. Nothing that belongs to Skyclaw reaches a service: no X-Skyclaw-* header, and no credential of its own.
4. Names of several headers come joined by the server; several headers of an answer stay several.
5. A cookie may not be for more than the host that was asked.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from skyclaw.outside.upstream_framing import HOP_BY_HOP, Head

OURS = ("x-skyclaw-", "x-forwarded-")
NOT_PASSED_ON = HOP_BY_HOP | {"host", "content-length", "expect", "forwarded", "via"}
VIA = "1.1 skyclaw"
_DOMAIN = re.compile(r"(?i);[ \t]*domain[ \t]*=[ \t]*([^;]*)")


def request_lines(environ: Mapping[str, Any], length: int | None, secrets: Collection[str], prefix: str) -> str:
    """The headers for the upstream but Host, each with its line end.

    `length` is that of the body, None where none is announced; `prefix` is what the upstream's own paths follow at the gateway.
    """
    connection = environ.get("HTTP_CONNECTION")
    named = {option.strip(" \t").lower() for option in connection.split(",")} if connection else ()
    lines = []
    for key, value in environ.items():
        if (names := _names(key)) is not None and names[0] not in named and not (secrets and _is_secret(names[0], value, secrets)):
            lines.append(f"{names[1]}: {value}\r\n")
    if length is not None:
        lines.append(f"Content-Length: {length}\r\n")
    via, host = environ.get("HTTP_VIA"), environ.get("HTTP_HOST")
    lines.append(f"Via: {via}, {VIA}\r\n" if via else f"Via: {VIA}\r\n")
    if host:
        lines.append(f"X-Forwarded-Host: {host}\r\n")
    lines.append(f"X-Forwarded-For: {environ['REMOTE_ADDR']}\r\nX-Forwarded-Proto: {environ['wsgi.url_scheme']}\r\n")
    lines.append(f"X-Forwarded-Prefix: {prefix}\r\n")
    return "".join(lines)


def answer_headers(head: Head, host: str) -> list[tuple[str, str]]:
    """The headers for the client, who asked this host."""
    headers = [(name, _narrowed(value, host)) if name.lower() == "set-cookie" else (name, value) for name, value in head.headers]
    headers.append(("Via", VIA))
    return headers


@lru_cache(maxsize=1024)
def _names(key: str) -> tuple[str, str] | None:
    """The name of the header behind a key of the environment, in lower case and as it is sent; None for what is not passed on."""
    if not key.startswith("HTTP_") and key != "CONTENT_TYPE":
        return None
    name = key.removeprefix("HTTP_").replace("_", "-").lower()
    if name in NOT_PASSED_ON or name.startswith(OURS):
        return None
    return name, name.title()


def _is_secret(name: str, value: str, secrets: Collection[str]) -> bool:
    return name in ("authorization", "x-api-key") and value.removeprefix("Bearer ").strip() in secrets


def _narrowed(cookie: str, host: str) -> str:
    """The cookie without a Domain that is another one than the host's own name; so it is for this host alone."""
    own = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return _DOMAIN.sub(lambda found: found[0] if found[1].strip(" \t").lstrip(".").lower() == own.lower() else "", cookie)
