"""The folders of services' instances."""

import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyclaw.outside.service_folders import ServiceFolders
from tests.support.executors import ROOT, reachable_directory

only_root = pytest.mark.skipif(not ROOT, reason="only root can give folders to another user")


@pytest.fixture
def folders(tmp_path: Path) -> ServiceFolders:
    return ServiceFolders(tmp_path / "services", None)


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder that every user can pass through."""
    with reachable_directory() as top:
        yield top


def fill(folders: ServiceFolders, instance_id: str, text: str) -> None:
    with folders.filling(instance_id) as fresh:
        (fresh / "sub").mkdir(parents=True)
        (fresh / "sub/file").write_text(text)


def remove(folders: ServiceFolders, instance_id: str) -> None:
    folders.delete(folders.take_away(instance_id))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def as_nobody(script: str, *args: object) -> None:
    """Run a shell script as the user whose services they are; raises CalledProcessError when it fails."""
    account = pwd.getpwnam("nobody")
    words = ["/bin/sh", "-ec", script, "sh", *map(str, args)]
    subprocess.run(words, user=account.pw_uid, group=account.pw_gid, extra_groups=(), cwd="/", check=True, stderr=subprocess.DEVNULL)


def test_a_folder_is_made_filled_anew_and_removed(folders: ServiceFolders) -> None:
    folders.make("ins_1")
    folders.make("ins_1")
    assert (mode(folders.output("ins_1")), mode(folders.output("ins_1").parent)) == (0o700, 0o700)
    fill(folders, "ins_1", "old")
    fill(folders, "ins_1", "new")
    assert (folders.content("ins_1") / "sub/file").read_text() == "new"
    assert folders.left() == ["ins_1"]
    remove(folders, "ins_1")
    remove(folders, "ins_1")
    assert folders.left() == []


def test_an_instance_that_comes_back_before_its_folder_is_deleted_keeps_the_new_one(folders: ServiceFolders) -> None:
    folders.make("ins_1")
    (folders.output("ins_1") / "old").touch()
    place = folders.take_away("ins_1")
    folders.make("ins_1")
    folders.delete(place)
    assert not place.exists()
    assert list(folders.output("ins_1").iterdir()) == []


def test_what_was_not_finished_is_gone_after_a_restart(folders: ServiceFolders, tmp_path: Path) -> None:
    folders.make("ins_1")
    folders.make("ins_2")
    place = folders.take_away("ins_2")
    with folders.filling("ins_1") as fresh:
        fresh.mkdir()
        assert folders.left() == ["ins_1"]
        assert ServiceFolders(tmp_path / "services", None).left() == ["ins_1"]
        assert [path.name for path in (tmp_path / "services").iterdir()] == ["ins_1"]
        assert not place.exists()
        fresh.mkdir(parents=True)


def test_what_goes_wrong_leaves_the_content_as_it_was_and_nothing_else(folders: ServiceFolders, tmp_path: Path) -> None:
    folders.make("ins_1")
    fill(folders, "ins_1", "old")
    with pytest.raises(FileNotFoundError), folders.filling("ins_1") as fresh:
        (fresh / "no/such/folder").touch()
    assert (folders.content("ins_1") / "sub/file").read_text() == "old"
    with pytest.raises(FileNotFoundError):  # the instance was forgotten meanwhile
        fill(folders, "ins_2", "new")
    assert [path.name for path in (tmp_path / "services").iterdir()] == ["ins_1"]


@only_root
def test_what_another_users_services_use_belongs_to_that_user_and_what_it_lies_in_does_not(top: Path) -> None:
    folders = ServiceFolders(top / "services", "nobody")
    folders.make("ins_1")
    fill(folders, "ins_1", "text")
    content = folders.content("ins_1")
    theirs = [folders.output("ins_1"), content, content / "sub", content / "sub/file"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in theirs} == {(pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)}
    assert (mode(content), mode(folders.output("ins_1"))) == (0o700, 0o700)
    ours = [content.parent, content.parent.parent]
    assert [(path.stat().st_uid, mode(path)) for path in ours] == [(0, 0o711), (0, 0o711)]


@only_root
def test_another_users_services_cannot_get_to_a_bundle_before_it_is_theirs(top: Path) -> None:
    folders = ServiceFolders(top / "services", "nobody")
    folders.make("ins_1")
    with folders.filling("ins_1") as fresh:
        fresh.mkdir()
        fresh.chmod(0o777)
        with pytest.raises(subprocess.CalledProcessError):
            as_nobody('ln -s /etc "$1"', fresh / "link")
        assert list(fresh.iterdir()) == []


@only_root
def test_a_link_in_the_place_of_a_bundle_or_of_something_in_it_leads_nowhere(top: Path) -> None:
    folders, aside = ServiceFolders(top / "services", "nobody"), top / "aside"
    aside.mkdir(mode=0o755)
    (aside / "sub").mkdir()
    (aside / "sub/file").write_text("the host's own")
    folders.make("ins_1")
    fill(folders, "ins_1", "old")
    with pytest.raises(subprocess.CalledProcessError):  # the name of the bundle's folder is not theirs
        as_nobody('mv "$1" "$1.old"', folders.content("ins_1"))
    as_nobody('cd "$1"; mv sub old; ln -s "$2" sub', folders.content("ins_1"), aside / "sub")
    as_nobody('ln -s "$2" "$1/link"', folders.output("ins_1"), aside)
    folders.make("ins_1")
    fill(folders, "ins_1", "new")
    remove(folders, "ins_1")
    assert (aside / "sub/file").read_text() == "the host's own"
    assert {path.stat().st_uid for path in (aside, aside / "sub", aside / "sub/file")} == {0}


@only_root
def test_a_link_in_a_bundle_is_handed_over_and_what_it_leads_to_is_not(top: Path) -> None:
    folders, target = ServiceFolders(top / "services", "nobody"), top / "target"
    target.write_text("the host's own")
    folders.make("ins_1")
    with folders.filling("ins_1") as fresh:
        fresh.mkdir()
        (fresh / "link").symlink_to(target)
    assert target.stat().st_uid == os.getuid()
    assert (folders.content("ins_1") / "link").lstat().st_uid == pwd.getpwnam("nobody").pw_uid
