"""The topologies that tests start are real: they fail over, reshard, redirect and grow. Seen with administration commands alone."""

from __future__ import annotations

import hiredis
import pytest

from tests.clusters import SLOTS, ClusterSet
from tests.sentinels import SentinelSet
from tests.servers import HOST, Line, Node, free_ports, start_all, stop_all, until


def test_a_node_is_killed_restarted_and_leaves_nothing() -> None:
    node = Node(free_ports(1)[0])
    start_all([node])
    directory, pid = node._directory, node.pid
    assert directory.exists()
    node.call("SET", "key", "value")
    node.kill()
    assert not directory.exists()
    with pytest.raises(ConnectionRefusedError):
        node.call("PING")
    start_all([node])
    assert node.pid != pid
    assert node.call("GET", "key") is None
    stop_all([node])
    assert not node._directory.exists()


def test_a_node_that_cannot_start_says_why() -> None:
    with pytest.raises(AssertionError, match="ended at once"):
        start_all([Node(free_ports(1)[0], ["--no-such-option", "1"])])


def test_another_server_on_the_port_is_not_taken_for_ours() -> None:
    first = Node(free_ports(1)[0])
    start_all([first])
    try:
        with pytest.raises(AssertionError, match="ended at once"):
            start_all([Node(first.port)])
        assert first.call("PING") == "PONG"
    finally:
        first.stop()


def test_sentinels_name_a_new_master_after_a_kill_and_take_the_old_one_back_as_a_replica(sentinels: SentinelSet) -> None:
    old = sentinels.master_node()
    old.call("SET", "harness:kept", "1")
    old.call("WAIT", 2, 5000)
    assert sentinels.kill_master() is old
    new = sentinels.await_new_master(old)
    assert new is not old
    assert new.call("GET", "harness:kept") == "1"
    sentinels.restart(old)
    sentinels.settled()
    assert old in sentinels.replicas()
    assert old.call("GET", "harness:kept") == "1"
    with pytest.raises(hiredis.ReplyError, match="READONLY"):
        old.call("SET", "harness:kept", "2")


def test_a_planned_failover_moves_the_masters_role_and_an_absent_sentinel_learns_of_it(sentinels: SentinelSet) -> None:
    absent = sentinels.stop_sentinel(2)
    old = sentinels.master_node()
    new = sentinels.failover()
    assert new is not old
    assert sentinels.master() == new.address
    sentinels.restart(absent)
    until(lambda: sentinels.named_by(absent) == new.address, "the sentinel learns of the failover that it missed")
    sentinels.settled()
    assert old in sentinels.replicas()


def test_passwords_for_servers_and_sentinels(guarded: SentinelSet) -> None:
    for node in guarded.servers[0], guarded.sentinels[0]:
        stranger = Line(node.port)
        with pytest.raises(hiredis.ReplyError, match="NOAUTH"):
            stranger.call("INFO")
        stranger.close()
    guarded.settled()


def test_a_cluster_is_formed(cluster: ClusterSet) -> None:
    assert len(cluster.masters()) == 3
    # Another test may have moved a slot just now: what nodes say of themselves agrees once their messages have arrived.
    until(lambda: sorted(slot for node in cluster.masters() for slot in cluster.slots_of(node)) == list(range(SLOTS)), "one owner each")
    assert cluster.url.startswith("redis+cluster://127.0.0.1:")


def test_a_move_shows_ask_tryagain_and_moved_and_takes_the_keys_along(cluster: ClusterSet) -> None:
    keys = [f"{{harness}}:{number}" for number in range(3)]
    slot = cluster.slot_of(keys[0])
    source = cluster.owner(slot)
    target = next(node for node in cluster.masters() if node is not source)
    third = next(node for node in cluster.masters() if node not in (source, target))
    for key in keys:
        source.call("SET", key, key)

    moving = cluster.moving(slot, target, at_once=1)
    assert [next(moving) for _ in range(2)] == ["importing", "migrating"]
    stay = set(keys)
    while stay == set(keys):  # keys of other tests may be in the slot too, and go first
        assert next(moving) == "moved a key"
        stay &= set(source.call("CLUSTER", "GETKEYSINSLOT", slot, 100))
    [gone] = set(keys) - stay
    stayed = min(stay)
    assert source.call("GET", stayed) == stayed
    with pytest.raises(hiredis.ReplyError, match=f"^ASK {slot} {HOST}:{target.port}$"):
        source.call("GET", gone)
    with pytest.raises(hiredis.ReplyError, match="^TRYAGAIN"):
        source.call("MGET", gone, stayed)
    with pytest.raises(hiredis.ReplyError, match=f"^MOVED {slot} {HOST}:{source.port}$"):
        target.call("GET", gone)
    line = Line(target.port)
    assert line.call("ASKING") == "OK"
    assert line.call("GET", gone) == gone
    line.close()

    assert list(moving)[-5:] == ["moved a key", "moved a key", "target owns it", "source knows", "all know"]
    for other in source, third:
        with pytest.raises(hiredis.ReplyError, match=f"^MOVED {slot} {HOST}:{target.port}$"):
            other.call("GET", gone)
    assert target.call("MGET", *keys) == keys
    assert cluster.owner(slot) is target
    cluster.move_slot(slot, source)
    assert source.call("DEL", *keys) == 3


def test_a_replica_takes_the_slots_of_a_killed_master(cluster_with_replicas: ClusterSet) -> None:
    cluster = cluster_with_replicas
    dead = cluster.masters()[0]
    [replica] = cluster.replicas_of(dead)
    slots = cluster.slots_of(dead)
    key = cluster.key_in(dead, "harness")
    dead.call("SET", key, "1")
    dead.call("WAIT", 1, 5000)
    cluster.kill(dead)
    assert cluster.await_promotion(dead, slots[0]) is replica
    assert replica.call("GET", key) == "1"
    assert cluster.slots_of(replica) == slots
    cluster.restart(dead)
    cluster.settled()
    assert cluster.replicas_of(replica) == [dead]


def test_a_node_joins_takes_a_slot_gives_it_back_and_leaves(cluster: ClusterSet) -> None:
    key = "harness:joined"
    slot = cluster.slot_of(key)
    source = cluster.owner(slot)
    source.call("SET", key, "1")
    added = cluster.add_node()
    assert added in cluster.masters()
    assert cluster.slots_of(added) == []
    cluster.move_slot(slot, added)
    assert added.call("GET", key) == "1"
    cluster.move_slot(slot, source)
    cluster.remove_node(added)
    assert not added.running
    cluster.settled()
    assert len(cluster.masters()) == 3
    assert source.call("GET", key) == "1"
    source.call("DEL", key)


def test_a_cluster_may_announce_addresses_that_lead_nowhere(natted: ClusterSet) -> None:
    first, second = natted.masters()
    host, port = second.announced
    assert (host, port) != second.address
    key = natted.key_in(second)
    slot = natted.slot_of(key)
    with pytest.raises(hiredis.ReplyError, match=f"^MOVED {slot} {host}:{port}$"):
        first.call("GET", key)
    assert natted.owner(slot) is second
    natted.move_slot(slot, first)
    assert natted.owner(slot) is first
    natted.move_slot(slot, second)
