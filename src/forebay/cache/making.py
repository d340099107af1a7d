"""From the options of `bay.cache` to a cache. What the connection cannot do is left out, and said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, Literal, TypeVar

from msgspec.structs import replace

from ..codecs.coding import coding_for
from ..durations import Duration, to_ms
from ..errors import SettingsError
from ..events import NearTierOff
from ..keys import Namespace
from .assurance import Assurance
from .base import OnOutage, Shared
from .core import CacheCore
from .freshness import Freshness, FreshnessOptions
from .nearby import Nearby
from .outbox import GatedPort, Outbox
from .roll import Roll
from .tally import Tally

__all__ = ["CacheOptions", "make_cache"]

C = TypeVar("C", bound=CacheCore[Any])

_LEASE: Final = "5s"
_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_CODING: Final = ("codec", "compress_above", "dictionary", "seal_keys", "max_bytes")


class CacheOptions(FreshnessOptions, total=False):
    """What a cache can be told beside its namespace and type.

    Attributes:
        outbox: an invalidation that cannot reach the server is kept in this process and sent when it can, instead of raising; until
            then caches with an outbox load, and serve nothing that is stored. Default False.
        on_outage: "fallback" (reads miss, writes are reported) or "raise".
        near_strict: an invalidation returns once no other process serves what it removed from its near tier: they have said so,
            or their lease of a second has run out. For every cache of the namespace, in all processes. Default False: an
            older value is served elsewhere while the message travels.
        near: how many entries (``10_000``), or how much of encoded values (``"64mb"``), to hold in this process; None: nothing.
        lease: how long a load may be silent until another caller may load; it is renewed while the loader runs. Default 5 seconds.
        versioned: `clear` changes one version instead of looking for all keys; every entry then has an envelope.
        codec: "json" or "msgpack".
        compress_above: compress encoded values above so many bytes with zstd (``forebay[zstd]``).
        dictionary: for the compression, from `train_dictionary`.
        seal_keys: encrypt with AES-256-GCM (``forebay[crypto]``): keys from `new_sealing_key`, the newest last; all can be read.
        max_bytes: refuse values whose encoding is larger.
    """

    on_outage: OnOutage
    near: int | str | None
    near_strict: bool
    outbox: bool
    lease: Duration
    versioned: bool
    codec: Literal["json", "msgpack"]
    compress_above: int | None
    dictionary: bytes | None
    seal_keys: Sequence[bytes | str]
    max_bytes: int


def make_cache(
    kind: type[C], shared: Shared, namespace: str, type_: Any, tally: Tally, options: CacheOptions, *, awaits: bool, own: bool = False
) -> C:
    """Return a cache of *kind*; *own* ones may have names that are reserved.

    Raises:
        InvalidNamespace, InvalidDuration, SettingsError: an option cannot be used.
        EncodeError: the type cannot be stored.
        TypeError: there is no such option.
    """
    space = Namespace(shared.prefix, namespace, own=own)
    rest: dict[str, Any] = dict(options)
    coding: dict[str, Any] = {name: rest.pop(name) for name in _CODING if name in rest}
    lease = to_ms(rest.pop("lease", _LEASE))
    if lease < 100:
        raise SettingsError(f"lease={options.get('lease')!r} is under 100 ms: a load could not be renewed in time")
    near = rest.pop("near", None)
    on_outage: OnOutage = rest.pop("on_outage", "fallback")
    versioned = bool(rest.pop("versioned", False))
    strict = bool(rest.pop("near_strict", False))
    outbox = shared.outbox if rest.pop("outbox", False) else None
    freshness = Freshness().having(rest)  # type: ignore[arg-type]  # what is left are its options, or it says what is not
    nearby, roll = _near(shared, space, near, strict=strict, outbox=outbox, awaits=awaits)
    if outbox is not None:
        shared = replace(shared, port=GatedPort(shared.port, outbox))
    return kind(
        shared,
        space,
        partial(coding_for, **coding),
        type=type_,
        freshness=freshness,
        on_outage=on_outage,
        lease=lease,
        near=nearby,
        versioned=versioned,
        tally=tally,
        assurance=Assurance(shared.port, space.label, roll, outbox, tally),
    )


def _near(
    shared: Shared, space: Namespace, near: int | str | None, *, strict: bool, outbox: Outbox | None, awaits: bool
) -> tuple[Nearby | None, Roll | None]:
    """Return the near tier, if there is one, and the roll that an invalidation has to call, if it is *strict*."""
    if strict and shared.book.splits:
        raise SettingsError(f"near_strict of cache {space.label!r} needs a single server or a primary behind sentinels, not a cluster")
    roll = Roll(shared.prefix, space) if strict else None
    if near is None:
        return None, roll
    entries, size = _bounds(near)
    try:
        if not shared.port.tells:
            raise SettingsError("a client of your own does not tell of changed keys: open the bay with a url instead")
        broadcast = None if awaits and not strict else shared.broadcast(space, strict=strict)
    except SettingsError as error:
        shared.reporter.report(NearTierOff(error, space.label))
        return None, roll
    if strict and broadcast is not None:
        roll = broadcast.roll
    trusted = partial(_trusts, roll, outbox) if roll is not None or outbox is not None else None
    return Nearby(shared.port.tracking, entries, size, broadcast, trusted), roll


def _trusts(roll: Roll | None, outbox: Outbox | None) -> bool:
    return (roll is None or roll.until > monotonic()) and (outbox is None or not outbox.pending)


def _bounds(near: int | str) -> tuple[int | None, int | None]:
    if isinstance(near, int) and not isinstance(near, bool) and near > 0:
        return near, None
    match = re.fullmatch(r"([0-9]{1,12})\s*([kmg]?)b?", near.strip().lower()) if isinstance(near, str) else None
    if match is None or not int(match[1]):
        raise SettingsError(f"near={near!r} is neither a number of entries, such as 10_000, nor a size, such as '64mb'")
    return None, int(match[1]) * _UNITS[match[2]]
