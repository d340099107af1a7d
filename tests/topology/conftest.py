"""Topologies that tests share: each is started once, and handed to every test whole again, whatever the test before it broke."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters import ClusterSet
from tests.sentinels import SentinelSet
from tests.servers import start_all


@pytest.fixture(scope="session")
def shared_sentinels() -> Iterator[SentinelSet]:
    with SentinelSet() as started:
        yield started


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[ClusterSet]:
    with ClusterSet(3) as started:
        yield started


@pytest.fixture(scope="session")
def shared_cluster_with_replicas() -> Iterator[ClusterSet]:
    with ClusterSet(3, 1) as started:
        yield started


@pytest.fixture(scope="session")
def guarded() -> Iterator[SentinelSet]:
    """Servers and sentinels that ask for a password each."""
    with SentinelSet(password="of-the-servers", sentinel_password="of-the-sentinels") as started:
        yield started


@pytest.fixture(scope="session", params=["port", "hostname"])
def natted(request: pytest.FixtureRequest) -> Iterator[ClusterSet]:
    """Two masters that announce what leads nowhere; with names instead of ports, they have replicas too."""
    with ClusterSet(2, 1 if request.param == "hostname" else 0, announce=request.param) as started:
        yield started


@pytest.fixture
def sentinels(shared_sentinels: SentinelSet) -> SentinelSet:
    """A master with two replicas in sync, and three sentinels that see them; which server is the master depends on the tests before."""
    dead = [node for node in [*shared_sentinels.servers, *shared_sentinels.sentinels] if not node.running]
    for node in dead:
        shared_sentinels.restart(node)
    shared_sentinels.settled()
    return shared_sentinels


@pytest.fixture
def cluster(shared_cluster: ClusterSet) -> ClusterSet:
    """Three masters without replicas."""
    return whole(shared_cluster)


@pytest.fixture
def cluster_with_replicas(shared_cluster_with_replicas: ClusterSet) -> ClusterSet:
    """Three masters with a replica each; which nodes are the masters depends on the tests before."""
    return whole(shared_cluster_with_replicas)


def whole(cluster: ClusterSet) -> ClusterSet:
    start_all(node for node in cluster.nodes if not node.running)
    cluster.settled()
    return cluster
