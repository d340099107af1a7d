"""One master, two replicas and the sentinels that watch them: real processes, failing over within two or three seconds."""

from __future__ import annotations

from typing import Any, Final

from tests.servers import HOST, Node, Topology, free_ports, start_all, stop_all, until

__all__ = ["SERVICE", "SentinelSet"]

SERVICE: Final = "forebay"
_DOWN_AFTER_MS: Final = 1000  # a busy machine may well keep a server from answering for half a second
_FAILOVER_TIMEOUT_MS: Final = 2000  # sentinels leave a master alone for twice this after they failed it over
# A replica whose last INFO is older than five periods of pings cannot be elected, and with the master away INFO comes once a second.
# TILT is for clocks that jump, and a busy machine looks like one: 30 s of doing nothing would be too long here.
_QUICKER: Final = {"INFO-PERIOD": 500, "PUBLISH-PERIOD": 150, "PING-PERIOD": 500, "ASK-PERIOD": 200, "TILT-PERIOD": 1000}


class SentinelSet(Topology):
    """Three servers and three sentinels on loopback, replicas in sync and sentinels acquainted once it is entered."""

    def __init__(self, *, password: str | None = None, sentinel_password: str | None = None) -> None:
        self._password = password
        self._sentinel_password = sentinel_password
        self.servers: list[Node] = []
        self.sentinels: list[Node] = []

    @property
    def hosts(self) -> str:
        """The sentinels' addresses as URLs have them."""
        return ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        userinfo = f":{self._password}@" if self._password else ""
        return f"redis+sentinel://{userinfo}{self.hosts}/{SERVICE}/0"

    def master(self) -> tuple[str, int]:
        """Return the master's address as a majority of the running sentinels gives it.

        Raises:
            AssertionError: there is no majority; ask again.
        """
        answers = [self.named_by(sentinel) for sentinel in self.sentinels if sentinel.running]
        leading = max(set(answers), key=answers.count)
        assert answers.count(leading) * 2 > len(answers), f"the sentinels disagree: {answers}"
        return leading

    def named_by(self, sentinel: Node) -> tuple[str, int]:
        """Return the address that one sentinel gives."""
        host, port = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return host, int(port)

    def master_node(self) -> Node:
        """Return the node that the sentinels call the master."""
        return self.node_at(self.master())

    def all_switched_to(self, node: Node) -> bool:
        """Whether every running sentinel has switched for good; the one that leads a failover names the new master before it does."""
        asked = [_fields(sentinel.call("SENTINEL", "MASTER", SERVICE)) for sentinel in self.sentinels if sentinel.running]
        return {fields["port"] for fields in asked} == {str(node.port)}

    def node_at(self, address: tuple[str, int]) -> Node:
        """Return the server that listens on *address*."""
        return next(server for server in self.servers if server.address == address)

    def replicas(self) -> list[Node]:
        """Return the running servers that are not the master."""
        master = self.master_node()
        return [server for server in self.servers if server.running and server is not master]

    def kill_master(self) -> Node:
        """End the master with SIGKILL and return it."""
        master = self.master_node()
        master.kill()
        return master

    def stop_sentinel(self, index: int) -> Node:
        """Stop one sentinel and return it."""
        self.sentinels[index].stop()
        return self.sentinels[index]

    def restart(self, node: Node) -> None:
        """Start a node again that was killed or stopped. The sentinels make a former master a replica: see `settled`."""
        start_all([node])
        if node in self.sentinels:
            self._quicken(node)

    def await_new_master(self, old: Node) -> Node:
        """Return the new master as soon as a majority of the sentinels names it and it says so itself."""
        return until(lambda: self._new_master(old), f"the sentinels name another master than {old}", within=30)

    def _new_master(self, old: Node) -> Node | None:
        try:
            found = self.master_node()
        except AssertionError:  # they disagree for a moment
            return None
        return found if found is not old and found.info("replication")["role"] == "master" else None

    def failover(self) -> Node:
        """Make the sentinels move the master's role in good order, and return the new master."""
        old = self.master_node()
        # Refused while the last failover is being finished (INPROG) or no replica looks good yet (NOGOODSLAVE).
        until(self._ask_for_failover, "a sentinel starts the failover", within=30, every=0.1)
        return self.await_new_master(old)

    def _ask_for_failover(self) -> bool:
        return bool(self.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE) == "OK")

    def settled(self) -> None:
        """Return once every running server is master or replica in sync, and every running sentinel sees all of this alike."""
        until(self._settled, "replicas in sync and seen by every sentinel", within=30)

    def _settled(self) -> bool:
        answers = {self.named_by(sentinel) for sentinel in self.sentinels if sentinel.running}
        if len(answers) > 1:
            return False
        master = self.node_at(answers.pop())
        replicas = [server for server in self.servers if server.running and server is not master]
        if master.info("replication")["role"] != "master" or not all(_follows(replica, master) for replica in replicas):
            return False
        others = sum(sentinel.running for sentinel in self.sentinels) - 1
        return all(self._sees(sentinel, len(replicas), others) for sentinel in self.sentinels if sentinel.running)

    def _sees(self, sentinel: Node, replicas: int, others: int) -> bool:
        master = _fields(sentinel.call("SENTINEL", "MASTER", SERVICE))
        known = [_fields(each) for each in sentinel.call("SENTINEL", "REPLICAS", SERVICE)]
        healthy = [each for each in known if each["flags"] == "slave" and each["master-link-status"] == "ok"]
        return master["flags"] == "master" and int(master["num-other-sentinels"]) >= others and len(healthy) == replicas

    def stop(self) -> None:
        """Stop all of it; safe to call again."""
        stop_all([*self.sentinels, *self.servers])

    def _start(self) -> None:
        ports = free_ports(6)
        master = ports[0]
        secret = ["--requirepass", self._password, "--masterauth", self._password] if self._password else []
        for port in ports[:3]:
            follow = [] if port == master else ["--replicaof", f"{HOST} {master}"]
            self.servers.append(Node(port, [*secret, *follow], password=self._password))
        # What a sentinel learns in its first two seconds, and writes into its file, is in the file from the start.
        names = {port: f"{port:040x}" for port in ports[3:]}
        for port in ports[3:]:
            config = self._config(master, ports[1:3], {other: name for other, name in names.items() if other != port}, names[port])
            self.sentinels.append(Node(port, config=config, password=self._sentinel_password))
        start_all(self.servers)
        until(lambda: all(_follows(node, self.servers[0]) for node in self.servers[1:]), "the replicas are in sync")
        start_all(self.sentinels)
        for sentinel in self.sentinels:
            self._quicken(sentinel)
        self.settled()

    def _config(self, master: int, replicas: list[int], others: dict[int, str], myid: str) -> str:
        lines = [
            f"sentinel myid {myid}",
            f"sentinel monitor {SERVICE} {HOST} {master} 2",
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} {_FAILOVER_TIMEOUT_MS}",
            f"sentinel parallel-syncs {SERVICE} 1",
        ]
        if self._password:
            lines.append(f"sentinel auth-pass {SERVICE} {self._password}")
        if self._sentinel_password:
            lines += [f"requirepass {self._sentinel_password}", f"sentinel sentinel-pass {self._sentinel_password}"]
        lines += [f"sentinel known-replica {SERVICE} {HOST} {replica}" for replica in replicas]
        lines += [f"sentinel known-sentinel {SERVICE} {HOST} {other} {name}" for other, name in others.items()]
        return "\n".join(lines) + "\n"

    def _quicken(self, sentinel: Node) -> None:
        for name, milliseconds in _QUICKER.items():
            sentinel.call("SENTINEL", "DEBUG", name, milliseconds)


def _follows(replica: Node, master: Node) -> bool:
    seen = replica.info("replication")
    return seen["role"] == "slave" and seen["master_port"] == str(master.port) and seen["master_link_status"] == "up"


def _fields(flat: list[Any]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
