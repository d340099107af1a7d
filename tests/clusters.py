"""A real cluster on loopback: formed, resharded key by key, bereaved of nodes and grown, all by the commands that operators use."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, Literal

import hiredis

from tests.servers import HOST, Node, Topology, free_ports, start_all, stop_all, until

__all__ = ["SLOTS", "Announce", "ClusterNode", "ClusterSet", "Step"]

SLOTS: Final = 16384
_NODE_TIMEOUT_MS: Final = 1500
_KEYS_AT_ONCE: Final = 10
Announce = Literal["port", "hostname"]
Step = Literal["importing", "migrating", "moved a key", "target owns it", "source knows", "all know"]


class ClusterNode(Node):
    """One node of a cluster. With *announce* it tells the world an address at which nobody listens.

    ``"port"`` announces another client port. The address would reach the bus as well and cut the nodes off from each other, and
    a replica would look for its master at the announced port: so that is for masters alone. ``"hostname"`` announces a name that
    does not resolve and leaves the nodes' own traffic as it is.
    """

    def __init__(self, port: int, bus: int, announce: Announce | None = None, announced_port: int = 0) -> None:
        self.announced = (HOST, port)
        options = [
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", str(bus)),
            *("--cluster-node-timeout", str(_NODE_TIMEOUT_MS), "--cluster-require-full-coverage", "no"),
            *("--cluster-allow-replica-migration", "no", "--cluster-replica-validity-factor", "0"),
        ]
        if announce == "port":
            self.announced = (HOST, announced_port)
            options += ["--cluster-announce-port", str(announced_port)]
        elif announce == "hostname":
            self.announced = (f"node{port}.invalid", port)
            options += ["--cluster-announce-hostname", self.announced[0], "--cluster-preferred-endpoint-type", "hostname"]
        super().__init__(port, options, files=["nodes.conf"])
        self.bus = bus
        self.id = ""

    def ready(self) -> None:
        super().ready()
        self.id = self.call("CLUSTER", "MYID")


class ClusterSet(Topology):
    """*masters* masters with *replicas* replicas each; every node sees a whole cluster once it is entered."""

    def __init__(self, masters: int = 3, replicas: int = 0, *, announce: Announce | None = None) -> None:
        self._masters = masters
        self._replicas = replicas
        self._announce = announce
        self.nodes: list[ClusterNode] = []

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.running())

    def running(self) -> list[ClusterNode]:
        """Return the nodes whose process runs."""
        return [node for node in self.nodes if node.running]

    def masters(self) -> list[ClusterNode]:
        """Return the running masters, also one without slots, in the order in which they were made."""
        return [node for node in self.running() if "master" in _flags(self._lines(node)[node.id])]

    def replicas_of(self, master: ClusterNode) -> list[ClusterNode]:
        """Return the running replicas that follow *master*, by their own account."""
        return [node for node in self.running() if self._lines(node)[node.id][3] == master.id]

    def owner(self, slot: int) -> ClusterNode:
        """Return the master of *slot*, as the first running master has it."""
        for first, last, master, *_ in self.masters()[0].call("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return self._node(master[2])
        raise AssertionError(f"nobody owns slot {slot}")

    def slots_of(self, node: ClusterNode) -> list[int]:
        """Return the slots that *node* itself says it owns."""
        ranges = [word.partition("-") for word in self._lines(node)[node.id][8:] if not word.startswith("[")]
        return [slot for first, _, last in ranges for slot in range(int(first), int(last or first) + 1)]

    def key_in(self, node: ClusterNode, stem: str = "key") -> str:
        """Return a key whose slot *node* owns."""
        owned = set(self.slots_of(node))
        return next(key for key in (f"{stem}:{number}" for number in range(SLOTS)) if self.slot_of(key) in owned)

    def slot_of(self, key: str) -> int:
        """Return the slot of *key* by the server's own reckoning."""
        slot: int = self.running()[0].call("CLUSTER", "KEYSLOT", key)
        return slot

    def moving(self, slot: int, to: ClusterNode, at_once: int = _KEYS_AT_ONCE) -> Iterator[Step]:
        """Move *slot*, its keys *at_once* at a time; each step is yielded when it was done, so that a test may stop there and look."""
        source = self.owner(slot)
        if source is to:
            return
        to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        yield "importing"
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        yield "migrating"
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, at_once):
            source.call("MIGRATE", HOST, to.port, "", 0, 5000, "KEYS", *keys)
            yield "moved a key"
        to.call("CLUSTER", "SETSLOT", slot, "NODE", to.id)
        yield "target owns it"
        source.call("CLUSTER", "SETSLOT", slot, "NODE", to.id)
        yield "source knows"
        for master in self.masters():
            if master not in (source, to):
                master.call("CLUSTER", "SETSLOT", slot, "NODE", to.id)
        yield "all know"

    def move_slot(self, slot: int, to: ClusterNode) -> None:
        """Move *slot* and its keys to the master *to*."""
        for _ in self.moving(slot, to):
            pass

    def kill(self, node: ClusterNode) -> None:
        """End *node* with SIGKILL."""
        node.kill()

    def restart(self, node: ClusterNode) -> None:
        """Start a node again that was killed; it comes back under its name, without its keys."""
        start_all([node])

    def await_promotion(self, dead: ClusterNode, slot: int) -> ClusterNode:
        """Return the new owner of *slot*, which was *dead*'s, once every running node names it."""

        def promoted() -> ClusterNode | None:
            named = {self._owner_by(node, slot) for node in self.running()}
            return self._node(named.pop()) if len(named) == 1 and dead.id not in named else None

        return until(promoted, f"a replica of {dead} takes slot {slot}", within=30)

    def add_node(self) -> ClusterNode:
        """Start a new master without slots, and return it when all nodes know each other."""
        [node] = self._make(1)
        start_all([node])
        meet = self.running()[0]
        self.nodes.append(node)
        node.call("CLUSTER", "MEET", HOST, meet.port, meet.bus)
        self.settled()
        return node

    def remove_node(self, node: ClusterNode) -> None:
        """Make all others forget *node*, which must own no slot any more, and stop it."""
        assert not self.slots_of(node), f"{node} still owns slots"
        node.stop()  # first: while it runs, it would introduce itself again
        self.nodes.remove(node)
        for other in self.running():
            other.call("CLUSTER", "FORGET", node.id)

    def settled(self) -> None:
        """Return once every running node sees the whole cluster healthy, and every replica's link is up."""
        until(self._settled, "every node sees a whole cluster", within=30)

    def stop(self) -> None:
        """Stop all of it; safe to call again."""
        stop_all(self.nodes)

    def _start(self) -> None:
        self.nodes = self._make(self._masters * (1 + self._replicas))
        start_all(self.nodes)
        masters = self.nodes[: self._masters]
        for number, node in enumerate(self.nodes):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)  # else the nodes spend their first seconds on settling it
        for number, node in enumerate(masters):
            first, last = number * SLOTS // len(masters), (number + 1) * SLOTS // len(masters) - 1
            node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
        for index, node in enumerate(self.nodes):
            for other in self.nodes[:index]:
                node.call("CLUSTER", "MEET", HOST, other.port, other.bus)
        for number, replica in enumerate(self.nodes[self._masters :]):
            master = masters[number % len(masters)]
            until(partial(_replicates, replica, master), f"{replica} knows {master}")
        self.settled()

    def _make(self, count: int) -> list[ClusterNode]:
        ports = free_ports(3 * count)
        triples = zip(ports[::3], ports[1::3], ports[2::3], strict=True)
        return [ClusterNode(port, bus, self._announce, announced) for port, bus, announced in triples]

    def _settled(self) -> bool:
        running = self.running()
        known = {node.id for node in running}
        replicas = 0
        for node in running:
            lines = self._lines(node)
            if node.call("CLUSTER", "INFO").partition("cluster_state:")[2][:2] != "ok":
                return False
            if {name for name, words in lines.items() if words[7] == "connected" and not _flags(words) & _UNWELL} != known:
                return False
            if "slave" in _flags(lines[node.id]):
                replicas += 1
                if node.info("replication")["master_link_status"] != "up":
                    return False
        # A new master learns of its replicas by gossip: clients ask any node for them.
        return all(self._replicas_listed(node) == replicas for node in running)

    def _replicas_listed(self, node: ClusterNode) -> int:
        return len({replica[2] for _, _, _, *replicas in node.call("CLUSTER", "SLOTS") for replica in replicas})

    def _lines(self, node: ClusterNode) -> dict[str, list[str]]:
        """Return ``CLUSTER NODES`` of *node*: the words of each line by the node's name."""
        return {words[0]: words for words in (line.split() for line in node.call("CLUSTER", "NODES").splitlines())}

    def _owner_by(self, node: ClusterNode, slot: int) -> str:
        ranges: list[Any] = node.call("CLUSTER", "SLOTS")
        return next((str(master[2]) for first, last, master, *_ in ranges if first <= slot <= last), "")

    def _node(self, name: str) -> ClusterNode:
        found = next((node for node in self.nodes if node.id == name), None)
        if found is None:
            raise hiredis.HiredisError(f"no node {name!r}")
        return found


_UNWELL: Final = {"fail", "fail?", "handshake", "noaddr"}


def _replicates(replica: ClusterNode, master: ClusterNode) -> bool:
    return bool(replica.call("CLUSTER", "REPLICATE", master.id) == "OK")


def _flags(words: list[str]) -> set[str]:
    return set(words[2].split(","))
