"""How a command ends: one line on stderr that names what went wrong, and an exit code that a script can tell apart. Never a secret."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from typing import Final, NoReturn, ParamSpec, TypeVar

import typer

from ..errors import ForebayError, Unavailable, UsageError

__all__ = ["AWAY", "ENDED", "FAILED", "USAGE", "guarded", "refuse", "say"]

P = ParamSpec("P")
R = TypeVar("R")

FAILED: Final = 1
USAGE: Final = 2
AWAY: Final = 3
ENDED: Final = 130


def say(text: str) -> None:
    """Print a line on stderr, where it does not mix with results."""
    typer.echo(f"forebay: {text}", err=True)


def refuse(text: str) -> NoReturn:
    """End the command: it was called in a way that cannot work."""
    say(text)
    raise typer.Exit(USAGE)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Return *command* with Forebay's errors as exit codes, and SIGTERM as Ctrl-C: whoever stops a service means the same."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            say("ended")
            raise typer.Exit(ENDED) from None
        except UsageError as error:
            refuse(str(error))
        except ForebayError as error:
            # a refusal that is no outage, such as NOPERM, needs another account, not another moment
            say(": ".join([str(error), *getattr(error, "__notes__", [])]))
            raise typer.Exit(AWAY if isinstance(error, Unavailable) else FAILED) from None
        finally:
            signal.signal(signal.SIGTERM, before)

    return run
