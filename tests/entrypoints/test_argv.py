"""The command line taken apart: own options before the command word, everything after it as it was typed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.entrypoints.argv import folded, take_apart
from skyclaw.errors import UsageWrong

CARRYING = ["run", "enqueue-shell", "enqueue-openclaw", "enqueue-automaton"]
anything = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
command_word = anything.filter(lambda word: word and not word.startswith("-"))


@pytest.mark.parametrize("verb", CARRYING)
@given(command=command_word, args=st.lists(anything))
def test_every_word_from_the_command_word_on_arrives_as_it_was_typed(verb: str, command: str, args: list[str]) -> None:
    assert take_apart([verb, command, *args]).words == [command, *args]


@pytest.mark.parametrize("verb", CARRYING)
@given(words=st.lists(anything, min_size=1).filter(lambda words: words[0] != ""))
def test_after_a_double_dash_even_an_option_is_the_command(verb: str, words: list[str]) -> None:
    line = take_apart([verb, "--cap=gpu", "--", *words])
    assert (line.words, line.options) == (words, {"cap": ["gpu"]})


@given(
    words=st.lists(anything, min_size=1).filter(lambda words: words[0] not in ("", "--") and not words[0].startswith("-")),
    value=anything.filter(bool),
)
def test_what_is_handed_to_fire_reads_back_as_what_was_typed(words: list[str], value: str) -> None:
    verb, first, *options = folded(take_apart(["enqueue-shell", f"--key={value}", "--cap=a", "--json", *words]))
    assert (verb, json.loads(first)) == ("enqueue-shell", words)
    read = {name: json.loads(text) for name, _, text in (option.partition("=") for option in options)}
    assert read == {"--key": value, "--cap": ["a"], "--json": True}
    assert not first.startswith("-")


@pytest.mark.parametrize(
    "typed", ["1e5", "None", "[1,2]", "0x10", "True", "{a:b}", "1_000", "'x'", "-lc", "--", "--help", "-h", "--json", "a b", ""]
)
def test_words_that_look_like_something_else_stay_words(typed: str) -> None:
    assert take_apart(["enqueue-shell", "echo", typed]).words == ["echo", typed]


def test_the_line_of_the_readme_gives_command_and_args() -> None:
    assert take_apart(["enqueue-shell", "bash", "-lc", "echo hello from decentralized skyclaw"]).words == [
        "bash",
        "-lc",
        "echo hello from decentralized skyclaw",
    ]


@pytest.mark.parametrize("given", [["--cap=gpu"], ["--cap", "gpu"], ["--cap=gpu", "--"], ["--cap", "gpu", "--"]])
def test_own_options_stand_before_the_command_in_either_form(given: list[str]) -> None:
    line = take_apart(["enqueue-shell", *given, "echo", "x"])
    assert (line.words, line.options) == (["echo", "x"], {"cap": ["gpu"]})


def test_a_list_option_is_given_by_repeating_it() -> None:
    assert take_apart(["run", "--label", "a=1", "--label=b=2", "true"]).options == {"label": ["a=1", "b=2"]}


def test_other_verbs_take_their_options_anywhere() -> None:
    line = take_apart(["status", "job_1", "--json"])
    assert (line.words, line.options) == (["job_1"], {"json": True})


def test_the_value_of_an_option_may_hold_equals_signs() -> None:
    assert take_apart(["run", "--env=A=b=c", "--cwd==", "true"]).options == {"env": ["A=b=c"], "cwd": "="}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["enqueue-shell", "--foo", "echo"], "unknown option --foo"),
        (["enqueue-shell", "--foo=1", "echo"], "unknown option --foo"),
        (["enqueue-shell", "-c", "echo"], "unknown option -c"),
        (["enqueue-shell", "--pririty=1", "echo"], "did you mean --priority?"),
        (["enqueue-shell"], "enqueue-shell requires a command"),
        (["enqueue-shell", ""], "enqueue-shell requires a command"),
        (["enqueue-shell", "--cap", "bash"], "enqueue-shell requires a command"),
        (["run", "--"], "run requires a command"),
        (["run", "--priority", "-5", "true"], "--priority needs a value; write --priority=N (higher goes first, -1000 to 1000)"),
        (["deploy-service", "--replicas", "-1", "a", "b"], "--replicas needs a value; write --replicas=N (instances, 1 to 64)"),
        (["run", "--priority"], "--priority needs a value"),
        (["run", "--json=yes", "true"], "--json takes no value"),
        (["run", "--key=a", "--key=b", "true"], "--key is given twice"),
        (["wait"], "wait requires <job>"),
        (["wait", ""], "wait requires <job>"),
        (["status", ""], "status: [job] is empty; leave it out"),
        (["run", "--key=", "true"], "run: --key is empty; write --key=KEY, or leave it out"),
        (["run", "--cap", "", "true"], "run: --cap is empty; write --cap=NAME"),
        (["jobs", "--status="], "jobs: --status is empty"),
        (["wait", "a", "b"], "not needed: b"),
        (["hosts", "x"], "hosts takes no words; not needed: x"),
        (["statsu"], "unknown command: statsu; did you mean status?"),
        (["qqqqqq"], "unknown command: qqqqqq; skyclaw --help lists them"),
        (["--json", "status"], "unknown option --json before the command"),
        (["run", "echo", "\udcff"], r"argument 3 is not UTF-8 text: '\udcff'"),
    ],
)
def test_a_wrong_line_is_refused_with_its_cause(argv: list[str], says: str) -> None:
    with pytest.raises(UsageWrong) as refused:
        take_apart(argv)
    assert says in str(refused.value)


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_no_command_asks_for_the_help_of_all(argv: list[str]) -> None:
    line = take_apart(argv)
    assert line.help
    assert line.verb is None


@pytest.mark.parametrize(
    "argv", [["run", "--help"], ["run", "-h", "echo"], ["enqueue-shell", "--cap=x", "--help"], ["jobs", "--help"], ["wait", "x", "-h"]]
)
def test_help_before_the_command_word_is_help_for_the_verb(argv: list[str]) -> None:
    line = take_apart(argv)
    assert line.help
    assert line.verb is not None
    assert line.verb.name == argv[0]


@pytest.mark.parametrize("typed", [["-f", "-n", "5", "api"], ["api", "-n=5", "-f"], ["--lines=5", "api", "--follow"]])
def test_an_option_with_a_letter_may_be_typed_by_it(typed: list[str]) -> None:
    line = take_apart(["service-logs", *typed])
    assert (line.words, line.options) == (["api"], {"follow": True, "lines": "5"})


@given(name=command_word, command=command_word, args=st.lists(anything))
def test_a_service_is_a_name_and_a_command_as_they_were_typed(name: str, command: str, args: list[str]) -> None:
    assert take_apart(["deploy-service", "--wait", name, command, *args]).words == [name, command, *args]
