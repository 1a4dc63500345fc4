"""Bundles in real coordinators: where they are kept, and that every coordinator comes to have them."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.cluster import Cluster, started
from tests.support.real_processes import TOKEN, CoordinatorProcess, wait_until

DATA = os.urandom(6 * 1024 * 1024)  # more than one piece
SHA = hashlib.sha256(DATA).hexdigest()
SHOWN = {"x-skyclaw-token": TOKEN}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with started(Cluster(tmp_path, 3)) as cluster:
        yield cluster


def put(url: str, data: bytes = DATA, sha256: str = SHA) -> requests.Response:
    return requests.put(f"{url}/v1/bundles/{sha256}", data, headers={**SHOWN, "content-type": "application/gzip"}, timeout=60)


def test_a_new_bundle_comes_to_every_coordinator_and_outlives_the_one_that_got_it(cluster: Cluster) -> None:
    first, *others = cluster.members
    assert put(first.url).json() == {"bundle": {"sha256": SHA, "bytes": len(DATA)}}
    files = [member.folder / "bundles" / SHA for member in cluster.members]
    wait_until(lambda: all(file.exists() for file in files), "every coordinator has the bundle")
    first.kill()
    for member in others:
        assert requests.get(f"{member.url}/v1/bundles/{SHA}", headers=SHOWN, timeout=60).content == DATA


def test_a_coordinator_without_a_disk_leaves_no_bundle_behind(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    settings = {"SKYCLAW_DATABASE_URL": "memory://", "SKYCLAW_MAX_BUNDLE_BYTES": len(DATA), "TMPDIR": tmp_path / "temporary"}
    coordinator = CoordinatorProcess(tmp_path, **settings)
    coordinator.start()
    try:
        assert put(coordinator.url).status_code == 200
        assert [path.name for path in (tmp_path / "temporary").rglob(SHA)] == [SHA]
        assert put(coordinator.url, DATA + b"x").json()["error"] == f"a bundle has at most {len(DATA)} bytes"
    finally:
        coordinator.stop()
    assert list((tmp_path / "temporary").iterdir()) == []
