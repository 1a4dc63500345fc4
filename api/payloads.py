"""A job's payload: the fields we know are checked, the others are the host's business and stay as they are."""

import re
from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError

from api.fields import Strict, problem, shown, wrong

KIND = re.compile(r"[a-z][a-z0-9._-]{0,63}")
MAX_ARGS, MAX_ENV, DAY_MS = 1024, 1024, 86_400_000
ENV_NAME = re.compile(r"(?!LD_|DYLD_|SKYCLAW_)[A-Za-z_][A-Za-z0-9_]{0,127}")
ENV_RULE = "at most 128 letters, digits and underscores, no digit first, and none that begins with LD_, DYLD_ or SKYCLAW_"
TEXTS = {"shell": ("cwd",), "openclaw-run": ("openclawDir", "cwd"), "automaton-run": ("automatonDir", "cwd")}


class Payload(Strict):
    """The whole payload, as it was sent."""

    def read(self, value: Any) -> dict[str, Any]:
        return payload(value)


def payload(value: Any) -> dict[str, Any]:
    """The payload itself; raises ValidationError. Of a kind that is not known here only the kind and the time limit are checked."""
    if not isinstance(value, dict):
        raise wrong("an object", value)
    kind = value.get("kind")
    if kind in (None, ""):
        raise problem("is required", "kind")
    if not isinstance(kind, str) or not KIND.fullmatch(kind):
        raise wrong("a name of at most 64 lower-case letters, digits and . _ -", kind, "kind")
    limit = value.get("timeoutMs")
    if "timeoutMs" in value and (type(limit) is not int or not 1 <= limit <= DAY_MS):
        raise wrong(f"a whole number from 1 to {DAY_MS}", limit, "timeoutMs")
    if kind in TEXTS:
        _check_run(kind, value)
    return value


def _check_run(kind: str, value: dict[str, Any]) -> None:
    if kind == "shell":
        command = value.get("command")
        if command in (None, ""):
            raise problem("is required", "command")
        if not isinstance(command, str):
            raise wrong("a text", command, "command")
    for name in TEXTS[kind]:
        if name in value and not isinstance(value[name], str):
            raise wrong("a text", value[name], name)
    if "args" in value:
        _within("args", check_args, value["args"])
    if "env" in value:
        _within("env", check_env, value["env"])


def _within(name: str, check: Callable[[Any], None], value: Any) -> None:
    """Check a field of the payload; its messages name it."""
    try:
        check(value)
    except ValidationError as error:
        raise ValidationError({name: error.messages}) from None


def check_args(args: Any) -> None:
    """Raises ValidationError unless they are what a program may be called with."""
    if not isinstance(args, list) or len(args) > MAX_ARGS:
        raise problem(f"must be a list of at most {MAX_ARGS} texts")
    for position, arg in enumerate(args):
        if not isinstance(arg, str):
            raise wrong("a text", arg, str(position))


def check_env(env: Any) -> None:
    """Raises ValidationError unless it is an environment that a job may set."""
    if not isinstance(env, dict) or len(env) > MAX_ENV:
        raise problem(f"must be an object of at most {MAX_ENV} texts")
    for name, text in env.items():
        if not ENV_NAME.fullmatch(name):
            raise problem(f"must have names that a job may set: {ENV_RULE}; unlike {shown(name)}")
        if not isinstance(text, str):
            raise wrong("a text", text, name)
