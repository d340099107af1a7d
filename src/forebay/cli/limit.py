"""``forebay limit``: where a key stands with a limit, a hit from outside, and what an operator does for somebody who is locked out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..bay import Forebay
from ..ratelimit.limiter import Limiter
from ..ratelimit.options import Algorithm
from ..ratelimit.verdict import Verdict
from .ending import FAILED, guarded, refuse
from .options import JsonOption, PrefixOption, UrlOption, settings_for

__all__ = ["limit_commands"]

limit_commands = typer.Typer(help="Look at limits, and let go who is locked out.", no_args_is_help=True, rich_markup_mode=None)

PolicyArgument = Annotated[str, typer.Argument(metavar="POLICY", help="The limiter's name, as in bay.limiter(POLICY, ...).")]
KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="Who is limited, as the application says it. Behind the middleware: 'address:203.0.113.7 GET /users/{id}', "
        "and without method and route where the limit is shared.",
    ),
]
RateOption = Annotated[str, typer.Option("--rate", metavar="RATE", help="The limiter's rate: '100/minute', '10/second, 1000/hour'.")]
AlgorithmOption = Annotated[str, typer.Option("--algorithm", help="gcra, fixed_window, sliding_window or sliding_log.")]
CostOption = Annotated[int, typer.Option("--cost", min=1, help="How much is asked for.")]
SecretOption = Annotated[
    Path | None,
    typer.Option(
        "--secret-file",
        envvar="FOREBAY_LIMIT_SECRET_FILE",
        exists=True,
        dir_okay=False,
        help="A file with the limiter's secret=, if it has one.",
    ),
]


def _asking(verb: Literal["peek", "hit"], help_text: str) -> Callable[..., None]:
    """Return the command that asks a limiter so."""

    def ask(
        policy: PolicyArgument,
        key: KeyArgument,
        rate: RateOption,
        algorithm: AlgorithmOption = "gcra",
        cost: CostOption = 1,
        secret_file: SecretOption = None,
        url: UrlOption = None,
        prefix: PrefixOption = "",
        as_json: JsonOption = False,
    ) -> None:
        with _limiter(policy, rate, algorithm, secret_file, url, prefix) as limiter:
            _tell(limiter.peek(key, cost) if verb == "peek" else limiter.hit(key, cost), as_json)

    ask.__doc__ = help_text
    return ask


limit_commands.command("peek")(
    guarded(_asking("peek", "Print whether a hit of KEY would pass, and charge nothing. Exit code 1 if it would not."))
)
limit_commands.command("hit")(
    guarded(_asking("hit", "Charge KEY, if there is room, and print the verdict. Exit code 1 if it was refused, and nothing charged."))
)


@limit_commands.command("reset")
@guarded
def reset(
    policy: PolicyArgument,
    key: KeyArgument,
    algorithm: AlgorithmOption = "gcra",
    secret_file: SecretOption = None,
    url: UrlOption = None,
    prefix: PrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Forget what KEY has used, in every process at once. Rates of its own stay."""
    with _limiter(policy, "1/second", algorithm, secret_file, url, prefix) as limiter:
        existed = limiter.reset(key)
    if as_json:
        typer.echo(json.dumps({"policy": policy, "existed": existed}))
    else:
        typer.echo(f"{policy}: forgotten" if existed else f"{policy}: nothing was used")


@limit_commands.command("rates")
@guarded
def rates(
    policy: PolicyArgument,
    key: KeyArgument,
    set_: Annotated[str | None, typer.Option("--set", metavar="RATE", help="Give KEY this rate, for --ttl.")] = None,
    ttl: Annotated[str | None, typer.Option("--ttl", metavar="DURATION", help="For how long, as in 30d.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take its own rates from KEY.")] = False,
    algorithm: AlgorithmOption = "gcra",
    secret_file: SecretOption = None,
    url: UrlOption = None,
    prefix: PrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print the rates that KEY has of its own, or set or clear them, in every process at once. What was used stays used."""
    if (set_ is None) != (ttl is None) or (clear and set_ is not None):
        refuse("say --set RATE with --ttl DURATION, or --clear, or neither to look")
    nothing = "1/second burst 1"  # stands for the limiter's own, which are not known here
    with _limiter(policy, nothing, algorithm, secret_file, url, prefix) as limiter:
        if clear:
            limiter.clear_rates(key)
        elif set_ is not None and ttl is not None:
            limiter.set_rates(key, set_, ttl)
        own = limiter.own_rates(key)
    if as_json:
        typer.echo(json.dumps({"policy": policy, "rates": None if own is None else [str(rate) for rate in own]}))
    else:
        typer.echo("none of its own" if own is None else ", ".join(map(str, own)))


@contextmanager
def _limiter(policy: str, rate: str, algorithm: str, secret_file: Path | None, url: str | None, prefix: str) -> Iterator[Limiter]:
    secret = None if secret_file is None else secret_file.read_bytes().strip()
    law: Algorithm = algorithm  # type: ignore[assignment]  # it is checked there
    with Forebay(settings=settings_for(url), prefix=prefix) as bay:
        yield bay.limiter(policy, rate, algorithm=law, secret=secret, on_outage="closed")


def _tell(verdict: Verdict, as_json: bool) -> None:
    if as_json:
        numbers = {name: getattr(verdict, name) for name in ("allowed", "limit", "remaining", "retry_after", "reset_after", "policy")}
        typer.echo(json.dumps(numbers))
    else:
        word = "allowed" if verdict.allowed else f"refused, room in {verdict.retry_after:.3g} s"
        typer.echo(f"{verdict.policy}: {word}; {verdict.remaining} of {verdict.limit} left, all free in {verdict.reset_after:.3g} s")
    if not verdict.allowed:
        raise typer.Exit(FAILED)
