import os
import stat
from pathlib import Path

import pytest

from skyclaw.outside.removing import Removals, removal, removed
from tests.support.executors import ROOT, running, until


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def remove(path: Path) -> int:
    return sum(1 for _ in removal(str(path)))


def test_an_empty_directory_is_deleted_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0)
    assert removed(str(tmp_path / "empty"))
    assert removed(str(tmp_path / "empty"))
    (tmp_path / "full/x").mkdir(parents=True)
    assert not removed(str(tmp_path / "full"))


def test_a_tree_is_deleted_in_steps(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for n in range(30):
        (home / f"d{n % 3}/e{n % 2}").mkdir(parents=True, exist_ok=True)
        (home / f"d{n % 3}/e{n % 2}/f{n}").write_text("x")
    assert remove(home) >= 30
    assert not home.exists()


def test_a_very_deep_tree_is_deleted(tmp_path: Path) -> None:
    """Deeper than any path may be long, than there are descriptors, and than Python recurses."""
    home = tmp_path / "home"
    home.mkdir()
    here = os.open(home, os.O_RDONLY)
    for _ in range(1_100):
        os.mkdir("d" * 20, dir_fd=here)
        deeper = os.open("d" * 20, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    remove(home)
    assert not home.exists()


def test_symlinks_are_deleted_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    victim.chmod(0o500)
    home = tmp_path / "home"
    (home / "inner").mkdir(parents=True)
    for place in (home, home / "inner"):
        (place / "to-directory").symlink_to(victim)
        (place / "to-file").symlink_to(victim / "file")
        (place / "loop").symlink_to(place)
    remove(home)
    assert not home.exists()
    assert (victim / "file").read_text() == "precious"
    assert mode_of(victim) == 0o500


def test_a_symlink_in_the_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim/x").mkdir(parents=True)
    (tmp_path / "home").symlink_to(tmp_path / "victim")
    remove(tmp_path / "home")
    assert (tmp_path / "victim/x").exists()


def test_odd_names_and_kinds_of_files_are_deleted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b" ", b"x" * 255):
        os.mkdir(os.fsencode(home) + b"/" + name)
        (home / os.fsdecode(name) / "f").write_text("")
    os.mkfifo(home / "fifo")
    remove(home)
    assert not home.exists()


LOCKED = """
mkdir -p closed/inner readonly/inner unsearchable/inner empty
echo x > closed/file; echo x > closed/inner/file; echo x > readonly/file; echo x > readonly/inner/file
chmod 000 closed/inner closed empty unsearchable/inner; chmod 500 readonly/inner readonly; chmod 600 unsearchable
chmod 000 .
pwd
"""


@pytest.mark.parametrize("job_user", ["nobody" if ROOT else None])
def test_an_ordinary_users_locked_directories_are_deleted(job_user: str | None) -> None:
    with running(job_user=job_user) as rig:
        ended = rig.sh(LOCKED)
        assert (ended.exit_code, ended.stderr) == (0, "")
        until(lambda: not Path(ended.stdout.strip()).exists())


def test_a_large_tree_does_not_hold_other_jobs_up() -> None:
    """While 20,000 files are being deleted the executor goes on serving."""
    with running() as rig:
        ended = rig.sh("pwd; mkdir d; cd d; seq 20000 | xargs touch", timeout_ms=60_000)
        assert ended.exit_code == 0
        assert rig.sh("echo quick").duration_ms < 2_000
        assert Path(ended.stdout.strip(), "d").exists()
        until(lambda: not Path(ended.stdout.strip()).exists())


def test_what_cannot_be_deleted_stays_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home/inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        (tmp_path / "home" / name).write_text("")
    unlink = os.unlink

    def guarded(name: str, *, dir_fd: int) -> None:
        if name == "b":
            raise PermissionError(name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", guarded)
    left: list[str] = []
    removals = Removals(left.append)
    removals.add(str(tmp_path / "home"))
    assert removals
    removals.go_on(10)
    assert not removals
    assert left == [str(tmp_path / "home")]
    assert [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()] == ["b"]


def test_deleting_stops_when_its_time_is_over_and_goes_on_later(tmp_path: Path) -> None:
    for n in range(50):
        (tmp_path / f"home/d{n}").mkdir(parents=True)
    removals = Removals(lambda path: pytest.fail(path))
    removals.add(str(tmp_path / "home"))
    removals.go_on(0)
    assert removals
    until(lambda: removals.go_on(0.01) or not removals)
    assert not (tmp_path / "home").exists()
