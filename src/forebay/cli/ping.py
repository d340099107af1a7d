"""``forebay ping``: is the server there, and how fast does it answer?"""

from __future__ import annotations

import json

import typer

from .options import JsonOption, UrlOption, settings_for

__all__ = ["ping"]


def ping(url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Ask the server for a sign of life, and print how long it took. Exit code 3 if there was none."""
    from ..bay import Forebay

    with Forebay(settings=settings_for(url)) as bay:
        seconds = min(bay.ping() for _ in range(3))
        if as_json:
            typer.echo(json.dumps({"server": bay.settings.where, "milliseconds": seconds * 1000}))
            return
        typer.echo(f"{bay.settings.where} answered in {seconds * 1000:.2f} ms")
