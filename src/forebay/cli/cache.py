"""``forebay cache``: entries are removed from one namespace, by an operator who says which."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from ..bay import Forebay
from .ending import guarded, refuse
from .options import JsonOption, NamespaceArgument, PrefixOption, UrlOption, settings_for

__all__ = ["cache_commands"]

cache_commands = typer.Typer(help="Remove entries of a cache.", no_args_is_help=True, rich_markup_mode=None)


@cache_commands.command("delete-matching")
@guarded
def delete_matching(
    namespace: NamespaceArgument,
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="A glob of keys within the namespace, quoted: '42:*' (* ? [...]).")],
    url: UrlOption = None,
    prefix: PrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Remove the keys of NAMESPACE that match PATTERN, in batches, and print how many there were."""
    with Forebay(settings=settings_for(url), prefix=prefix) as bay:
        _tell(bay.cache(namespace).delete_matching(pattern), as_json)


@cache_commands.command("clear")
@guarded
def clear(
    namespace: NamespaceArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: UrlOption = None,
    prefix: PrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Remove everything in NAMESPACE, and in those nested below it, and print how many keys there were."""
    settings = settings_for(url)
    bay = Forebay(settings=settings, prefix=prefix)
    cache = bay.cache(namespace)
    if not yes:
        if not sys.stdin.isatty():
            refuse(f"this would remove everything under {prefix}{namespace}: at {settings.where}; say --yes if that is meant")
        typer.confirm(f"Remove everything under {prefix}{namespace}: at {settings.where}?", abort=True)
    with bay:
        _tell(cache.clear(), as_json)


def _tell(count: int, as_json: bool) -> None:
    typer.echo(json.dumps({"removed": count}) if as_json else f"{count} removed")
