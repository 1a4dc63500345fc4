"""Slots: one process each, the host's id remembered, files private and durable."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from skyclaw.errors import StartRefused
from skyclaw.outside.host_slot import take_slot, write_durably


def test_hosts_of_a_machine_take_the_slots_in_order(tmp_path: Path) -> None:
    first, second = take_slot(tmp_path), take_slot(tmp_path)
    assert (first.path, second.path) == (tmp_path / "hosts" / "0", tmp_path / "hosts" / "1")
    first.release()
    assert take_slot(tmp_path).path == first.path


def test_a_restarted_host_comes_back_under_its_id(tmp_path: Path) -> None:
    slot = take_slot(tmp_path)
    assert slot.host_id is None
    slot.remember("host_1", chosen=False)
    slot.release()
    assert take_slot(tmp_path).host_id == "host_1"


def test_a_slot_is_free_again_when_its_process_has_died(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from skyclaw.outside.host_slot import take_slot\n"
        "slot = take_slot(Path(sys.argv[1])); print('held', flush=True); input()"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        slot = take_slot(tmp_path)
        assert slot.path.name == "1"
        other.kill()
    assert take_slot(tmp_path).path.name == "0"


def test_a_child_process_does_not_keep_the_slot(tmp_path: Path) -> None:
    slot = take_slot(tmp_path)
    with subprocess.Popen(["sleep", "30"], close_fds=False) as child:
        slot.release()
        assert take_slot(tmp_path).path.name == "0"
        child.kill()


def test_a_chosen_id_finds_its_own_slot_wherever_it_is(tmp_path: Path) -> None:
    plain, chosen = take_slot(tmp_path), take_slot(tmp_path, "rack-7")
    plain.remember("host_1", chosen=False)
    chosen.remember("rack-7", chosen=True)
    for slot in (plain, chosen):
        slot.release()
    assert take_slot(tmp_path, "rack-7").path == chosen.path


def test_a_host_does_not_come_back_under_an_id_that_another_one_chose(tmp_path: Path) -> None:
    chosen = take_slot(tmp_path, "rack-7")
    chosen.remember("rack-7", chosen=True)
    chosen.release()
    assert take_slot(tmp_path).path.name == "1"
    assert take_slot(tmp_path, "rack-8").path.name == "2"


def test_there_is_no_second_host_of_a_chosen_id_beside_the_first_one(tmp_path: Path) -> None:
    take_slot(tmp_path)
    first = take_slot(tmp_path, "rack-7")
    first.remember("rack-7", chosen=True)
    for _ in range(2):
        with pytest.raises(StartRefused, match=r"another process is the host rack-7 already \(in .*/hosts/1\)"):
            take_slot(tmp_path, "rack-7")
    first.release()
    assert take_slot(tmp_path, "rack-7").path == first.path


def test_of_two_slots_with_the_same_chosen_id_the_first_is_taken_unless_one_is_in_use(tmp_path: Path) -> None:
    slots = [take_slot(tmp_path), take_slot(tmp_path)]
    for slot in slots:
        slot.remember("rack-7", chosen=True)
    slots[0].release()
    with pytest.raises(StartRefused, match="rack-7"):
        take_slot(tmp_path, "rack-7")
    slots[1].release()
    taken = take_slot(tmp_path, "rack-7")
    assert taken.path == slots[0].path
    taken.release()


def test_a_note_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    slot = take_slot(tmp_path)
    (slot.path / "host.json").write_bytes(b"\xff[")
    slot.release()
    assert take_slot(tmp_path).host_id is None


def test_what_a_host_writes_is_its_owners_alone(tmp_path: Path) -> None:
    slot = take_slot(tmp_path / "home")
    slot.remember("host_1", chosen=False)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (slot.path, slot.results)] == [0o700, 0o700]
    assert stat.S_IMODE((slot.path / "host.json").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_used_is_a_clear_refusal_to_start(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("a file")
    with pytest.raises(StartRefused, match="hosts cannot be used"):
        take_slot(tmp_path)


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note"
    write_durably(path, b"old")

    def torn(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", torn)
    with pytest.raises(OSError, match="No space"):
        write_durably(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    write_durably(path, b"newest")
    assert path.read_bytes() == b"newest"
    assert [found.name for found in tmp_path.iterdir()] == ["note"]
