"""All commands under one name. A command group has a file of its own, and is added here."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from .bench import bench
from .cache import cache_commands
from .ending import guarded
from .entries import explain_entry, get, keys, ttl
from .invalidate import invalidate
from .limit import limit_commands
from .ping import ping
from .server import stats
from .warm import warm

__all__ = ["app", "run"]

app = typer.Typer(
    name="forebay",
    help="Look after caches and limits on Redis or Valkey. The server is --url, or what REDIS_URL or REDIS_HOST and its companions name.",
    epilog="Exit codes: 0 all went well, 1 something failed, 2 the call was wrong, 3 the server is away, 130 after Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(guarded(ping))
app.command()(guarded(get))
app.command()(guarded(ttl))
app.command()(guarded(keys))
app.command("explain")(guarded(explain_entry))
app.command()(guarded(invalidate))
app.command()(guarded(warm))
app.command()(guarded(stats))
app.command()(guarded(bench))
app.add_typer(cache_commands, name="cache")
app.add_typer(limit_commands, name="limit")


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"forebay {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Say what holds for every command."""


def run() -> int:
    """Run the command in ``sys.argv`` and return its exit code."""
    sys.path.insert(0, "")  # so that MODULE:FUNCTION is found where the command is given
    try:
        code: Any = app(standalone_mode=True)
    except SystemExit as end:
        code = end.code
    return code if isinstance(code, int) else 0
