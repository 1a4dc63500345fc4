"""What a coordinator says about its peers when not all is well."""

from collections.abc import Iterator
from typing import Any

import pytest

from actors.asking import Post
from actors.cluster import Cluster
from actors.log_views import LogViews
from tests.support.peer_stage import TOKEN, Stage, until

NOWHERE = "http://127.0.0.1:1"


def cluster_of(stage: Stage) -> Cluster:
    """What /health asks, of a coordinator without logs."""
    nothing: Any = None
    cluster = Cluster(stage.node, None, 1, LogViews(), nothing, Post("JobQueue"), Post("Replicator"), stage.clock)
    cluster.peers = stage.peers
    return cluster


@pytest.fixture
def b() -> Iterator[Stage]:
    one = Stage("b").start()
    yield one
    one.stop()


def test_a_peer_that_is_lost_is_named_with_the_reason(b: Stage) -> None:
    a = Stage("a", peer_urls=(b.url, NOWHERE)).start()
    until(lambda: a.knows(b) and "refused" in a.reason_for(NOWHERE))
    assert cluster_of(a).shortcomings() == [f"coordinator {NOWHERE} is not reached: connection refused"]
    b.stop()
    lost = f"coordinator b ({b.url}) is not reached: "
    until(lambda: any(one.startswith(lost) and len(one) > len(lost) for one in cluster_of(a).shortcomings()))
    assert cluster_of(a).ready
    a.stop()


def test_one_with_another_token_is_named_so(b: Stage) -> None:
    a = Stage("a", tokens=(TOKEN + "x",), peer_urls=(b.url,)).start()
    until(lambda: "it has another token" in "".join(cluster_of(a).shortcomings()))
    a.stop()


def test_one_that_was_turned_out_is_named_by_its_label_and_is_not_ready(b: Stage) -> None:
    a = Stage("a", peer_urls=(b.url,)).start()
    until(lambda: a.knows(b) and b.knows(a))
    assert cluster_of(b).ready
    a.peers.evict(b.node)
    until(lambda: f"coordinator b ({b.url}) is not reached: it was evicted" in cluster_of(a).shortcomings())
    until(lambda: not cluster_of(b).ready)
    assert "turned out of the network" in cluster_of(b).shortcomings()[0]
    assert cluster_of(a).ready
    a.stop()


def test_one_that_nobody_can_reach_is_not_ready() -> None:
    a = Stage("a", url=None, peer_urls=(NOWHERE,)).start()
    assert not cluster_of(a).ready
    assert "SKYCLAW_COORDINATOR_PUBLIC_URL" in cluster_of(a).shortcomings()[0]
    a.stop()
