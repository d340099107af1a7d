"""The words of redis-py and valkey-py and ours: what a command is called there, and what their replies and errors are here.

Nothing here imports them. Their classes are told by name, for both packages call them alike.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from inspect import isclass
from typing import Any, Final, cast

from ..errors import (
    ConnectFailed,
    ConnectionLost,
    CrossSlot,
    DeadlineExceeded,
    ForebayError,
    InvalidCommand,
    Overloaded,
    ProtocolViolation,
    ServerError,
)
from ..wire.resp import Arg, Reply, new_reader, pack

__all__ = ["RAW", "Errors", "shaped", "spoken", "words_of"]

RAW: Final = {"NEVER_DECODE": True}
"""The option of `execute_command` that leaves a reply as bytes, whatever the client's ``decode_responses``."""

# The first word of a server's error, where the client has made a class of it and taken the word away.
_CODE_OF: Final = {
    "AskError": "ASK",
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "ExecAbortError": "EXECABORT",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "SlotNotCoveredError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
}
_ACCOUNT: Final = frozenset({"AuthenticationError", "AuthorizationError", "ExternalAuthProviderError"})
_POOL_IS_EMPTY: Final = frozenset({"Too many connections", "No connection available."})  # before MaxConnectionsError was there
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{2,}(?= |$)")
# "ERR EXEC without MULTI" loses its ERR: these stand first in errors of the server, and are no codes.
_COMMANDS_AND_OPTIONS: Final = """
    ACL BITOP CLIENT CLUSTER CONFIG COUNT DEBUG DISCARD EVAL EVALSHA EXEC FAILOVER FUNCTION GEORADIUS GET HELLO LATENCY LIMIT
    LMPOP LPOS MEMORY MIGRATE MINID MAXLEN MULTI NOSAVE NUMKEYS OBJECT PSUBSCRIBE PSYNC PUBSUB REPLICAOF RESTORE SCRIPT SELECT SLAVEOF
    SORT STORE SUBSCRIBE SYNC TIMEOUT UNSUBSCRIBE WATCH WEIGHTS WITHSCORES XADD XGROUP ZADD ZRANGE ZRANGEBYLEX
"""
_NO_CODES: Final = frozenset(_COMMANDS_AND_OPTIONS.split())


def spoken(args: tuple[Arg, ...]) -> tuple[str, list[bytes]]:
    """Return a command's name, and its arguments as the bytes that Forebay's own wire would send.

    The name has a space behind it. The client drops it when it packs the command (as it splits ``"CONFIG GET"``), but finds
    no response callback under such a name, neither its own nor the user's: the reply stays as the server gave it.

    Raises:
        InvalidCommand: an argument cannot be sent, or the name is not one word.
    """
    name, *rest = words_of(pack(args))
    text = name.decode("utf-8", "replace").upper()
    if len(text.split()) != 1:
        raise InvalidCommand(f"a command's name is one word, not {text!r}: give each further word as an argument of its own")
    return f"{text} ", rest


def words_of(packed: bytes) -> list[bytes]:
    """Return the words of a packed command."""
    reader = new_reader()
    reader.feed(packed)
    return cast("list[bytes]", reader.gets())


def _as_map(reply: Reply) -> Reply:
    return dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply


def _as_set(reply: Reply) -> Reply:
    return set(reply) if isinstance(reply, list) else reply


def _as_float(reply: Reply) -> Reply:
    return float(reply) if isinstance(reply, bytes) else reply


_SHAPES: Final[dict[str, Callable[[Reply], Reply]]] = {
    "HGETALL ": _as_map,
    **dict.fromkeys(("SDIFF ", "SINTER ", "SMEMBERS ", "SUNION "), _as_set),
    **dict.fromkeys(("ZINCRBY ", "ZSCORE "), _as_float),
}


def shaped(name: str, reply: Reply) -> Reply:
    """Return the reply to the command called *name* as RESP3 has it, where it is a common command; any other as it is."""
    shape = _SHAPES.get(name)
    return reply if shape is None else shape(reply)


class Errors:
    """The errors of one client's package, to be caught and translated. *where* stands in the messages."""

    def __init__(self, family: str, where: str) -> None:
        known = vars(sys.modules[f"{family}.exceptions"]).values()
        theirs = [each for each in known if isclass(each) and issubclass(each, Exception) and each.__module__ == f"{family}.exceptions"]
        self.caught: tuple[type[Exception], ...] = (*theirs, OSError)
        self._where = where

    def values(self, replies: Sequence[Reply]) -> list[Reply]:
        """Return *replies* with errors, at any depth, as `ServerError` values.

        Raises:
            ForebayError: an error among the first level is no answer of the server.
        """
        ours = [self._value(reply) for reply in replies]
        for mine, reply in zip(ours, replies, strict=True):
            if isinstance(mine, ForebayError) and not isinstance(mine, ServerError):
                raise mine from cast("Exception", reply)
        return ours

    def deep(self, reply: Reply) -> Reply:
        """Return the reply of a script, which may be a list with errors in it."""
        return self.values(reply) if isinstance(reply, list) else reply

    def translated(self, error: Exception) -> ForebayError:
        """Return Forebay's error for *error*, to be raised from it."""
        names = [cls.__name__ for cls in type(error).__mro__]
        text = str(error).strip().replace("\r", " ").replace("\n", " ")
        code = next((_CODE_OF[name] for name in names if name in _CODE_OF), None)
        if code is not None:
            return _refusal(text if text.startswith(f"{code} ") else f"{code} {text}")
        if "MaxConnectionsError" in names or ("ConnectionError" in names and text in _POOL_IS_EMPTY):
            return Overloaded(f"{self._where}: the client's pool has no free connection: raise its max_connections")
        if not _ACCOUNT.isdisjoint(names):
            return ConnectFailed(f"{self._where}: {text}; mend the account that the client was made with")
        if "ResponseError" in names:
            return _refusal(_with_code(error, text))
        if "TimeoutError" in names:
            return DeadlineExceeded(f"{self._where}: no reply in time ({text or 'the deadline passed'}); the command may have run")
        if "ConnectionError" in names or isinstance(error, OSError):
            return ConnectionLost(f"{self._where}: {text}; the command may or may not have run")
        return self._of_cluster(error, names, text)

    def _of_cluster(self, error: Exception, names: Sequence[str], text: str) -> ForebayError:
        if "InvalidResponse" in names:
            return ProtocolViolation(f"{self._where}: {text}")
        if "DataError" in names:
            return InvalidCommand(f"the client refused an argument: {text}")
        if "ClusterError" in names:
            return _refusal(f"TRYAGAIN {self._where}: redirected again and again ({text})")
        if any(name.endswith("ClusterException") for name in names):
            if "same key slot" in text or "same slot" in text or "CrossSlotTransactionError" in names:
                return CrossSlot(f"{self._where}: the keys are in several slots of the cluster: give them a common {{tag}}")
            if "dispatch" in text:  # the text holds the arguments, which may be anybody's secret
                return InvalidCommand(f"{self._where}: the client cannot tell which node this command belongs to: it found no key in it")
            return ConnectionLost(f"{self._where}: {text}; the command may or may not have run")
        return _refusal(f"ERR {text or type(error).__name__}")

    def _value(self, reply: Reply) -> Reply:
        if isinstance(reply, Exception):
            mine = self.translated(reply)
            mine.__cause__ = reply
            return mine
        return [self._value(each) for each in reply] if isinstance(reply, list) else reply


def _with_code(error: Exception, text: str) -> str:
    """Return the server's words, with the ``ERR`` that the client took away."""
    said: Any = getattr(error, "status_code", None)
    if said is not None:
        return text if text.startswith(f"{said} ") else f"{said} {text}"
    found = _CODE.match(text)
    return text if found is not None and found[0] not in _NO_CODES else f"ERR {text}"


def _refusal(text: str) -> ServerError:
    """Return the error that Forebay's own wire makes of *text*."""
    reader = new_reader()
    reader.feed(b"-" + text.encode("utf-8", "replace") + b"\r\n")
    return cast("ServerError", reader.gets())
