"""What must be known of a command before it is sent: does it only read, where are its keys, may it share a connection.

An unknown command counts as a write whose first argument is its key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ..errors import InvalidCommand
from .resp import Arg

__all__ = ["EVERYWHERE", "Traits", "blocks_for", "check_shared", "keys_of", "name_of", "traits_of"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READS: Final = _names(
    """
    BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP ECHO EVAL_RO EVALSHA_RO EXISTS EXPIRETIME FCALL_RO GEODIST GEOHASH GEOPOS
    GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HGET HGETALL HKEYS HLEN HMGET HPTTL HEXPIRETIME
    HPEXPIRETIME HRANDFIELD HSCAN HSTRLEN HTTL HVALS INFO LCS LINDEX LLEN LPOS LRANGE MGET OBJECT PEXPIRETIME PFCOUNT PING PTTL
    RANDOMKEY ROLE SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER SSCAN STRLEN SUBSTR
    SUNION TIME TOUCH TTL TYPE XINFO XLEN XPENDING XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE
    ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION
    """
)
_WITHOUT_KEYS: Final = _names(
    """
    ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DBSIZE DEBUG DISCARD ECHO EXEC FAILOVER FUNCTION HELLO INFO
    LASTSAVE LATENCY LOLWUT MODULE MULTI PING PUBLISH PUBSUB RANDOMKEY READONLY READWRITE ROLE SAVE SCAN SCRIPT SELECT SHUTDOWN
    SLOWLOG SWAPDB TIME UNWATCH WAIT WAITAOF
    """
)
EVERYWHERE: Final = _names("DBSIZE FUNCTION SCRIPT")  # asked of every primary of a cluster
_ALL_ARE_KEYS: Final = _names(
    "DEL EXISTS MGET PFCOUNT PFMERGE RENAME RENAMENX SDIFF SDIFFSTORE SINTER SINTERSTORE SUNION SUNIONSTORE TOUCH UNLINK WATCH"
)
_TWO_KEYS: Final = _names("BLMOVE BRPOPLPUSH COPY GEOSEARCHSTORE LCS LMOVE RPOPLPUSH SMOVE ZRANGESTORE")
_KEYS_BEFORE_LAST: Final = _names("BLPOP BRPOP BZPOPMAX BZPOPMIN")
_PAIRS: Final = _names("MSET MSETNX")
_KEY_AT_TWO: Final = _names("MEMORY OBJECT XGROUP XINFO")
_STREAMS: Final = _names("XREAD XREADGROUP")
_COUNTED_AT: Final = {  # where the number of keys stands; the keys follow
    **dict.fromkeys(_names("LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION"), 1),
    **dict.fromkeys(_names("BLMPOP BZMPOP EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO ZDIFFSTORE ZINTERSTORE ZUNIONSTORE"), 2),
}
_BLOCKS_SECONDS_AT: Final = {
    **dict.fromkeys(_names("BLMOVE BLPOP BRPOP BRPOPLPUSH BZPOPMAX BZPOPMIN"), -1),
    **dict.fromkeys(_names("BLMPOP BZMPOP"), 1),
}
_WAITS: Final = _names("WAIT WAITAOF")
_BLOCKS: Final = _STREAMS | _WAITS | _BLOCKS_SECONDS_AT.keys()
_CHANGES_CONNECTION: Final = {
    **dict.fromkeys(_names("SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE"), "use subscribe(...)"),
    **dict.fromkeys(_names("MONITOR SYNC PSYNC REPLCONF"), "its answer never ends"),
    **dict.fromkeys(_names("MULTI EXEC DISCARD WATCH UNWATCH"), "use transaction([...]), or a script"),
    **dict.fromkeys(_WAITS, "it counts its own connection's writes: put it behind them in a pipeline([...])"),
    **dict.fromkeys(_names("HELLO RESET QUIT ASKING READONLY READWRITE"), "Forebay does that itself"),
    "SELECT": "the database is chosen by the URL or REDIS_DB",
    "AUTH": "user and password are chosen by the URL, or REDIS_USERNAME and REDIS_PASSWORD",
}
_CHANGES_BY_SECOND_WORD: Final = {
    "CLIENT": _names("CACHING CAPA NO-TOUCH REPLY SETNAME TRACKING"),
    "SCRIPT": _names("DEBUG"),
}
_MOST_REMEMBERED: Final = 4096


class Traits(Struct, frozen=True):
    """What is known of one command by its name.

    ``key_at`` is the place of its only key (0: none, -1: see `keys_of`). ``plain`` commands may share a connection, no questions asked.
    """

    name: str
    reads: bool
    key_at: int
    blocks: bool
    plain: bool


_seen: dict[Arg, Traits] = {}


def traits_of(name: Arg) -> Traits:
    """Return what is known of the command called *name*, whatever its case and whether text or bytes."""
    try:
        known = _seen.get(name)
    except (TypeError, ValueError):  # bytes that may change
        name = bytes(name)  # type: ignore[arg-type]
        known = _seen.get(name)
    if known is None:
        if len(_seen) > _MOST_REMEMBERED:
            _seen.clear()
        known = _seen[name] = _judge(name_of(name))
    return known


def name_of(name: Arg) -> str:
    """Return a command's name as tables and messages have it."""
    return _text(name).upper()


def _judge(name: str) -> Traits:
    if name in _WITHOUT_KEYS:
        key_at = 0
    elif name in _KEY_AT_TWO:
        key_at = 2
    elif name in _ALL_ARE_KEYS | _TWO_KEYS | _KEYS_BEFORE_LAST | _PAIRS | _STREAMS | _COUNTED_AT.keys() | {"BITOP"}:
        key_at = -1
    else:
        key_at = 1
    blocks = name in _BLOCKS
    return Traits(
        name, name in _READS, key_at, blocks, not blocks and name not in _CHANGES_CONNECTION and name not in _CHANGES_BY_SECOND_WORD
    )


def check_shared(traits: Traits, args: Sequence[Arg], *, lone: bool) -> None:
    """Refuse what would change the connection for all who share it; *lone* is a command outside of a pipeline.

    Raises:
        InvalidCommand: nothing was sent; the message says what to use instead.
    """
    why = _CHANGES_CONNECTION.get(traits.name)
    if why is not None and (lone or not traits.blocks) and (traits.name != "HELLO" or len(args) > 1):
        raise InvalidCommand(f"{traits.name} changes the connection that all callers share: {why}")
    if len(args) > 1 and name_of(args[1]) in _CHANGES_BY_SECOND_WORD.get(traits.name, ()):
        raise InvalidCommand(f"{traits.name} {name_of(args[1])} changes the connection that all callers share: Forebay does that itself")


def blocks_for(traits: Traits, args: Sequence[Arg]) -> float:
    """Return for how many seconds the server may keep this command waiting: 0 for most, ``math.inf`` for ever."""
    if not traits.blocks:
        return 0.0
    try:
        if traits.name in _BLOCKS_SECONDS_AT:
            seconds = float(_text(args[_BLOCKS_SECONDS_AT[traits.name]]))
        elif traits.name in _WAITS:
            seconds = float(_text(args[-1])) / 1000
        else:
            first = 4 if traits.name == "XREADGROUP" else 1  # behind the names of group and consumer
            options = [name_of(arg) for arg in args[first : first + 6]]
            if "BLOCK" not in options or "STREAMS" in options[: options.index("BLOCK")]:
                return 0.0
            seconds = float(_text(args[first + options.index("BLOCK") + 1])) / 1000
    except (ValueError, IndexError):
        return 0.0  # the server will say what is wrong with it
    return math.inf if seconds == 0 else max(0.0, seconds)  # a negative one the server refuses


def keys_of(args: Sequence[Arg]) -> Sequence[Arg]:
    """Return the keys among *args*; none if the command has none, or too few arguments for the server to take it."""
    traits = traits_of(args[0])
    name = traits.name
    if traits.key_at > 0:
        return args[traits.key_at : traits.key_at + 1]
    if traits.key_at == 0:
        return ()
    if name in _ALL_ARE_KEYS:
        return args[1:]
    if name in _TWO_KEYS:
        return args[1:3]
    if name in _KEYS_BEFORE_LAST:
        return args[1:-1]
    if name in _PAIRS:
        return args[1::2]
    if name == "BITOP":
        return args[2:]
    if name in _COUNTED_AT:
        return _counted(name, args)
    first = 4 if name == "XREADGROUP" else 1
    words = [name_of(arg) for arg in args[first:]]
    rest = args[first + words.index("STREAMS") + 1 :] if "STREAMS" in words else ()
    return rest[: len(rest) // 2]


def _counted(name: str, args: Sequence[Arg]) -> Sequence[Arg]:
    at = _COUNTED_AT[name]
    try:
        count = int(_text(args[at]))
    except (ValueError, IndexError):
        return ()
    keys = list(args[at + 1 : at + 1 + max(count, 0)])
    return [args[1], *keys] if name.endswith("STORE") else keys


def _text(arg: Arg) -> str:
    if isinstance(arg, str):
        return str.__str__(arg)  # what is sent, also of an enum's member
    return bytes(arg).decode("ascii", "replace") if isinstance(arg, bytes | bytearray | memoryview) else str(arg)
