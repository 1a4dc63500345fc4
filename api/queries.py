"""Reading query parameters, as strictly as bodies."""

import re

from falcon import Request
from marshmallow import ValidationError

from api.fields import shown

DIGITS = re.compile(r"[0-9]{1,18}")


def text(req: Request, name: str) -> str | None:
    """A parameter that may be given once."""
    values = req.get_param_as_list(name) or []
    if len(values) > 1:
        raise ValidationError({name: ["must be given once"]})
    return values[0] if values else None


def whole(req: Request, name: str, low: int, high: int, default: int) -> int:
    """A whole number between two others."""
    given = text(req, name)
    if given is None:
        return default
    if not DIGITS.fullmatch(given) or not low <= int(given) <= high:
        raise ValidationError({name: [f"must be a whole number from {low} to {high}, not {shown(given)}"]})
    return int(given)


def choice(req: Request, name: str, among: tuple[str, ...]) -> str | None:
    """One of some words."""
    given = text(req, name)
    if given is not None and given not in among:
        raise ValidationError({name: [f"must be one of {', '.join(among)}, not {shown(given)}"]})
    return given
