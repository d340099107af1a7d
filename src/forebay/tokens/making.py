"""From the options of `bay.tokens` to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from ..cache.base import Shared
from ..cache.core import CacheCore
from ..cache.making import make_cache
from ..cache.tally import Tally
from ..codecs.coding import coding_for
from ..sessions.eviction import EvictionWatch
from ..sessions.token import Tokens as FamilyNames
from .core import TokensCore
from .families import Families
from .options import TokenOptions, read_options
from .refresh_token import RefreshTokens
from .revocations import REVOKED, Revocations
from .signing import Signer

__all__ = ["make_tokens"]

T = TypeVar("T", bound=TokensCore)


def make_tokens(
    kind: type[T],
    shared: Shared,
    tally: Tally,
    signing_keys: str | bytes | Sequence[str | bytes],
    options: TokenOptions,
    eviction: EvictionWatch,
    *,
    awaits: bool,
) -> T:
    """Return tokens of *kind*.

    Raises:
        InvalidDuration, SettingsError: an option cannot be used, or PyJWT is not installed.
        TypeError: there is no such option.
    """
    times, signing = read_options(options)
    signer = Signer(signing_keys, **signing)
    refresh = RefreshTokens(times.secret)
    families = Families(
        shared.port,
        shared.prefix,
        shared.reporter,
        shared.clock,
        times.lifetimes,
        FamilyNames(times.secret),
        coding_for(None),
        eviction,
        refresh=refresh,
        grace=times.grace,
    )
    cache: CacheCore[Any] = make_cache(
        CacheCore[Any],
        shared,
        REVOKED,
        frozenset[str],
        tally,
        {"ttl": "1h", "near": 256, "near_strict": times.strict},
        awaits=awaits,
        own=True,
    )
    return kind(families, refresh, Revocations(shared.port, shared.prefix, cache, awaits=awaits), signer, times.access, signing["leeway"])
