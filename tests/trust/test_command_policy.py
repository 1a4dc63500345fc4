import os
import shutil
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.errors import SettingsWrong
from skyclaw.trust.command_policy import CommandPolicy, CommandRefused, check_env, look_up


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A small file system: `bin` is a symlink to `usr/bin`, as on most machines, `node` to what it is an alternative for."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/lib/node").mkdir(parents=True)
    for path in ("usr/bin/bash", "usr/bin/openclaw", "usr/lib/node/node"):
        program(tmp_path / path)
    (tmp_path / "bin").symlink_to(tmp_path / "usr/bin")
    (tmp_path / "usr/bin/node").symlink_to(tmp_path / "usr/lib/node/node")
    return tmp_path


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def policy(machine: Path, *allowed: str, work_roots: tuple[str, ...] = ()) -> CommandPolicy:
    search = f"{machine}/usr/bin"
    return look_up(allowed, lambda name: shutil.which(name, path=search), os.path.realpath, work_roots)


def outcome(action: Callable[[], str | None]) -> str | None:
    try:
        return action()
    except CommandRefused as refused:
        return str(refused)


def refusal(machine: Path, command: str, *allowed: str) -> tuple[int, str]:
    with pytest.raises(CommandRefused) as refused:
        policy(machine, *(allowed or ("bash", "openclaw", "node"))).path_of(command)
    return refused.value.exit_code, str(refused.value)


def test_a_listed_name_runs_what_was_found_at_the_start(machine: Path) -> None:
    found = policy(machine, "bash")
    program(machine / "usr/bin/later")
    assert found.path_of("bash") == f"{machine}/usr/bin/bash"


def test_a_listed_path_runs_only_as_a_path(machine: Path) -> None:
    found = policy(machine, f"{machine}/usr/bin/bash")
    assert found.path_of(f"{machine}/usr/bin/bash") == f"{machine}/usr/bin/bash"
    with pytest.raises(CommandRefused):
        found.path_of("bash")


@pytest.mark.parametrize("form", ["usr/bin/bash", "bin/bash", "usr/bin/../bin/bash", "usr//bin/./bash"])
def test_an_absolute_path_may_lead_to_an_allowed_one_in_any_form(machine: Path, form: str) -> None:
    assert policy(machine, "bash").path_of(f"{machine}/{form}") == f"{machine}/usr/bin/bash"


def test_the_file_behind_an_allowed_symlink_is_allowed_and_runs_by_its_listed_path(machine: Path) -> None:
    assert policy(machine, "node").path_of(f"{machine}/usr/lib/node/node") == f"{machine}/usr/bin/node"


@pytest.mark.parametrize(
    "command", ["python3", "", ".", "..", "bash ", "BASH", "./bash", "bin/bash", "../usr/bin/bash", "/", "/bash", "ba\0sh"]
)
def test_what_is_not_listed_is_refused_with_126(machine: Path, command: str) -> None:
    assert refusal(machine, command) == (126, f"command not allowed: {command}")


def test_the_same_name_in_another_directory_is_refused(machine: Path) -> None:
    elsewhere = program(machine / "bash")
    assert refusal(machine, str(elsewhere))[0] == 126


@pytest.mark.parametrize("target", ["usr/bin/bash", "usr/bin/openclaw"])
def test_a_symlink_that_has_an_allowed_name_is_refused_wherever_it_points(machine: Path, target: str) -> None:
    (machine / "openclaw").symlink_to(machine / target)
    assert refusal(machine, f"{machine}/openclaw")[0] == 126


def test_a_hard_link_to_an_allowed_command_is_refused(machine: Path) -> None:
    os.link(machine / "usr/bin/bash", machine / "bash")
    assert refusal(machine, f"{machine}/bash")[0] == 126


@pytest.mark.parametrize("command", ["/usr/bin/\0", "/usr/bin/bash/", "/usr/bin", "/usr/bin/bash/.."])
def test_what_is_no_path_of_a_program_is_refused(machine: Path, command: str) -> None:
    assert refusal(machine, command)[0] == 126


def test_a_listed_command_that_is_not_installed_ends_with_127(machine: Path) -> None:
    assert refusal(machine, "pnpm", "pnpm") == (127, "command not found: pnpm")
    assert refusal(machine, "/opt/pnpm", "/opt/pnpm") == (127, "command not found: /opt/pnpm")
    assert policy(machine, "pnpm", "bash").missing == ("pnpm",)


def test_a_command_that_is_only_found_in_the_current_directory_is_missing() -> None:
    found = look_up(["bash"], lambda _: "./bash", os.path.realpath)
    assert found.missing == ("bash",)


@pytest.mark.parametrize("allowed", ["*", "/usr/bin/*", "ba*", "", "./bash", "bin/bash", "/usr/bin/", "/", "..", "/usr/.."])
def test_a_list_that_means_nothing_safe_is_refused_at_the_start(machine: Path, allowed: str) -> None:
    with pytest.raises(SettingsWrong):
        policy(machine, "bash", allowed)


def test_an_empty_list_allows_nothing(machine: Path) -> None:
    with pytest.raises(CommandRefused):
        policy(machine).path_of("bash")


@given(st.text(max_size=40))
def test_whatever_is_asked_for_only_found_paths_come_out(command: str) -> None:
    found = look_up(["sh", "true"], shutil.which, os.path.realpath)
    assert outcome(lambda: found.path_of(command)) in {shutil.which("sh"), shutil.which("true"), f"command not allowed: {command}"}


@pytest.mark.parametrize(
    ("allowed", "interpreters"),
    [
        (("openclaw", "git-lfs", "true", "shutdown"), ("openclaw",)),
        (("bash", "true", "/usr/bin/python3.11", "python3", "perl5.36-1"), ("bash", "/usr/bin/python3.11", "python3", "perl5.36-1")),
        (("find", "env", "xargs", "ls", "cat"), ("find", "env", "xargs")),
    ],
)
def test_what_makes_the_list_no_fence_is_named(machine: Path, allowed: tuple[str, ...], interpreters: tuple[str, ...]) -> None:
    assert policy(machine, *allowed).interpreters == interpreters


# Variables.


@pytest.mark.parametrize("key", ["A", "_", "HOME", "LANG", "PORT", "a1", "LDAP", "GITHUB_TOKEN", "PATHS", "ENVIRONMENT", "x" * 64])
def test_an_ordinary_variable_is_allowed(key: str) -> None:
    check_env({key: "any value = at all\n"})


@pytest.mark.parametrize(
    "key",
    [
        "PATH",
        "LD_PRELOAD",
        "LD_",
        "DYLD_X",
        "PYTHONPATH",
        "PYTHON",
        "SKYCLAW_TOKEN",
        "SKYCLAW_JOB_ID",
        "OPENCLAW_HOME",
        "NODE_OPTIONS",
        "BASH_ENV",
        "ENV",
        "IFS",
        "GIT_DIR",
        "SSH_AUTH_SOCK",
    ],
)
def test_a_variable_that_changes_what_runs_or_is_the_hosts_is_refused(key: str) -> None:
    with pytest.raises(CommandRefused, match=f"environment variable not allowed: {key}") as refused:
        check_env({"FINE": "1", key: "x"})
    assert refused.value.exit_code == 126


@pytest.mark.parametrize("key", ["", "A=B", "1X", "A B", "A-B", "A\n", "Ä", "x" * 65, "A\0"])
def test_what_is_no_name_of_a_variable_is_refused(key: str) -> None:
    with pytest.raises(CommandRefused):
        check_env({key: "x"})


def test_a_value_that_no_process_can_be_given_is_refused() -> None:
    with pytest.raises(CommandRefused):
        check_env({"A": "x\0y"})


@given(st.text(alphabet=string.printable + "é\0", max_size=70))
def test_a_refused_key_is_short_and_on_one_line_in_the_error(key: str) -> None:
    text = outcome(lambda: check_env({key: ""})) or ""
    assert len(text) < 400
    assert "\n" not in text


# Directories.


@pytest.mark.parametrize("cwd", [None, ".", "", "a", "a/b", "a/./b", "..a/b.."])
def test_a_directory_inside_the_jobs_own_is_allowed_as_it_is(machine: Path, cwd: str | None) -> None:
    assert policy(machine).cwd_of(cwd) == cwd


@pytest.mark.parametrize("cwd", ["..", "../x", "a/../../b", "a/..", "a\0b", "/a\0b", "/", "/etc", "/usr/lib"])
def test_a_directory_that_leads_elsewhere_is_refused_with_126(machine: Path, cwd: str) -> None:
    with pytest.raises(CommandRefused, match="cwd not allowed") as refused:
        policy(machine, work_roots=(f"{machine}/usr/lib",)).cwd_of(cwd)
    assert refused.value.exit_code == 126


def test_an_absolute_directory_is_allowed_at_and_below_a_work_root_by_its_real_path(machine: Path) -> None:
    rooted = policy(machine, work_roots=(f"{machine}/bin",))
    assert rooted.cwd_of(f"{machine}/bin") == f"{machine}/usr/bin"
    assert rooted.cwd_of(f"{machine}/usr/bin/deeper/still") == f"{machine}/usr/bin/deeper/still"


@pytest.mark.parametrize("cwd", ["usr/binary", "usr/bin/../lib", "usr", "link"])
def test_an_absolute_directory_beside_the_work_roots_is_refused(machine: Path, cwd: str) -> None:
    (machine / "usr/bin/link").symlink_to(machine / "usr/lib")
    (machine / "link").symlink_to(machine / "usr/lib")
    rooted = policy(machine, work_roots=(f"{machine}/usr/bin",))
    for path in (f"{machine}/{cwd}", f"{machine}/usr/bin/link"):
        with pytest.raises(CommandRefused):
            rooted.cwd_of(path)


def test_the_whole_machine_can_be_a_work_root(machine: Path) -> None:
    assert policy(machine, work_roots=("/",)).cwd_of("/usr") == "/usr"
