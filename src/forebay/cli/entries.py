"""``forebay get``, ``ttl``, ``keys`` and ``explain``: one namespace, looked at from outside. Nothing is changed by looking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, NoReturn

import msgspec
import typer

from ..bay import Forebay
from ..cache.explaining import Explanation, explain, in_json, payload_of, recorded
from ..errors import ServerError
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
    if data is None or not what.readable:
        _nothing(f"{namespace}:{key}: {what.state}")
    value = in_json(*payload_of(data))
    if value is None:
        _nothing(f"{namespace}:{key} is {what.codec}: it cannot be shown without the cache's own options")
    if what.state == "stale":
        say(f"{namespace}:{key} is stale")
    typer.echo(msgspec.json.format(value, indent=-1 if as_json else 2).decode())


def ttl(
    namespace: NamespaceArgument, key: KeyArgument, url: UrlOption = None, prefix: PrefixOption = "", as_json: JsonOption = False
) -> None:
    """Print for how many seconds KEY is fresh, and for how many it is kept. Exit code 1 if there is no such entry."""
    with Forebay(settings=settings_for(url), prefix=prefix) as bay:
        _, what = _looked_up(bay, namespace, key)
    if not what.readable:
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
    typer.echo(
        json.dumps({"keys": found, "more": more}, ensure_ascii=False) if as_json else "\n".join(map(_printable, found)),
        nl=bool(found or as_json),
    )
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
        "fresh": None if what.codec is None else _lasting(what.fresh_for) + (f", until {what.fresh_until}" if what.fresh_until else ""),
        "kept": None if what.size is None else _lasting(what.kept_for),
        "leased": None if what.leased_for is None else f"{_lasting(what.leased_for)}, by {what.lease}",
        "load took": None if what.load_seconds is None else f"{what.load_seconds * 1000:.1f} ms",
        "codec": what.codec,
        "size": None if what.size is None else f"{what.size} bytes, {what.memory} in memory",
        "fingerprint": what.fingerprint,
    }
    typer.echo(f"{prefix}{namespace}:{key}")
    for title, text in lines.items():
        if text is not None:
            typer.echo(f"  {title:22} {text}")
    for name, version in what.versions.items():
        now = f"; now {version.current}" if version.state == "changed" else ""
        typer.echo(f"  {'depends on':22} {name} ({version.state}; recorded {version.recorded}{now})")


def _looked_up(bay: Forebay, namespace: str, key: str) -> tuple[bytes | None, Explanation]:
    name = Namespace(bay.prefix, namespace).name(key)
    replies = bay.pipeline([("GET", name), ("PTTL", name), ("TIME",), ("MEMORY", "USAGE", name), ("TYPE", name)], errors="return")
    data, left, time, memory, kind = replies
    memory = memory if isinstance(memory, int) else None
    if isinstance(data, ServerError) and data.code == "WRONGTYPE":
        return None, Explanation(
            key, f"a Redis {kind.decode() if isinstance(kind, bytes) else kind}, and no entry", "the loader", memory=memory
        )
    for reply in (data, left, time):
        if isinstance(reply, Exception):
            raise reply
    names = [each for each, _ in recorded(data)]
    found = bay.pipeline([("GET", bay.prefix + each) for each in names]) if names else []  # in a cluster they may be on several nodes
    now = int(time[0]) * 1000 + int(time[1]) / 1000
    return data, explain(key, data, left, now, dict(zip(names, found, strict=True)), memory)


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


def _printable(text: str) -> str:
    """Return *text* without what would steer the terminal: others may have put names there that Forebay refuses."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
