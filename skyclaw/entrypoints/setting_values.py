"""How the text of one environment variable becomes a value, and the sentence when it does not.

Numbers are decimal digits and nothing else, an empty scalar counts as not set, an empty list is an empty list.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from environs import Env, EnvValidationError, ValidationError

from skyclaw.entrypoints.setting_names import KNOWN
from skyclaw.errors import SettingsWrong

SHOWN = 40  # characters of a wrong value that are shown
_TRUE = frozenset({"1", "yes", "true", "on"})
_FALSE = frozenset({"0", "no", "false", "off"})
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_TOKEN = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,512}")


def whole(raw: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`."""
    if not re.fullmatch(r"-?[0-9]{1,18}", raw.strip(), re.ASCII) or not low <= int(raw) <= high:
        raise ValidationError(f"must be a whole number from {low} to {high}")
    return int(raw)


def boolean(raw: str) -> bool:
    """1, yes, true, on or 0, no, false, off, in any case."""
    word = raw.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValidationError("must be 1, yes, true, on or 0, no, false, off")
    return word in _TRUE


def choice(raw: str, among: tuple[str, ...]) -> str:
    """One of the given words."""
    if raw.strip() not in among:
        raise ValidationError(f"must be {' or '.join(among)}")
    return raw.strip()


def words(raw: str) -> tuple[str, ...]:
    """A comma list without its blank items, each once, in the given order."""
    return tuple(dict.fromkeys(item.strip() for item in raw.split(",") if item.strip()))


def name(raw: str, longest: int = 128) -> str:
    """Printable text of one line, at most `longest` characters."""
    if not raw.isprintable() or not 1 <= len(raw.strip()) <= longest:
        raise ValidationError(f"must be 1 to {longest} printable characters")
    return raw.strip()


def identifier(raw: str, longest: int = 128) -> str:
    """Letters, digits and . _ : - as ids and capabilities consist of."""
    if not _WORD.fullmatch(raw.strip()) or len(raw.strip()) > longest:
        raise ValidationError(f"must be at most {longest} letters, digits and . _ : -")
    return raw.strip()


def identifiers(raw: str, longest: int = 64, most: int = 64) -> tuple[str, ...]:
    """A comma list of at most `most` identifiers."""
    found = words(raw)
    if len(found) > most:
        raise ValidationError(f"must be at most {most} items")
    return tuple(identifier(item, longest) for item in found)


def address(raw: str) -> str:
    """An http or https address without a trailing slash."""
    text = raw.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or "@" in parts.netloc or parts.query or parts.fragment or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValidationError("must be an address like http://127.0.0.1:8787, without user, query or fragment")
    return text


def http_path(raw: str, longest: int = 1_024) -> str:
    """A path as it stands in a request, with or without a query: visible ASCII characters from a slash on."""
    if not re.fullmatch(r"/[\x21-\x7e]*", raw.strip()) or "#" in raw or len(raw.strip()) > longest:
        raise ValidationError(f"must be a path like /health of at most {longest} visible characters")
    return raw.strip()


def addresses(raw: str) -> tuple[str, ...]:
    """A comma list of addresses; blank items are dropped."""
    return tuple(dict.fromkeys(address(item) for item in words(raw)))


def networks(raw: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """A comma list of networks like 10.0.0.0/8."""
    try:
        return tuple(ipaddress.ip_network(item) for item in words(raw))
    except ValueError:
        raise ValidationError("must be networks like 10.0.0.0/8 or fc00::/7, separated by commas") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def folders(raw: str) -> tuple[Path, ...]:
    """A comma list of absolute folders."""
    found = tuple(Path(item) for item in words(raw))
    if not all(path.is_absolute() for path in found):
        raise ValidationError("must be absolute folders, separated by commas")
    return found


def tokens(raw: str) -> tuple[str, ...]:
    """One token, or two while it is exchanged; the first is the one to send."""
    found = words(raw)
    if not 1 <= len(found) <= 2 or not all(_TOKEN.fullmatch(token) for token in found):
        raise ValidationError("must be one token or two with a comma between them, of visible ASCII characters")
    return found


_KINDS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (whole, boolean, choice, words, name, identifier, identifiers, http_path, address, addresses, networks, folders, tokens)
}
_EMPTY_COUNTS = frozenset({"words", "identifiers", "folders", "networks"})


class Environment(Env):
    """The settings in a given mapping, which need not be the process's own environment."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__()
        self.given = given
        for kind, parser in _KINDS.items():
            self.add_parser(kind, parser)

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self.given.get(env_key, default)

    def present(self, setting: str) -> bool:
        """Whether it is set to more than nothing."""
        return bool(self.given.get(setting, "").strip())

    def read(self, setting: str, kind: str, **limits: Any) -> Any:
        """The value of a known setting, or None when it has none; raises SettingsWrong."""
        default = KNOWN[setting].default
        if not self.present(setting) and not (setting in self.given and kind in _EMPTY_COUNTS):
            return _KINDS[kind](default, **limits) if default or kind in _EMPTY_COUNTS else None
        try:
            return getattr(self, kind)(setting, **limits)
        except EnvValidationError as wrong:
            raise SettingsWrong(_sentence(setting, self.given[setting], wrong.error_messages)) from None


def _sentence(setting: str, value: str, rules: Any) -> str:
    shown = "" if KNOWN[setting].secret else f"={shortened(value)}"
    return f"{setting}{shown} {'; '.join(map(str, rules))}"


def shortened(value: str) -> str:
    """A value as it may stand in a message: one line, at most 40 characters, nothing that moves the cursor."""
    text = value if len(value) <= SHOWN else f"{value[:SHOWN]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
