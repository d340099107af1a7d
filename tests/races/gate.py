"""Holds the steps of one bay's operations, before they are sent or after they were answered, until the test lets them go.

The server, the wire and the cache are the real ones; a gate stands between the cache and its port. No step is held by time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from forebay.cache import leases

__all__ = ["Gate", "Hold"]

_PATIENCE = 10.0
_STEPS = {"fill": leases._FILL, "release": leases._RELEASE, "lease": leases._LEASE_VALUE, "take": leases._REPLACE}
_SCRIPTS = {text: step for step, script in _STEPS.items() for text in (script.digest, script.source)}


class Hold:
    """One step that stands still. `reached` waits until somebody stands there, `let_go` lets that one go on."""

    def __init__(self, *, awaits: bool) -> None:
        self._awaits = awaits
        self._here: Any = asyncio.Event() if awaits else threading.Event()
        self._go: Any = asyncio.Event() if awaits else threading.Event()

    async def stand(self) -> None:
        self._here.set()
        if self._awaits:
            await asyncio.wait_for(self._go.wait(), _PATIENCE)
        else:
            assert self._go.wait(_PATIENCE), "nobody let it go"

    async def reached(self) -> None:
        if self._awaits:
            await asyncio.wait_for(self._here.wait(), _PATIENCE)
        else:
            assert await asyncio.to_thread(self._here.wait, _PATIENCE), "nobody came"

    def let_go(self) -> None:
        self._go.set()


class Gate:
    """Stands before the port of a bay whose caches are not made yet, in either colour.

    *methods* are those of the port that it stands before; *step_of* names a call by its method and arguments.
    """

    def __init__(
        self,
        bay: Any,
        *,
        awaits: bool,
        methods: Sequence[str] = ("get", "execute", "execute_many", "track"),
        step_of: Callable[[str, tuple[Any, ...]], str] | None = None,
    ) -> None:
        self._awaits = awaits
        self._step_of = _step if step_of is None else step_of
        self._holds: dict[tuple[str, str], list[Hold]] = {}
        self._changed = threading.Condition()
        self.passed: Counter[tuple[str, str]] = Counter()
        for name in methods:
            setattr(bay.port, name, self._through(name, getattr(bay.port, name)))

    def hold(self, step: str, side: str) -> Hold:
        """Hold the next one who comes to that *side* ("before", "after") of *step*."""
        made = Hold(awaits=self._awaits)
        with self._changed:
            self._holds.setdefault((step, side), []).append(made)
        return made

    async def pass_by(self, step: str, side: str) -> None:
        """Come to a side of a step; loaders call this by themselves."""
        with self._changed:
            self.passed[step, side] += 1
            waiting = self._holds.get((step, side))
            hold = waiting.pop(0) if waiting else None
            self._changed.notify_all()
        if hold is not None:
            await hold.stand()

    async def until_passed(self, step: str, side: str, times: int, or_done: asyncio.Future[Any]) -> None:
        """Wait until so many have come there since the gate was made, or until *or_done* is."""

        def changed(_done: Any) -> None:
            with self._changed:
                self._changed.notify_all()

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: or_done.done() or self.passed[step, side] >= times, _PATIENCE)

        or_done.add_done_callback(changed)
        assert await asyncio.to_thread(wait), f"{step} was not passed {times} times: {self.passed}"

    def _through(self, name: str, original: Any) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            step = self._step_of(name, args)
            await self.pass_by(step, "before")
            reply = await original(*args, **options)
            await self.pass_by(step, "after")
            return reply

        return call


def _step(name: str, args: tuple[Any, ...]) -> str:
    """Say which step of an operation a call of the port is."""
    command = {"get": ("get", *args), "execute": args}.get(name)
    if command is None:
        commands = args[1] if name == "track" else args[0]
        command = commands[0]
    word = str(command[0]).lower()
    if word in ("evalsha", "eval"):
        return _SCRIPTS.get(str(command[1]), "script")
    if word == "set" and "NX" in command:
        return "versions" if "#" in str(command[1]) else "lease"
    return {"get": "read", "mget": "versions", "unlink": "remove"}.get(word, word)
