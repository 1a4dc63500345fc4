"""Results on the disk."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from skyclaw.outside.kept_results import KeptResult, KeptResults

A = KeptResult("host_1", "job_a", "1.1.n-7", 60_000, "shell", {"success": True, "stdout": "ä\n", "exitCode": 0})


def aged(folder: Path, job_id: str, seconds: int) -> None:
    (path,) = folder.glob(f"{job_id}.*.json")
    os.utime(path, (seconds, seconds))


def test_a_kept_result_is_read_back_by_the_next_life(tmp_path: Path) -> None:
    KeptResults(tmp_path).keep(A)
    assert KeptResults(tmp_path).all() == [A]
    (path,) = tmp_path.glob("job_a.*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_later_result_of_the_same_lease_replaces_the_former(tmp_path: Path) -> None:
    kept, later = KeptResults(tmp_path), replace(A, result={})
    kept.keep(A)
    kept.keep(later)
    assert kept.all() == [later]


def test_results_of_two_leases_of_one_job_are_kept_and_forgotten_apart(tmp_path: Path) -> None:
    kept, other = KeptResults(tmp_path), KeptResult("host_1", "job_a", "../other", 60_000, "shell", {})
    kept.keep(A)
    kept.keep(other)
    assert len(kept.all()) == 2
    kept.forget(A.job_id, A.lease_token)
    assert kept.all() == [other]


def test_a_forgotten_result_is_gone_and_may_be_forgotten_twice(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path)
    kept.keep(A)
    kept.forget("job_a", A.lease_token)
    kept.forget("job_a", A.lease_token)
    assert kept.all() == []


def test_results_are_given_oldest_first(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path)
    for number, name in enumerate(["job_z", "job_m", "job_a"]):
        kept.keep(replace(A, job_id=name))
        aged(tmp_path, name, number)
    assert [result.job_id for result in kept.all()] == ["job_z", "job_m", "job_a"]


@pytest.mark.parametrize("bounds", [{"most_files": 2}, {"most_bytes": 400}], ids=["count", "bytes"])
def test_the_oldest_go_when_there_are_too_many(tmp_path: Path, bounds: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptResults(tmp_path, **bounds)
    for number, name in enumerate(["job_1", "job_2", "job_3"]):
        kept.keep(replace(A, job_id=name))
        aged(tmp_path, name, number)
    assert [result.job_id for result in kept.all()] == ["job_2", "job_3"]
    assert "kept_result_dropped file=job_1." in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host_id": "h"}', b"\x00\xff"])
def test_a_damaged_file_is_put_aside_and_the_others_are_read(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptResults(tmp_path)
    kept.keep(A)
    (tmp_path / "job_b.0.json").write_bytes(content)
    assert kept.all() == [A]
    assert (tmp_path / "job_b.0.damaged").read_bytes() == content
    assert "kept_result_unreadable file=job_b.0.json" in caplog.text


def test_a_half_written_file_is_not_taken_for_a_result(tmp_path: Path) -> None:
    (tmp_path / ".job_a.0.json.new").write_bytes(b'{"host')
    assert KeptResults(tmp_path).all() == []


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "..", "a/b", "x" * 300, ".hidden"])
def test_no_job_id_leads_out_of_the_folder(tmp_path: Path, job_id: str) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    kept = KeptResults(folder)
    kept.keep(replace(A, job_id=job_id))
    assert [result.job_id for result in kept.all()] == [job_id]
    assert [path.parent for path in tmp_path.rglob("*.json")] == [folder]
    kept.forget(job_id, A.lease_token)
    assert kept.all() == []
