"""How often loaders ran within a block, and for which keys: the figure that tests of a cache are about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from ..bay import AsyncForebay, Forebay
from ..cache.cache import AsyncCache, Cache
from ..cache.tally import Tally
from ..operations import Loaded, LoadFailed, Operation

__all__ = ["assert_loads"]

_NAMED: Final = 10  # loads whose keys a failure names, for each namespace


@contextmanager
def assert_loads(counted: AsyncCache[Any] | Cache[Any] | AsyncForebay | Forebay, expected: int) -> Iterator[None]:
    """Fail unless loaders ran *expected* times within the block, whether they returned or raised. For both colours with ``with``.

    Args:
        counted: a cache, whose namespace is counted in its bay, or a bay, for all of its caches.

    Raises:
        AssertionError: both numbers, and the loads by namespace and keys. Not if the block raises something itself.
    """
    if not isinstance(counted, AsyncCache | Cache | AsyncForebay | Forebay):
        raise TypeError(f"loads are counted of a cache or a bay, as in assert_loads(users, 1), not of {type(counted).__name__}")
    before = {namespace: _runs(tally) for namespace, tally in _tallies(counted).items()}
    heard: dict[str, list[str]] = {}
    with ExitStack() as listening:
        for namespace, tally in _tallies(counted).items():
            listening.enter_context(_heard(tally, heard.setdefault(namespace, []).append))
        yield
    after = {namespace: _runs(tally) - before.get(namespace, 0) for namespace, tally in _tallies(counted).items()}
    seen = sum(after.values())
    if seen != expected:
        where = [_told(namespace, runs, heard.get(namespace, [])) for namespace, runs in sorted(after.items()) if runs]
        raise AssertionError(f"{_loads(expected)} expected, and there {_loads(seen, first=False)}: {', '.join(where) or 'none at all'}")


def _tallies(counted: Any) -> dict[str, Tally]:
    if isinstance(counted, AsyncForebay | Forebay):
        return dict(counted._tallies)  # noqa: SLF001 - users have no need for them
    core = counted._core if isinstance(counted, Cache) else counted  # noqa: SLF001
    return {core.namespace: core._tally}  # noqa: SLF001


def _runs(tally: Tally) -> int:
    return tally.loads + tally.load_errors


@contextmanager
def _heard(tally: Tally, note: Callable[[str], None]) -> Iterator[None]:
    """Note the keys of loads; whoever listens already goes on hearing of everything."""
    tell = tally.tell

    def hear(operation: Operation) -> None:
        if isinstance(operation, Loaded | LoadFailed):
            note(" + ".join(map(repr, operation.keys)))
        if tell is not None:
            tell(operation)

    tally.tell = hear
    try:
        yield
    finally:
        tally.tell = tell


def _told(namespace: str, runs: int, keys: list[str]) -> str:
    named = ", ".join(keys[:_NAMED]) + (", ..." if len(keys) > _NAMED else "")
    return f"{runs} in {namespace!r}" + (f" (of {named})" if named else "")


def _loads(count: int, *, first: bool = True) -> str:
    if first:
        return "1 load was" if count == 1 else f"{count} loads were"
    return "was 1" if count == 1 else f"were {count}"
