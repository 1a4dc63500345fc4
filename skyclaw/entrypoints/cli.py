"""The command line: takes it apart, lets fire call the verb, and turns every error into one line on stderr and an exit code."""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from skyclaw import __version__
from skyclaw.entrypoints import help_text, rendering
from skyclaw.entrypoints.argv import Line, folded, take_apart
from skyclaw.entrypoints.finding import Advised
from skyclaw.entrypoints.verbs import Verb
from skyclaw.errors import (
    AddressUnusable,
    DatabaseLocked,
    Invalid,
    NotACoordinator,
    ServerRefused,
    SettingsWrong,
    SkyclawError,
    StartRefused,
    Unreachable,
    UsageWrong,
)

USAGE, CONFIGURATION, AUTHORISATION, UNREACHABLE, REFUSED = 2, 3, 4, 5, 6
INTERRUPTED, BROKEN_PIPE = 130, 141
ABOUT_A_VALUE = (400, 413, 422)  # statuses of a request whose command was right

_NEXT = {
    "unknown_job": "skyclaw jobs lists the jobs",
    "unknown_host": "skyclaw hosts lists the hosts",
    "unknown_service": "skyclaw list-services lists the services",
    "unknown_bundle": "deploy it with --bundle",
    "already_finished": "skyclaw status shows it",
    "not_finished": "skyclaw wait follows it",
    "idempotency_conflict": "use another --key for another command",
    "queue_full": "try again later",
    "unknown_log": "skyclaw peers lists the logs",
    "wrong_voters": "skyclaw peers lists the coordinators",
    "better_copy": "--from-behind does it here all the same",
    "own_node": "skyclaw leave does that",
    "own_address": "name that of the other one",
    "not_waiting": "skyclaw peers lists those that do",
}

_SETTINGS = {
    AddressUnusable: "SKYCLAW_COORDINATOR_HOST and SKYCLAW_COORDINATOR_PORT name another",
    DatabaseLocked: "SKYCLAW_DB_PATH names it",
}


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command line (without the program's name); the answer is the exit code. Never raises for an error of any kind."""
    verb: Verb | None = None
    try:
        _let_streams_write_anything()
        line = take_apart(argv)
        verb = line.verb
        code = _run(line, environ)
        rendering.finish()
    except KeyboardInterrupt:
        rendering.say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except rendering.CannotWrite as error:
        _forget_stdout()
        rendering.say(str(error))
        return 1
    except SkyclawError as error:
        rendering.say(_sentence(error, environ, verb))
        return exit_code(error)
    except Exception as error:
        return _unexpected(error, environ)
    return code


def exit_code(error: SkyclawError) -> int:
    """The exit code for whose fault it was."""
    if isinstance(error, ServerRefused):
        return AUTHORISATION if error.status in (401, 403) else REFUSED
    known = ((UsageWrong, USAGE), (Invalid, USAGE), (StartRefused, CONFIGURATION), (Unreachable, UNREACHABLE), (NotACoordinator, REFUSED))
    return next((code for kind, code in known if isinstance(error, kind)), 1)


def addresses_name(environ: Mapping[str, str]) -> str:
    """The variable that says where the coordinators are, or could."""
    return "SKYCLAW_COORDINATOR_URLS" if environ.get("SKYCLAW_COORDINATOR_URLS", "").strip() else "SKYCLAW_COORDINATOR_URL"


def _run(line: Line, environ: Mapping[str, str]) -> int:
    if line.version:
        rendering.show(f"skyclaw {__version__}")
    elif line.verb is None:
        rendering.show(help_text.of_all())
    elif line.help:
        rendering.show(help_text.of_one(line.verb))
    else:
        with _json_lines() if line.verb.prints_lines and "json" in line.options else contextlib.nullcontext():
            return _call(line.verb, folded(line), environ)
    return 0


def _json_lines() -> contextlib.AbstractContextManager[object]:
    from skyclaw.entrypoints.process_log import JsonStdout

    return contextlib.redirect_stdout(JsonStdout(sys.stdout))


def _call(verb: Verb, command: list[str], environ: Mapping[str, str]) -> int:
    """Let fire call the verb's function. Every value comes as JSON and is read as JSON, so no word is ever taken for a Python value."""
    import fire

    from skyclaw.entrypoints.session import Session

    function, session = verb.load(), Session(environ)

    def call(words: list[str], **options: Any) -> int:
        return function(session, words, **options)

    fire.decorators.SetParseFn(json.loads)(call)
    code: int = fire.Fire({verb.name: call}, command=command, name="skyclaw", serialize=lambda _: None)
    return code


def _sentence(error: SkyclawError, environ: Mapping[str, str], verb: Verb | None = None) -> str:
    """The cause and the next thing to type."""
    if isinstance(error, Unreachable):
        start = f"start one with: skyclaw coordinator, or try: skyclaw dev; {addresses_name(environ)} says where it is"
        return f"{error}; {_hidden_dev(environ) or start}"
    if isinstance(error, NotACoordinator):
        return f"{error}; check {addresses_name(environ)} with: skyclaw config"
    if isinstance(error, ServerRefused):
        said = f"request failed ({error.status}): {rendering.cause(error.error)}{_about_fields(error)}"
        return rendering.legible(said) + (f"; {error.advice}" if isinstance(error, Advised) else _next_thing(error, environ, verb))
    return str(error) + next((f"; {advice}" for kind, advice in _SETTINGS.items() if isinstance(error, kind)), "")


def _hidden_dev(environ: Mapping[str, str]) -> str:
    """What to unset so that commands find the dev that runs; empty when none runs, or nothing hides it."""
    from skyclaw.entrypoints import dev_file
    from skyclaw.entrypoints.settings import client_settings

    try:
        client = client_settings(environ)
    except SettingsWrong:  # it was not the client of these settings that asked
        return ""
    found, names = dev_file.living(client.home), dev_file.hidden_by(environ)
    if found is None or client.source == "dev" or not names:
        return ""
    return f"skyclaw dev runs at {found.url}: unset {' and '.join(names)} to use it"


def _about_fields(error: ServerRefused) -> str:
    """What else is wrong with the request: its sentence is about the first field only."""
    if error.status != 400:
        return ""
    said = [f"{name} {value[0] if isinstance(value, list) and value else value}" for name, value in error.details.items()]
    return f" (also: {'; '.join(said[1:4])})" if said[1:] else ""


def _next_thing(error: ServerRefused, environ: Mapping[str, str], verb: Verb | None) -> str:
    if error.status in (401, 403):
        hidden = _hidden_dev(environ)
        return f"; set SKYCLAW_TOKEN or SKYCLAW_TOKEN_FILE to the coordinator's token{f', or: {hidden}' if hidden else ''}"
    if error.code in _NEXT:
        return f"; {_NEXT[error.code]}"
    if error.details.get("written") == "unknown":
        return _after_doubt(error, verb)
    if error.status >= 500:
        tried = error.details.get("triedForS")
        when = f"given up after {tried} s" if tried else f"try again in {error.retry_after or 1:.0f} s"
        return f"; {when}, skyclaw doctor looks for the cause"
    return "" if error.status in ABOUT_A_VALUE else "; skyclaw --help shows the commands"


def _after_doubt(error: ServerRefused, verb: Verb | None) -> str:
    """What to type when nobody knows whether it was done."""
    takes_key = verb is not None and any(option.name == "key" for option in verb.options)
    if takes_key and (key := error.details.get("key")):
        return f"; type it again with --key={shlex.quote(key)}: it will not be done twice"
    return "; look whether it was done before you type it again"


def _unexpected(error: Exception, environ: Mapping[str, str]) -> int:
    """A mistake of ours, or a machine that does not play along: one line, and the traceback on request."""
    if environ.get("SKYCLAW_DEBUG", "").strip().lower() in ("1", "yes", "true", "on"):
        import traceback

        traceback.print_exception(error)
    rendering.say(f"unexpected {type(error).__name__}: {error}; SKYCLAW_DEBUG=1 shows the traceback")
    return 1


def _let_streams_write_anything() -> None:
    """A name that the terminal's encoding lacks must not end the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """What is still to be written to a stdout that takes nothing is dropped, or the interpreter's own flush would complain."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
