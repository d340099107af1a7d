"""``forebay get``, ``ttl``, ``keys`` and ``explain``: one namespace, looked at from outside. Nothing is changed by looking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from ..bay import Forebay
from ..cache.explaining import Explanation, codec_of, explain, payload_of, recorded, shown
from ..keys import Namespace
from .ending import FAILED, say
from .options import JsonOption, NamespaceArgument, PrefixOption, UrlOption, settings_for

__all__ = ["explain_entry", "get", "keys", "names_matching", "ttl"]

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The key within the namespace, as the application gives it.")]


def get(
    namespace: NamespaceArgument, key: KeyArgument, url: UrlOption = None, prefix: PrefixOption = "", as_json: JsonOption = False
) -> None:
    """Print the value of KEY. Exit code 1 if there is none that can be shown; what is stale is shown, and said to be."""
    with Forebay(settings=settings_for(url), prefix=prefix) as bay:
        data, what = _looked_up(bay, namespace, key)
    payload = None if data is None else payload_of(data)
    if payload is None:
        _nothing(f"{namespace}:{key}: {what.state}")
    there, value = shown(payload)
    if not there:
        _nothing(f"{namespace}:{key} is {codec_of(payload)}: it cannot be shown without the cache's own options")
    if what.state != "fresh" and what.state != "fresh, bare":
        say(f"{namespace}:{key} is {what.state}")
    typer.echo(json.dumps(_plain(value), ensure_ascii=False, indent=None if as_json else 2))


def ttl(
    namespace: NamespaceArgument, key: KeyArgument, url: UrlOption = None, prefix: PrefixOption = "", as_json: JsonOption = False
) -> None:
    """Print for how many seconds KEY is fresh, and for how many it is kept. Exit code 1 if there is no such entry."""
    with Forebay(settings=settings_for(url), prefix=prefix) as bay:
        data, what = _looked_up(bay, namespace, key)
    if data is None or what.leased_for is not None:
        _nothing(f"{namespace}:{key}: {what.state}")
    if as_json:
        typer.echo(json.dumps({"fresh_for": what.fresh_for, "kept_for": what.kept_for}))
    else:
        typer.echo(f"fresh {_lasting(what.fresh_for)}, kept {_lasting(what.kept_for)}")


def keys(
    namespace: NamespaceArgument,
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="A glob, quoted: '42:*' (* ? [...]).")] = "*",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Print no more than so many.")] = 100,
    url: UrlOption = None,
    prefix: PrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print the keys of NAMESPACE that match PATTERN, in no order, read in batches; one for each line."""
    found: list[str] = []
    more = False
    space = Namespace(prefix, namespace)
    with Forebay(settings=settings_for(url), prefix=prefix) as bay:
        for name in names_matching(bay, space.pattern(pattern)):
            key = space.key_in(name)
            if key is None:
                continue
            if len(found) == limit:
                more = True
                break
            found.append(key)
    typer.echo(json.dumps({"keys": found, "more": more}, ensure_ascii=False) if as_json else "\n".join(found), nl=bool(found or as_json))
    if more:
        say(f"there are more than {limit}: raise --limit, or narrow the pattern")


def explain_entry(
    namespace: NamespaceArgument, key: KeyArgument, url: UrlOption = None, prefix: PrefixOption = "", as_json: JsonOption = False
) -> None:
    """Say everything about one entry: its state, what it was served from, its times, lease, versions, size and codec."""
    with Forebay(settings=settings_for(url), prefix=prefix) as bay:
        _, what = _looked_up(bay, namespace, key)
    if as_json:
        typer.echo(msgspec.json.encode(what).decode())
        return
    lines = {
        "state": what.state,
        "a read is answered by": what.served_from,
        "fresh": None if what.codec is None else _lasting(what.fresh_for),
        "kept": None if what.size is None else _lasting(what.kept_for),
        "leased": None if what.leased_for is None else _lasting(what.leased_for),
        "load took": None if what.load_seconds is None else f"{what.load_seconds * 1000:.1f} ms",
        "codec": what.codec,
        "size": None if what.size is None else f"{what.size} bytes, {what.memory} in memory",
        "fingerprint": what.fingerprint,
    }
    typer.echo(f"{prefix}{namespace}:{key}")
    for title, text in lines.items():
        if text is not None:
            typer.echo(f"  {title:22} {text}")
    for name, state in what.versions.items():
        typer.echo(f"  {'depends on':22} {name} ({state})")


def _looked_up(bay: Forebay, namespace: str, key: str) -> tuple[bytes | None, Explanation]:
    name = Namespace(bay.prefix, namespace).name(key)
    replies = bay.pipeline([("GET", name), ("PTTL", name), ("TIME",), ("MEMORY", "USAGE", name)], errors="return")
    data, left, time, memory = replies
    if isinstance(data, Exception):
        raise data
    names = [each for each, _ in recorded(data)]
    current = dict(zip(names, bay.execute("MGET", *(bay.prefix + each for each in names)), strict=True)) if names else {}
    now = int(time[0]) * 1000 + int(time[1]) / 1000
    return data, explain(key, data, left, now, current, memory if isinstance(memory, int) else None)


def names_matching(bay: Forebay, match: str) -> Iterator[str]:
    """Yield the names in Redis that match, read in batches."""
    cursor = b"0"
    while True:
        cursor, names = bay.execute("SCAN", cursor, "MATCH", match, "COUNT", 500)
        yield from (name.decode(errors="replace") for name in names)
        if cursor == b"0":
            return


def _nothing(text: str) -> NoReturn:
    say(text)
    raise typer.Exit(FAILED)


def _lasting(seconds: float | None) -> str:
    if seconds is None:
        return "for ever"
    return f"for {seconds:.1f} s" if seconds > 0 else f"no more, since {-seconds:.1f} s"


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, str_keys=True)
