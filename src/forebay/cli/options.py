"""Options that several commands have, and the bay that they name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..settings import Settings

__all__ = ["JsonOption", "NamespaceArgument", "PrefixOption", "UrlOption", "settings_for"]

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        show_default=False,
        help="redis://host:port/db, rediss://, unix://, redis+sentinel://, redis+cluster://. Without it REDIS_URL, or REDIS_HOST and its "
        "companions. A password is safer in the environment: other users can read command lines.",
    ),
]
PrefixOption = Annotated[str, typer.Option("--prefix", help="What the application gives its bay as prefix=: it stands before every key.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
NamespaceArgument = Annotated[str, typer.Argument(metavar="NAMESPACE", help="The cache's namespace, as in bay.cache(NAMESPACE).")]


def settings_for(url: str | None, **least: Any) -> Settings:
    """Return the settings of *url* or of the environment.

    Raises:
        SettingsError: they cannot be read.
    """
    settings = Settings.from_env() if url is None else Settings.from_url(url)
    return settings.replace(**least) if least else settings
