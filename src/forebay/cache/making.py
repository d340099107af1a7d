"""From the options of `bay.cache` to a cache. What the connection cannot do is left out, and said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal, TypeVar

from ..codecs.coding import coding_for
from ..durations import Duration, to_ms
from ..errors import SettingsError
from ..events import NearTierOff
from ..keys import Namespace
from .base import OnOutage, Shared
from .core import CacheCore
from .freshness import Freshness, FreshnessOptions
from .nearby import Nearby
from .tally import Tally

__all__ = ["CacheOptions", "make_cache"]

C = TypeVar("C", bound=CacheCore[Any])

_LEASE: Final = "5s"
_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_CODING: Final = ("codec", "compress_above", "dictionary", "seal_keys", "max_bytes")


class CacheOptions(FreshnessOptions, total=False):
    """What a cache can be told beside its namespace and type.

    Attributes:
        on_outage: "fallback" (reads miss, writes are reported) or "raise".
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
    lease: Duration
    versioned: bool
    codec: Literal["json", "msgpack"]
    compress_above: int | None
    dictionary: bytes | None
    seal_keys: Sequence[bytes | str]
    max_bytes: int


def make_cache(kind: type[C], shared: Shared, namespace: str, type_: Any, tally: Tally, options: CacheOptions, *, awaits: bool) -> C:
    """Return a cache of *kind*.

    Raises:
        InvalidNamespace, InvalidDuration, SettingsError: an option cannot be used.
        EncodeError: the type cannot be stored.
        TypeError: there is no such option.
    """
    space = Namespace(shared.prefix, namespace)
    rest: dict[str, Any] = dict(options)
    coding: dict[str, Any] = {name: rest.pop(name) for name in _CODING if name in rest}
    lease = to_ms(rest.pop("lease", _LEASE))
    if lease < 100:
        raise SettingsError(f"lease={options.get('lease')!r} is under 100 ms: a load could not be renewed in time")
    near = rest.pop("near", None)
    on_outage: OnOutage = rest.pop("on_outage", "fallback")
    versioned = bool(rest.pop("versioned", False))
    freshness = Freshness().having(rest)  # type: ignore[arg-type]  # what is left are its options, or it says what is not
    return kind(
        shared,
        space,
        partial(coding_for, **coding),
        type=type_,
        freshness=freshness,
        on_outage=on_outage,
        lease=lease,
        near=None if near is None else _near(shared, space, near, awaits=awaits),
        versioned=versioned,
        tally=tally,
    )


def _near(shared: Shared, space: Namespace, near: int | str, *, awaits: bool) -> Nearby | None:
    entries, size = _bounds(near)
    try:
        if not shared.port.tells:
            raise SettingsError("a client of your own does not tell of changed keys: open the bay with a url instead")
        broadcast = None if awaits else shared.broadcast(space)
    except SettingsError as error:
        shared.reporter.report(NearTierOff(error, space.label))
        return None
    return Nearby(shared.port.tracking, entries, size, broadcast)


def _bounds(near: int | str) -> tuple[int | None, int | None]:
    if isinstance(near, int) and not isinstance(near, bool) and near > 0:
        return near, None
    match = re.fullmatch(r"([0-9]{1,12})\s*([kmg]?)b?", near.strip().lower()) if isinstance(near, str) else None
    if match is None or not int(match[1]):
        raise SettingsError(f"near={near!r} is neither a number of entries, such as 10_000, nor a size, such as '64mb'")
    return None, int(match[1]) * _UNITS[match[2]]
