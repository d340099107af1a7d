"""For the tests of applications: a private server, a namespace for each test, a clock to move, a switch for outages, counted loads.

``pytest_plugins = ["forebay.testing"]`` in a ``conftest.py`` brings the fixtures. Everything else works without pytest, which
is imported with the fixtures alone. (PYTEST_DONT_REWRITE: nothing here asserts, and a conftest may have imported it before.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ageing import AsyncMovedClock, MovedClock, moved_clock
    from .fixtures import forebay_bay, forebay_outage, forebay_prefix, forebay_route, forebay_server, forebay_sync_bay, forebay_url
    from .loads import assert_loads
    from .outage import Outage

_HOMES = {
    "ageing": ("AsyncMovedClock", "MovedClock", "moved_clock"),
    "fixtures": (
        "forebay_bay",
        "forebay_outage",
        "forebay_prefix",
        "forebay_route",
        "forebay_server",
        "forebay_sync_bay",
        "forebay_url",
    ),
    "loads": ("assert_loads",),
    "outage": ("Outage",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_FOR_PYTEST = ("_forebay_bay_of_anyio", "_forebay_bay_of_asyncio")  # it looks for fixtures in dir(), as it does for a plain module's

__all__ = [
    "AsyncMovedClock",
    "MovedClock",
    "Outage",
    "assert_loads",
    "forebay_bay",
    "forebay_outage",
    "forebay_prefix",
    "forebay_route",
    "forebay_server",
    "forebay_sync_bay",
    "forebay_url",
    "moved_clock",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        home = "fixtures" if name in _FOR_PYTEST else _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module 'forebay.testing' has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"forebay.testing.{home}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_FOR_PYTEST})
