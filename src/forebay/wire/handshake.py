"""The first words on a connection: RESP3, who we are, which database. Sent in one write; each refusal has its remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..errors import ConnectFailed, ServerError
from ..settings import Settings
from .resp import Arg, Reply

__all__ = ["check", "greeting"]

CLIENT_NAME: Final = "forebay"


def greeting(settings: Settings) -> list[tuple[Arg, ...]]:
    """Return the commands that open a connection."""
    hello: tuple[Arg, ...] = ("HELLO", 3)
    if settings.password is not None:
        hello += ("AUTH", settings.username or "default", settings.password)
    return [hello, ("CLIENT", "SETNAME", CLIENT_NAME), ("SELECT", settings.db), ("PING",)]


def check(replies: Sequence[Reply], settings: Settings, where: str, unnamed: Callable[[ServerError], None]) -> None:
    """Check the replies to `greeting`; a refused name is passed to *unnamed* and is no error.

    Raises:
        ConnectFailed: the server refused; the message names *where*, the cause and what to do.
    """
    hello, named, selected, pong = replies
    if isinstance(hello, ServerError):
        raise ConnectFailed(f"{where} refused the connection: {_hello_remedy(hello, settings)}") from hello
    if isinstance(named, ServerError):
        unnamed(named)
    if isinstance(selected, ServerError):
        raise ConnectFailed(f"{where} has no database {settings.db} for us: {selected}; set REDIS_DB or the URL's path") from selected
    if isinstance(pong, ServerError):
        raise ConnectFailed(f"{where} is up but does not serve: {pong}") from pong


def _hello_remedy(error: ServerError, settings: Settings) -> str:
    if error.code == "WRONGPASS":
        user = settings.username or "default"
        return f"wrong password for user {user!r} (WRONGPASS); set REDIS_USERNAME and REDIS_PASSWORD, or the URL's user:password@"
    if error.code == "NOAUTH" or "without any password" in str(error):
        have = "none is configured here" if settings.password is None else "it expects none"
        return f"{error.code}: about its password, {have}; set or unset REDIS_PASSWORD, or the URL's user:password@"
    if error.code in ("ERR", "NOPROTO"):
        return f"it does not speak RESP3 ({error}); Forebay needs Redis 7.0 or later, or Valkey 8 or later"
    return str(error)
