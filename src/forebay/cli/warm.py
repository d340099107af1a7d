"""``forebay warm``: a cache is filled from a function in the user's code, on threads or on an event loop, and can be gone on with."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import shlex
import sys
from collections.abc import AsyncIterable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any

import typer

from ..bay import AsyncForebay, Forebay
from ..cache.warmup import WarmReport
from ..errors import SourceChanged, Unavailable
from ..settings import Settings
from .ending import ENDED, FAILED, refuse, say
from .options import JsonOption, PrefixOption, UrlOption, settings_for
from .progress import Display, in_words
from .target import find

__all__ = ["warm"]


def warm(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="A function without arguments that gives (key, value) pairs, or with --loader keys; a generator, plain or async, will do.",
        ),
    ],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The cache's namespace, as in bay.cache(NAMESPACE).")],
    loader: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Called with each missing key; returns the value, or an awaitable of it.")
    ] = None,
    ttl: Annotated[str | None, typer.Option(help="How long entries live: 15m, 1h30m, 7d, or 'none' for ever.")] = None,
    type_: Annotated[str | None, typer.Option("--type", metavar="MODULE:CLASS", help="What the application gives as type=.")] = None,
    options: Annotated[
        str | None,
        typer.Option(metavar="MODULE:DICT", help="What else the application gives bay.cache(), as a dict: codec, seal_keys, ttl, ..."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag for every entry; may be given several times.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="How many loads may be under way at once.")] = 16,
    rate: Annotated[float | None, typer.Option(help="How many loads may begin in a second; without it as fast as it goes.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="How many items may be under way.")] = 500,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep the progress in Redis under NAME: the same command goes on where it ended.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Load and store what is there, too.")] = False,
    url: UrlOption = None,
    prefix: PrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Fill a cache ahead of its readers. What is there already is skipped.

    A source and loader that are plain functions run on threads, CONCURRENCY loads at once; if either is async, on an event loop.

    Exit code 1 if some keys failed: they are listed. Ctrl-C ends when the loads under way have ended, and says how to go on.
    """
    give = find(source, "MODULE:FUNCTION")
    load = None if loader is None else find(loader, "--loader")
    for what, name in ((give, source), (load, loader)):
        if what is not None and not callable(what):
            refuse(f"{name} is a {type(what).__name__}, not a function")
    if rate is not None and rate <= 0:
        refuse(f"--rate {rate:g} never begins a load: it must be above zero")
    made: dict[str, Any] = {} if options is None else dict(find(options, "--options"))
    if type_ is not None:
        made["type"] = find(type_, "--type")
    if ttl is not None:
        made["ttl"] = None if ttl == "none" else ttl
    elif "ttl" not in made:
        refuse("say how long entries live: --ttl 15m, or --ttl none for ever")
    how = {
        "concurrency": concurrency,
        "rate": rate,
        "batch": batch,
        "checkpoint": checkpoint,
        "overwrite": overwrite,
        "tags": tag or (),
    }
    settings = settings_for(url)
    try:
        report = _twice(partial(_run, settings, prefix, namespace, made, give, load, how))
    except Unavailable:
        say(_how_to_go_on(checkpoint))
        raise
    except KeyboardInterrupt:
        say(f"ended; {_how_to_go_on(checkpoint)}")
        raise typer.Exit(ENDED) from None
    if as_json:
        counts = {name: getattr(report, name) for name in ("loaded", "skipped", "failed", "resumed", "seconds")}
        typer.echo(json.dumps({"namespace": namespace, **counts}))
    else:
        typer.echo(f"{namespace}: {in_words(report)} in {report.seconds:.1f} s")
    for failure in report.failures:
        typer.echo(f"  {failure.key!r}: {type(failure.error).__name__}: {failure.error}", err=True)
    if report.failed > len(report.failures):
        typer.echo(f"  and {report.failed - len(report.failures)} more", err=True)
    if report.failed:
        raise typer.Exit(FAILED)


def _twice(run: Callable[[], WarmReport]) -> WarmReport:
    try:
        return run()
    except SourceChanged:  # here the source can be asked for anew
        say("the source is not what it was at the checkpoint: starting from the beginning")
        return run()


def _run(
    settings: Settings,
    prefix: str,
    namespace: str,
    options: dict[str, Any],
    give: Callable[[], Any],
    load: Callable[[Any], Any] | None,
    how: dict[str, Any],
) -> WarmReport:
    given = None if inspect.iscoroutinefunction(give) else give()
    if given is None or inspect.isawaitable(given) or isinstance(given, AsyncIterable) or _awaits(load):
        return asyncio.run(_on_a_loop(settings, prefix, namespace, options, give if given is None else given, load, how))
    least = max(settings.pool_size, how["concurrency"] + 1)  # each thread needs a connection, and the one that asks what is there
    with Forebay(settings=settings.replace(pool_size=least), prefix=prefix) as bay, Display(_length(given)) as show:
        return bay.cache(namespace, **options).warm(given, load, on_progress=show, **how)


async def _on_a_loop(
    settings: Settings,
    prefix: str,
    namespace: str,
    options: dict[str, Any],
    given: Any,
    load: Callable[[Any], Any] | None,
    how: dict[str, Any],
) -> WarmReport:
    if inspect.iscoroutinefunction(given):
        given = given()
    if inspect.isawaitable(given):
        given = await given
    loader = load
    if load is not None and not _awaits(load):  # a plain function would hold up the loop, and with it all other loads
        pool = ThreadPoolExecutor(how["concurrency"], thread_name_prefix="forebay-load")
        asyncio.get_running_loop().set_default_executor(pool)  # the loop's own would be smaller
        loader = partial(_on_a_thread, load)
    async with AsyncForebay(settings=settings, prefix=prefix) as bay:
        with Display(_length(given)) as show:
            return await bay.cache(namespace, **options).warm(given, loader, on_progress=show, **how)


async def _on_a_thread(load: Callable[[Any], Any], key: Any) -> Any:
    return await asyncio.to_thread(load, key)


def _awaits(load: Callable[[Any], Any] | None) -> bool:
    return inspect.iscoroutinefunction(load) or inspect.iscoroutinefunction(getattr(load, "__call__", None))  # noqa: B004


def _length(given: Any) -> int | None:
    try:
        return len(given)
    except TypeError:
        return None


def _how_to_go_on(checkpoint: str | None) -> str:
    command = shlex.join(["forebay", *(_without_password(word) for word in sys.argv[1:])])
    if checkpoint is None:
        return f"the same command skips what is stored: {command} (with --checkpoint NAME it would not even look at it)"
    return f"to go on: {command}"


def _without_password(word: str) -> str:
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"(://[^/@:]*):.*@", r"\1:***@", word))
