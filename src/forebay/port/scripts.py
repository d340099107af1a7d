"""A script travels as its digest. Only a server that does not know it is sent the source, and then remembers it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..errors import InvalidCommand, NoScript
from ..wire.hurry import EVAL, EVALSHA, PATIENT
from .port import Arg, Port, Reply, raise_refusal

__all__ = ["Script"]


class Script:
    """A Lua script, run in one round trip (two when the server has lost it: a restart, a failover)."""

    __slots__ = ("digest", "source")

    def __init__(self, source: str) -> None:
        if not isinstance(source, str):
            raise InvalidCommand(f"a script is text, not {type(source).__name__}")
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self,
        port: Port,
        keys: Sequence[Arg] = (),
        args: Sequence[Arg] = (),
        *,
        timeout: float | None = None,
        idempotent: bool = False,
        hurry: int = PATIENT,
    ) -> Reply:
        """Run the script with *keys* and *args* and return its reply.

        The source is sent only after ``NOSCRIPT``, which says that nothing was executed: the script runs once. After an
        unknown outcome it is repeated only if it is *idempotent*. *timeout* is in seconds; by default it is what the *hurry* is given.

        Raises:
            ServerError: the script failed, or may not run.
        """
        for name, values in (("keys", keys), ("args", args)):
            if isinstance(values, str | bytes):
                raise InvalidCommand(f"a script's {name} are a list, as in {name}=[{values!r}]")
        try:
            return await port.execute(EVALSHA[hurry], self.digest, len(keys), *keys, *args, timeout=timeout, idempotent=idempotent)
        except NoScript:
            return await port.execute(EVAL[hurry], self.source, len(keys), *keys, *args, timeout=timeout, idempotent=idempotent)

    async def run_many(
        self, port: Port, calls: Sequence[tuple[Sequence[Arg], Sequence[Arg]]], *, idempotent: bool = False, hurry: int = PATIENT
    ) -> list[Reply]:
        """Run the script once for each pair of keys and arguments, in one round trip. Raises as `run`, for the first that fails."""
        name = EVALSHA[hurry]
        commands: list[tuple[Arg, ...]] = [(name, self.digest, len(keys), *keys, *args) for keys, args in calls]
        replies = await port.execute_many(commands, idempotent=idempotent)
        for at, reply in enumerate(replies):
            if isinstance(reply, NoScript):  # rarely: a server that was just started
                keys, args = calls[at]
                replies[at] = await self.run(port, keys, args, idempotent=idempotent, hurry=hurry)
        raise_refusal(replies)
        return replies

    def __repr__(self) -> str:
        return f"Script({self.digest[:8]}, {len(self.source)} characters)"
