"""``forebay invalidate``: what an operator does after a change that the application did not hear of. ``--dry-run`` counts."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..bay import Forebay
from ..cache.explaining import recorded
from ..keys import Namespace
from .ending import refuse
from .entries import names_matching
from .options import JsonOption, NamespaceArgument, PrefixOption, UrlOption, settings_for

__all__ = ["invalidate"]


def invalidate(
    namespace: NamespaceArgument,
    key: Annotated[list[str] | None, typer.Option("--key", "-k", metavar="KEY", help="A key; may be given again.")] = None,
    pattern: Annotated[list[str] | None, typer.Option("--pattern", metavar="PATTERN", help="A glob of keys, quoted: '42:*'.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", "-t", metavar="TAG", help="A tag; may be given again.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, and change nothing. Tags: reads every entry.")] = False,
    url: UrlOption = None,
    prefix: PrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let entries of NAMESPACE be entries no more, by key, pattern or tag, in every process, and print how many."""
    wanted, globs, tags = list(dict.fromkeys(key or [])), pattern or [], tag or []
    if not (wanted or globs or tags):
        refuse("say what is to go: --key, --pattern or --tag (and `forebay cache clear` for everything)")
    with Forebay(settings=settings_for(url), prefix=prefix) as bay:
        cache, space = bay.cache(namespace), Namespace(prefix, namespace)
        counts: dict[str, int | None] = {}
        if wanted:
            names = [space.name(each) for each in wanted]
            counts["keys"] = sum(bay.pipeline([("EXISTS", each) for each in names])) if dry_run else cache.delete(*wanted)
        for each in globs:
            counts[f"pattern {each}"] = sum(1 for _ in names_matching(bay, space.pattern(each))) if dry_run else cache.delete_matching(each)
        if tags and dry_run:
            counts["tags"] = _tagged(bay, space, tags)
        elif tags:
            cache.invalidate_tags(*tags)
            counts["tags"] = None
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "counts": counts}, ensure_ascii=False))
        return
    for what, count in counts.items():
        entries = "all entries with them" if count is None else f"{count} {'entry' if count == 1 else 'entries'}"
        typer.echo(f"{what}: {entries} {'would go' if dry_run else 'gone'}")


def _tagged(bay: Forebay, space: Namespace, tags: list[str]) -> int:
    """Count the entries that depend on the current version of one of *tags*: nothing lists them, so all are looked at."""
    names = [space.tag(tag) for tag in tags]
    current = dict(zip(names, bay.pipeline([("GET", space.prefix + name) for name in names]), strict=True))
    found, batch = 0, []
    for name in names_matching(bay, space.everything()):
        if space.key_in(name) is not None:
            batch.append(name)
        if len(batch) == 200:
            found += _count(bay, batch, current)
            batch = []
    return found + (_count(bay, batch, current) if batch else 0)


def _count(bay: Forebay, names: list[str], current: dict[str, bytes | None]) -> int:
    entries = bay.pipeline([("GET", name) for name in names], errors="return")
    alive = {name: version for name, version in current.items() if version is not None}
    return sum(any(alive.get(name) == version for name, version in recorded(data)) for data in entries if isinstance(data, bytes))
