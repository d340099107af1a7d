"""A port for work that is nobody's request: the same commands, with the time of any command instead of the cache's budget."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from ..port.port import Arg, Port, Reply

__all__ = ["PatientPort"]


class PatientPort:
    """Passes everything on to *port*; names of commands in upper case, since those in lower case are in a hurry there."""

    def __init__(self, port: Port) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def get(self, name: str) -> Awaitable[Reply]:
        """``GET`` *name*."""
        return self._port.execute("GET", name)

    def execute(self, *args: Arg, timeout: float | None = None, idempotent: bool = False, replica: bool = False) -> Awaitable[Reply]:
        """Send one command; raise its refusal."""
        return self._port.execute(*_unhurried(args), timeout=timeout, idempotent=idempotent, replica=replica)

    def execute_many(
        self, commands: Sequence[tuple[Arg, ...]], *, timeout: float | None = None, idempotent: bool = False, replica: bool = False
    ) -> Awaitable[list[Reply]]:
        """Send several commands in one write; refusals are values in the list."""
        unhurried = [_unhurried(command) for command in commands]
        return self._port.execute_many(unhurried, timeout=timeout, idempotent=idempotent, replica=replica)

    def again(self, error: Exception, args: tuple[Arg, ...], *, idempotent: bool = False) -> Awaitable[Reply]:
        """Raise *error*: what comes from this port has been repeated where that is safe."""
        del args, idempotent
        raise error

    async def track(self, key: bytes, commands: Sequence[tuple[Arg, ...]], *, told: bool = True) -> tuple[list[Reply], object | None]:
        """Read, and be told of nothing: who is not in a hurry holds nothing near."""
        del key, told
        return await self.execute_many(commands), None

    def __repr__(self) -> str:
        return f"<PatientPort of {self._port!r}>"


def _unhurried(args: tuple[Arg, ...]) -> tuple[Arg, ...]:
    name, *rest = args
    return (name.upper() if isinstance(name, str | bytes) else name, *rest)
