"""Takes the command line apart before fire sees it.

fire reads words as Python values, calls a function with the words it likes and complains about the others afterwards. So:

1. The first word is the verb. Before it stand only --help and --version.
2. A verb that carries a command takes its own options up to the command word: known ones only, `--name=value`, `--name value`, `--flag`.
   A `--` there ends them and is dropped. From the command word on every word is the command's, byte for byte.
3. Any other verb takes its options anywhere, up to a `--`.
4. What is left goes to fire as JSON, one word for each value, and is read back as JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from skyclaw.entrypoints.setting_names import nearest
from skyclaw.entrypoints.verbs import VERBS, Option, Verb
from skyclaw.errors import UsageWrong


@dataclass(frozen=True, slots=True)
class Line:
    """A command line, taken apart. No verb means help for all of them; `help` means help for the verb."""

    verb: Verb | None
    words: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    help: bool = False
    version: bool = False


def take_apart(argv: Sequence[str]) -> Line:
    """The words after the program's name; raises UsageWrong."""
    _check_text(argv)
    if not argv or argv[0] in ("-h", "--help"):
        return Line(None, help=True)
    if argv[0] == "--version":
        return Line(None, version=True)
    verb = _verb(argv[0])
    options, words, wants_help = _split(verb, argv[1:])
    if not wants_help:
        _check_count(verb, words)
    return Line(verb, words, options, wants_help)


def folded(line: Line) -> list[str]:
    """The line in fire's words: one JSON text for the words, one for each option."""
    if line.verb is None:
        return []
    named = [f"--{name.replace('-', '_')}={json.dumps(value)}" for name, value in line.options.items()]
    return [line.verb.name, json.dumps(line.words), *named]


def _check_text(argv: Sequence[str]) -> None:
    for place, word in enumerate(argv, 1):
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageWrong(f"argument {place} is not UTF-8 text: {word!a}; put such bytes into a file") from None


def _verb(word: str) -> Verb:
    if word in VERBS:
        return VERBS[word]
    if word.startswith("-"):
        raise UsageWrong(f"unknown option {word} before the command; options follow the command: skyclaw <command> --json")
    guess = nearest(word, VERBS)
    raise UsageWrong(f"unknown command: {word}; " + (f"did you mean {guess}?" if guess else "skyclaw --help lists them"))


def _split(verb: Verb, rest: Sequence[str]) -> tuple[dict[str, Any], list[str], bool]:
    """Options, words and whether help was asked for."""
    options: dict[str, Any] = {}
    words: list[str] = []
    left = list(rest)
    while left:
        word = left.pop(0)
        if word == "--":
            return options, words + left, False
        if word in ("-h", "--help"):
            return {}, [], True
        if word.startswith("-") and word != "-":
            _take(verb, word, left, options)
        elif verb.carries_command:
            return options, [word, *left], False
        else:
            words.append(word)
    return options, words, False


def _take(verb: Verb, word: str, left: list[str], options: dict[str, Any]) -> None:
    """Put the option `word` into `options`; its value may be the next word, which is then taken from `left`."""
    name, equals, value = word.partition("=")
    option = next((known for known in verb.options if name in known.names), None)
    if option is None:
        raise UsageWrong(_unknown_option(verb, name))
    if option.kind == "flag":
        if equals:
            raise UsageWrong(f"{verb.name}: {name} takes no value")
        options[option.name] = True
        return
    if not equals:
        value = _next_value(verb, option, left)
    if not value and not (equals and option.may_be_empty):
        raise UsageWrong(f"{verb.name}: {name} is empty; write {option.typed}, or leave it out")
    if option.kind == "list":
        options.setdefault(option.name, []).append(value)
    elif option.name in options:
        raise UsageWrong(f"{verb.name}: {name} is given twice")
    else:
        options[option.name] = value


def _next_value(verb: Verb, option: Option, left: list[str]) -> str:
    if not left or left[0].startswith("-"):
        raise UsageWrong(f"{verb.name}: --{option.name} needs a value; write {option.typed} ({option.meaning.partition(';')[0]})")
    return left.pop(0)


def _unknown_option(verb: Verb, name: str) -> str:
    guess = nearest(name, [f"--{option.name}" for option in verb.options])
    hint = f"did you mean {guess}?" if guess else f"skyclaw {verb.name} --help lists them"
    also = f"; put -- before words that belong to the {verb.runs}" if verb.carries_command else ""
    return f"{verb.name}: unknown option {name}; {hint}{also}"


def _check_count(verb: Verb, words: list[str]) -> None:
    ours = words[: verb.least] if verb.carries_command else words
    if "" in ours and verb.least == 0:
        raise UsageWrong(f"{verb.name}: {verb.words} is empty; leave it out, or skyclaw {verb.name} --help shows how")
    if len(words) < verb.least or "" in ours:
        what = "a command" if verb.words.startswith("<command>") else verb.words
        raise UsageWrong(f"{verb.name} requires {what}; skyclaw {verb.name} --help shows how")
    if verb.most is not None and len(words) > verb.most:
        takes = f"takes only {verb.words}" if verb.words else "takes no words"
        raise UsageWrong(f"{verb.name} {takes}; not needed: {' '.join(words[verb.most :])}")
