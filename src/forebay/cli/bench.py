"""``forebay bench``: what this machine and that server make together, in a namespace of its own that is removed again."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from secrets import token_hex
from typing import Annotated, Any, Final

import typer

from ..bay import Forebay
from ..settings import Settings
from .ending import refuse
from .options import JsonOption, PrefixOption, UrlOption, settings_for

__all__ = ["bench"]

_KEPT: Final = "10m"  # if it is killed, what it stored goes by itself
_MANY: Final = 100
_VALUE: Final = {"id": 42, "name": "Ada Lovelace", "email": "ada@example.org"}
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def bench(
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, max=300, help="For all lines together.")] = 3.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Also put load on a server that is not on this machine.")] = False,
    url: UrlOption = None,
    prefix: PrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Measure one caller, one operation after the other: operations a second, and how long half and 99 of 100 took."""
    settings = settings_for(url)
    if not yes and not _is_here(settings):
        refuse(f"{settings.where} is not on this machine: say --yes if it may have the load of one busy client for some seconds")
    results: dict[str, dict[str, float]] = {}
    with Forebay(settings=settings, prefix=prefix) as bay:
        namespace = f"forebay-bench-{token_hex(4)}"
        cache, near = bay.cache(namespace, ttl=_KEPT), bay.cache(namespace, ttl=_KEPT, near=10)
        try:
            keys = range(_MANY)
            cache.set_many({"k": _VALUE, **{str(key): _VALUE for key in keys}})
            works: dict[str, Callable[[], Any]] = {
                "ping": bay.ping,
                "get": lambda: cache.get("k"),
                "get_or_set": lambda: cache.get_or_set("k", lambda: _VALUE),
                f"get_many of {_MANY}": lambda: cache.get_many(keys),
                "set": lambda: cache.set("k", _VALUE),
                "get, near": lambda: near.get("k"),
                "get_or_set, near": lambda: near.get_or_set("k", lambda: _VALUE),
            }
            for name, work in works.items():
                results[name] = _measure(work, seconds / len(works))
        finally:
            cache.clear()
    if as_json:
        typer.echo(json.dumps(results))
        return
    for name, result in results.items():
        typer.echo(f"{name:18} {result['per_second']:12,.0f}/s   p50 {result['p50_us']:8.1f} us   p99 {result['p99_us']:8.1f} us")


def _measure(work: Callable[[], Any], seconds: float) -> dict[str, float]:
    times: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        work()
        times.append(time.perf_counter() - began)
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
    return {"per_second": len(times) / sum(times), "p50_us": cuts[49] * 1e6, "p99_us": cuts[98] * 1e6}


def _is_here(settings: Settings) -> bool:
    return settings.topology == "embedded" or settings.path is not None or all(host in _LOCAL for host, _ in settings.hosts)
