"""Bytes on one side, commands and replies on the other; the only file that knows hiredis."""

from __future__ import annotations

import re
from typing import Any, Final

import hiredis

from ..errors import InvalidCommand, NoScript, ProtocolViolation, Redirected, Refused, ServerError

__all__ = ["NOT_ENOUGH", "PING", "Arg", "Push", "Reply", "new_reader", "pack"]

Arg = str | bytes | int | float | memoryview
"""What a command is made of. Text is sent as UTF-8."""

Reply = Any
"""What a server answers: bytes, int, float, bool, None, lists and dicts of them, or a `ServerError` within a list."""

Push = hiredis.PushNotification
NOT_ENOUGH: Final = object()

# The server is up, and says "not now" or "not here": nothing was executed.
_REFUSALS: Final = frozenset({"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"})


_REDIRECT: Final = re.compile(r"(?:MOVED|ASK) \d{1,5} \S*:\d{1,5}")


def pack(args: tuple[Arg, ...]) -> bytes:
    """Return the bytes of one command.

    Raises:
        InvalidCommand: no argument at all, or one that is not text, bytes or a number. Nothing was sent.
    """
    try:
        packed: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError) as error:
        raise _complaint(args) from error
    if not args:
        raise InvalidCommand("a command needs at least its name, as in execute('PING')")
    return packed


PING: Final = pack(("PING",))


def new_reader() -> hiredis.Reader:
    """Return a parser of replies. It raises `ProtocolViolation` on bytes that are not RESP."""
    return hiredis.Reader(protocolError=ProtocolViolation, replyError=_reply_error, notEnoughData=NOT_ENOUGH)


def _reply_error(text: str) -> ServerError:
    code = text.partition(" ")[0]
    if code in _REFUSALS:
        return Refused(text)
    if _REDIRECT.fullmatch(text):
        return Redirected(text)
    return NoScript(text) if code == "NOSCRIPT" else ServerError(text)


def _complaint(args: tuple[Any, ...]) -> InvalidCommand:
    name = args[0] if isinstance(args[0], str) else "command"
    for position, arg in enumerate(args):
        if isinstance(arg, str):
            try:
                arg.encode()
            except UnicodeEncodeError:
                return InvalidCommand(f"argument {position} of {name} holds a lone surrogate, which UTF-8 cannot carry")
        elif not isinstance(arg, bytes | int | float | memoryview) or isinstance(arg, bool):
            return InvalidCommand(f"argument {position} of {name} is {type(arg).__name__}: give text, bytes or a number")
    return InvalidCommand(f"{name} has an argument that cannot be sent")
