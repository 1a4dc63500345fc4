"""The folders of services' instances."""

import os
import stat
from pathlib import Path

import pytest

from skyclaw.outside.service_folders import ServiceFolders
from tests.support.executors import ROOT, reachable_directory


@pytest.fixture
def folders(tmp_path: Path) -> ServiceFolders:
    return ServiceFolders(tmp_path / "services", None)


def fill(folders: ServiceFolders, instance_id: str, text: str) -> None:
    fresh = folders.fresh(instance_id)
    fresh.mkdir()
    (fresh / "file").write_text(text)
    folders.put(instance_id)


def test_a_folder_is_made_filled_anew_and_removed(folders: ServiceFolders) -> None:
    folders.make("ins_1")
    folders.make("ins_1")
    assert stat.S_IMODE(folders.path("ins_1").stat().st_mode) == 0o700
    fill(folders, "ins_1", "old")
    fill(folders, "ins_1", "new")
    assert (folders.content("ins_1") / "file").read_text() == "new"
    assert folders.left() == ["ins_1"]
    folders.remove("ins_1")
    folders.remove("ins_1")
    assert folders.left() == []


def test_what_was_not_finished_is_gone_after_a_restart(folders: ServiceFolders, tmp_path: Path) -> None:
    folders.make("ins_1")
    folders.fresh("ins_1").mkdir()
    assert ServiceFolders(tmp_path / "services", None).left() == ["ins_1"]
    assert [path.name for path in (tmp_path / "services").iterdir()] == ["ins_1"]


@pytest.mark.skipif(not ROOT, reason="only root can give folders to another user")
def test_the_folders_of_another_users_services_belong_to_that_user() -> None:
    with reachable_directory() as top:
        folders = ServiceFolders(top / "services", "nobody")
        folders.make("ins_1")
        fill(folders, "ins_1", "text")
        assert stat.S_IMODE((top / "services").stat().st_mode) == 0o711
        owners = {path.stat().st_uid for path in (folders.path("ins_1"), folders.content("ins_1"), folders.content("ins_1") / "file")}
        assert len(owners) == 1
        assert owners != {os.getuid()}
