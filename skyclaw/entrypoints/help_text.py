"""The help: all verbs in their groups with the environment, or one verb with its options. Plain data, no import that costs time."""

from collections.abc import Iterable

from skyclaw import __doc__ as about
from skyclaw import __version__
from skyclaw.entrypoints.setting_names import KNOWN
from skyclaw.entrypoints.verbs import VERBS, Verb

_RULES = """\
A job is named by its id, by the beginning of it, or of its part after the first dash: 92ac for job_9c8d7e6f-92ac-...
A service is named by its name, its id, or the beginning of its id.
Options stand before the command word of a job, as --name=value; what follows the command word belongs to the job, untouched.
Exit codes: 2 usage, 3 configuration or storage, 4 authorisation, 5 unreachable, 6 refused; run and wait exit with the job's own code,
124 when it timed out, 130 when it was cancelled."""


def of_all() -> str:
    """The help for all verbs."""
    parts = [f"{about}\n\nUsage: skyclaw <command> [options] [words]        version {__version__}"]
    for group in dict.fromkeys(verb.group for verb in VERBS.values()):
        rows = [(f"{verb.name} {verb.words}".rstrip(), verb.summary) for verb in VERBS.values() if verb.group == group]
        parts.append(f"{group}:\n{_aligned(rows, 38)}")
    parts.append("skyclaw <command> --help shows a command's options; --json prints any answer as JSON.\n" + _RULES)
    rows = [(f"{setting.name}={setting.default}", setting.meaning) for setting in KNOWN.values() if setting.used]
    parts.append(f"Environment:\n{_aligned(rows, 62)}")
    return "\n\n".join(parts)


def of_one(verb: Verb) -> str:
    """The help for one verb."""
    parts = [f"Usage: skyclaw {verb.name} [options] {verb.words}".rstrip(), verb.summary[0].upper() + verb.summary[1:] + "."]
    parts.append("Options:\n" + _aligned([(", ".join([*option.names[1:], option.typed]), option.meaning) for option in verb.options], 24))
    if verb.carries_command:
        first = "command word; from there" if verb.runs == "job" else "name; from the command"
        parts.append(f"Options stand before the {first} on every word is the {verb.runs}'s. A -- before it is dropped.")
    if verb.notes:
        parts.append(verb.notes)
    return "\n\n".join(parts)


def _aligned(rows: Iterable[tuple[str, str]], width: int) -> str:
    return "\n".join(f"  {left.ljust(width)}  {right}".rstrip() for left, right in rows)
