"""A server that evicts what was not used for a while would log users out: that is said once, when the first session is stored."""

from __future__ import annotations

from ..errors import ForebayError
from ..events import Reporter, SessionsMayBeEvicted
from ..port.port import Port

__all__ = ["EvictionWatch"]


class EvictionWatch:
    """Looks at the server's policy, once."""

    def __init__(self, port: Port, reporter: Reporter) -> None:
        self._port = port
        self._reporter = reporter
        self._looked = False

    def look(self) -> None:
        """Ask in the background, the first time: when the bay connects, or with the first session that is stored after that."""
        if not self._looked:
            self._looked = True
            self._port.background(self._warn())

    async def _warn(self) -> None:
        try:
            info = await self._port.execute("INFO", "memory")
        except ForebayError:  # an account without that right, or a server that is away: it is a warning and no more
            return
        text = info.decode(errors="replace") if isinstance(info, bytes) else str(info)
        policy = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("maxmemory_policy:")), "")
        if policy.startswith("allkeys"):
            why = ForebayError(f"the server's maxmemory-policy is {policy}; keep sessions on a server with noeviction or volatile-ttl")
            self._reporter.report(SessionsMayBeEvicted(why))

    def __repr__(self) -> str:
        return f"<EvictionWatch, {'done' if self._looked else 'not looked yet'}>"
