"""``forebay stats``: what the server says of itself, and a sample of what is on it."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from ..bay import Forebay
from ..wire.resp import Reply
from .options import JsonOption, PrefixOption, UrlOption, settings_for

__all__ = ["stats"]

_SAMPLE: Final = 100_000  # keys that the server looks at, of any prefix
_STEP: Final = 500
_SHOWN: Final = ("redis_version", "valkey_version", "used_memory_human", "maxmemory_human", "maxmemory_policy", "connected_clients")
_MORE: Final = (
    "tracking_clients",
    "tracking_total_keys",
    "instantaneous_ops_per_sec",
    "evicted_keys",
    "expired_keys",
    "rejected_connections",
)


def stats(
    watch: Annotated[
        float | None, typer.Option("--watch", min=0.1, metavar="SECONDS", help="Print again every so often, until Ctrl-C.")
    ] = None,
    url: UrlOption = None,
    prefix: PrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print version, memory, eviction, hit rate and clients of the server, and how many keys each namespace has."""
    with Forebay(settings=settings_for(url), prefix=prefix) as bay:
        while True:
            found = _read(bay, prefix)
            if watch is not None and not as_json:
                if sys.stdout.isatty():
                    Console().clear()
                typer.echo(f"{time.strftime('%H:%M:%S')}, every {watch:g} s, Ctrl-C ends")
            typer.echo(json.dumps(found) if as_json else _table(found))
            if watch is None:
                return
            time.sleep(watch)


def _read(bay: Forebay, prefix: str) -> dict[str, Any]:
    info = _info(bay.execute("INFO"))
    hits, misses = int(info.get("keyspace_hits", 0)), int(info.get("keyspace_misses", 0))
    found: dict[str, Any] = {name: info[name] for name in (*_SHOWN, *_MORE) if name in info}
    found["keyspace_hit_rate"] = round(hits / (hits + misses), 4) if hits + misses else None
    found["keys"] = bay.execute("DBSIZE")
    spaces: Counter[str] = Counter()
    cursor, looked = b"0", 0
    match = "".join(f"\\{c}" if c in "*?[]\\" else c for c in prefix) + "*"
    while True:
        cursor, names = bay.execute("SCAN", cursor, "MATCH", match, "COUNT", _STEP)
        looked += _STEP
        spaces.update(name.decode(errors="replace").removeprefix(prefix).split(":")[0] for name in names)
        if cursor == b"0" or looked >= _SAMPLE:
            break
    found["namespaces"], found["sampled"] = dict(spaces.most_common(20)), cursor != b"0"
    return found


def _info(reply: Reply) -> dict[str, str]:
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def _table(found: dict[str, Any]) -> str:
    lines = [f"{name:28} {value}" for name, value in found.items() if name not in ("namespaces", "sampled")]
    lines.append(f"keys by namespace ({'a sample' if found['sampled'] else 'all'}):")
    lines += [f"  {name:26} {count}" for name, count in found["namespaces"].items()]
    return "\n".join(lines)
