"""Any command, raw: alone, in a pipeline, in a transaction, as a script, or as a subscription. What both bays are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from .colours import complete, documented_like
from .durations import Duration, to_seconds
from .errors import Closed, InvalidCommand, ServerError, Unavailable
from .port.port import Arg, Port, Reply, Subscribed

if TYPE_CHECKING:
    from .port.scripts import Script
    from .wire.subscription import Message

__all__ = ["AsyncCommands", "AsyncSubscription", "BoundAsyncScript", "BoundScript", "Commands", "Subscription"]

Errors = Literal["raise", "return"]


class AsyncCommands:
    """Commands for asyncio. Keys are sent as they are, without the bay's prefix."""

    port: Any  # a Port

    async def execute(self, *args: Arg, timeout: Duration | None = None, idempotent: bool = False, replica: bool = False) -> Reply:
        """Send any command, as in ``execute("OBJECT", "ENCODING", "user:42")``, and return its reply.

        Args:
            timeout: bounds everything, also waiting and repeating; default: the read timeout (and what the command itself blocks).
            idempotent: running twice does no harm: it may be repeated when its outcome is unknown. What only reads always is.
            replica: a replica may answer (Sentinel and cluster), with what may be old.

        Raises:
            InvalidCommand: an argument is not text, bytes or a number, or the command would change the shared connection.
            CrossSlot: its keys are in several slots of the cluster, and it cannot be split.
            OutcomeUnknown: it may or may not have run (see its subclasses).
            Unavailable: it did not run.
            ServerError: the server refused.
        """
        if args and not _is_shouted(args[0]):
            args = _shouted(args)
        if timeout is not None or replica:
            return await self.port.execute(*args, timeout=_seconds(timeout), idempotent=idempotent, replica=replica)
        try:  # as the port's own execute does, one coroutine shorter
            return await self.port.send(*args)
        except Unavailable as error:
            return await self.port.again(error, args, idempotent=idempotent)

    async def pipeline(
        self,
        commands: Iterable[Sequence[Arg]],
        *,
        timeout: Duration | None = None,
        idempotent: bool = False,
        replica: bool = False,
        errors: Errors = "raise",
    ) -> list[Reply]:
        """Send several commands in one write (to each node of a cluster) and return the list of replies.

        They are not a transaction: each runs, or is refused, for itself.

        Args:
            timeout, idempotent, replica: as for `execute`, for all together.
            errors: "raise" the first refusal once all are done, or "return" refusals as `ServerError` values in the list.

        Raises:
            As `execute`.
        """
        return await _pipeline(self.port, commands, errors, timeout=_seconds(timeout), idempotent=idempotent, replica=replica)

    async def transaction(
        self, commands: Iterable[Sequence[Arg]], *, timeout: Duration | None = None, errors: Errors = "raise"
    ) -> list[Reply]:
        """Run several commands with nothing in between (``MULTI``, ``EXEC``) and return the list of replies.

        Nothing is rolled back: a command that fails while it runs leaves the others done.

        Raises:
            ServerError: a command was malformed and none ran; or, with ``errors="raise"``, the first that failed while running.
            OutcomeUnknown: all ran, or none did.
            InvalidCommand, CrossSlot, Unavailable: as for `execute`.
        """
        return await _transaction(self.port, commands, errors, _seconds(timeout))

    def script(self, source: str) -> BoundAsyncScript:
        """Return a Lua script of this bay, to be called: ``await script(keys=["a"], args=[1])``. Nothing is sent yet."""
        return BoundAsyncScript(self.port, _script(source))

    def subscribe(self, *channels: str, patterns: Sequence[str] = ()) -> AsyncSubscription:
        """Return a subscription to *channels* and *patterns* (``"news.*"``), on a connection of its own.

        ``async with bay.subscribe("news") as messages: async for message in messages: ...``
        """
        return AsyncSubscription(_subscription(self, channels, patterns))


class BoundAsyncScript:
    """A script of one bay. It travels as its digest; a node that does not know it is sent the source."""

    def __init__(self, port: Port, script: Script) -> None:
        self._port = port
        self._script = script

    async def __call__(
        self, keys: Sequence[Arg] = (), args: Sequence[Arg] = (), *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Reply:
        """Run the script and return its reply. In a cluster all *keys* must be in one slot. Raises as `AsyncForebay.execute`."""
        return await self._script.run(self._port, keys, args, timeout=_seconds(timeout), idempotent=idempotent)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._script!r}>"


class AsyncSubscription:
    """The messages of some channels. A lost connection is renewed and reported; what was published meanwhile is lost."""

    def __init__(self, core: Subscribed) -> None:
        self._core = core

    async def get(self, timeout: Duration | None = None) -> Message | None:
        """Return the next message; None if there was none within *timeout* (default: wait for ever).

        Raises:
            Closed: the subscription was closed.
        """
        return await self._core.next(_seconds(timeout))

    async def close(self) -> None:
        """Unsubscribe; safe to call again."""
        await self._core.close()

    async def __aenter__(self) -> Self:
        await self._core.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            message = await self._core.next(None)
        except Closed:
            raise StopAsyncIteration from None
        assert message is not None  # noqa: S101 - without a timeout there is always one
        return message


@documented_like(AsyncCommands)
class Commands:
    """Commands for threads: `AsyncCommands` without ``await``."""

    port: Any  # a Port

    def execute(self, *args: Arg, timeout: Duration | None = None, idempotent: bool = False, replica: bool = False) -> Reply:
        if args and not _is_shouted(args[0]):
            args = _shouted(args)
        return complete(self.port.execute(*args, timeout=_seconds(timeout), idempotent=idempotent, replica=replica))

    def pipeline(
        self,
        commands: Iterable[Sequence[Arg]],
        *,
        timeout: Duration | None = None,
        idempotent: bool = False,
        replica: bool = False,
        errors: Errors = "raise",
    ) -> list[Reply]:
        return complete(_pipeline(self.port, commands, errors, timeout=_seconds(timeout), idempotent=idempotent, replica=replica))

    def transaction(self, commands: Iterable[Sequence[Arg]], *, timeout: Duration | None = None, errors: Errors = "raise") -> list[Reply]:
        return complete(_transaction(self.port, commands, errors, _seconds(timeout)))

    def script(self, source: str) -> BoundScript:
        return BoundScript(self.port, _script(source))

    def subscribe(self, *channels: str, patterns: Sequence[str] = ()) -> Subscription:
        return Subscription(_subscription(self, channels, patterns))


class BoundScript(BoundAsyncScript):
    """A script of one bay, for threads."""

    def __call__(
        self, keys: Sequence[Arg] = (), args: Sequence[Arg] = (), *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Reply:
        """Run the script and return its reply. In a cluster all *keys* must be in one slot. Raises as `Forebay.execute`."""
        return complete(super().__call__(keys, args, timeout=timeout, idempotent=idempotent))


@documented_like(AsyncSubscription)
class Subscription:
    """The messages of some channels, for threads: `AsyncSubscription` without ``await``."""

    def __init__(self, core: Subscribed) -> None:
        self._core = core

    def get(self, timeout: Duration | None = None) -> Message | None:
        return complete(self._core.next(_seconds(timeout)))

    def close(self) -> None:
        complete(self._core.close())

    def __enter__(self) -> Self:
        complete(self._core.open())
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        try:
            message = complete(self._core.next(None))
        except Closed:
            raise StopIteration from None
        assert message is not None  # noqa: S101 - without a timeout there is always one
        return message


def _script(source: str) -> Script:
    from .port.scripts import Script  # on use: a bay without scripts needs no digests

    return Script(source)


def _subscription(bay: AsyncCommands | Commands, channels: Sequence[str], patterns: Sequence[str]) -> Subscribed:
    subscribed: Subscribed = bay.port.subscription(channels, patterns)
    return subscribed


async def _pipeline(port: Port, commands: Iterable[Sequence[Arg]], errors: Errors, **options: Any) -> list[Reply]:
    _check(errors)
    listed = _listed(commands)
    return _checked(await port.execute_many(listed, **options), listed, errors)


async def _transaction(port: Port, commands: Iterable[Sequence[Arg]], errors: Errors, timeout: float | None) -> list[Reply]:
    _check(errors)
    listed = _listed(commands)
    return _checked(await port.transaction(listed, timeout=timeout), listed, errors)


def _listed(commands: Iterable[Sequence[Arg]]) -> list[tuple[Arg, ...]]:
    if isinstance(commands, str | bytes) or not isinstance(commands, Iterable):
        raise InvalidCommand(f"commands are a list of lists, as in [('SET', 'k', 1), ('GET', 'k')], not {type(commands).__name__}")
    listed = list(commands)
    for position, command in enumerate(listed):
        if not isinstance(command, list | tuple):
            raise InvalidCommand(f"command {position} is {type(command).__name__}: write it as a list, as in ('GET', 'k')")
    return [_shouted(tuple(command)) for command in listed]


def _is_shouted(name: Arg) -> bool:
    return isinstance(name, str | bytes) and name.isupper()


def _shouted(args: tuple[Arg, ...]) -> tuple[Arg, ...]:
    """Write the command's name in upper case: in lower case it would have no more than the cache's budget to be answered."""
    return (args[0].upper(), *args[1:]) if args and isinstance(args[0], str | bytes) else args


def _seconds(timeout: Duration | None) -> float | None:
    return None if timeout is None else to_seconds(timeout)


def _checked(replies: list[Reply], commands: Sequence[Sequence[Arg]], errors: Errors) -> list[Reply]:
    if errors == "raise":
        for index, reply in enumerate(replies):
            if isinstance(reply, ServerError):
                reply.add_note(f"command {index} of {len(commands)}: {commands[index][0]!r}")
                raise reply
    return replies


def _check(errors: str) -> None:
    if errors not in ("raise", "return"):
        raise ValueError(f"errors={errors!r} is unknown: use 'raise' or 'return'")
