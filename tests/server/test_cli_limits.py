"""``forebay limit``: what it prints, what it charges, and exit codes that a script can tell apart."""

import json

import pytest
from typer.testing import CliRunner

from forebay.cli.app import app


@pytest.fixture
def run(url, prefix):
    """Run ``forebay limit ...`` against this test's server, and return exit code, standard output and standard error."""

    def run(*words):
        done = CliRunner().invoke(app, ["limit", *words, "--url", url, "--prefix", prefix])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


RATE = ("--rate", "2/hour")


def test_a_hit_is_charged_and_a_peek_is_not(run, sync_bay):
    assert run("peek", "api", "ada", *RATE) == (0, "api: allowed; 2 of 2 left, all free in 0 s\n", "")
    assert run("hit", "api", "ada", *RATE)[0] == 0
    assert sync_bay.limiter("api", "2/hour").peek("ada").remaining == 1, "it is the application's limit"
    code, out, _ = run("hit", "api", "ada", *RATE, "--json")
    assert (code, json.loads(out)["remaining"]) == (0, 0)
    code, out, _ = run("hit", "api", "ada", *RATE)
    assert code == 1
    assert out.startswith("api: refused, room in 1.8e+03 s; 0 of 2 left")
    code, out, _ = run("peek", "api", "ada", *RATE, "--json")
    assert (code, json.loads(out)["allowed"]) == (1, False)


def test_a_reset_lets_go(run):
    run("hit", "api", "ada", *RATE, "--cost", "2")
    assert run("reset", "api", "ada") == (0, "api: forgotten\n", "")
    assert run("reset", "api", "ada") == (0, "api: nothing was used\n", "")
    assert json.loads(run("reset", "api", "ada", "--json")[1]) == {"policy": "api", "existed": False}
    assert run("peek", "api", "ada", *RATE)[0] == 0


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "sliding_log"])
def test_each_algorithm_has_a_state_of_its_own(run, algorithm):
    chosen = ("--algorithm", algorithm)
    run("hit", "api", "ada", *RATE, *chosen, "--cost", "2")
    assert run("peek", "api", "ada", *RATE)[0] == 0
    assert run("peek", "api", "ada", *RATE, *chosen)[0] == 1
    assert run("reset", "api", "ada", *chosen)[1] == "api: forgotten\n"


def test_rates_of_its_own(run, sync_bay):
    limiter = sync_bay.limiter("api", "2/hour")
    assert run("rates", "api", "ada") == (0, "none of its own\n", "")
    assert run("rates", "api", "ada", "--set", "10/second, 100/hour", "--ttl", "1h")[1] == "10/second, 100/hour\n"
    assert [str(rate) for rate in limiter.rates("ada")] == ["10/second", "100/hour"]
    assert json.loads(run("rates", "api", "ada", "--json")[1])["rates"] == ["10/second", "100/hour"]
    assert run("rates", "api", "ada", "--clear")[1] == "none of its own\n"
    assert limiter.own_rates("ada") is None


def test_a_secret_comes_from_a_file(run, sync_bay, tmp_path):
    file = tmp_path / "secret"
    file.write_text("a secret of many letters\n")
    sync_bay.limiter("api", "2/hour", secret="a secret of many letters").hit("ada", 2)
    assert run("peek", "api", "ada", *RATE)[0] == 0
    assert run("peek", "api", "ada", *RATE, "--secret-file", str(file))[0] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hit", "api", "ada", "--rate", "2/fortnight"), "'fortnight' is no period"),
        (("hit", "api", "ada", *RATE, "--cost", "3"), "a cost of 3 is more than limit 'api' lets through at once, which is 2"),
        (("peek", "api", "ada", *RATE, "--algorithm", "magic"), "algorithm='magic' is unknown"),
        (("peek", "a b", "ada", *RATE), "limiter 'a b' cannot be called so"),
        (("peek", "api", "", *RATE), "a key must not be empty"),
        (("rates", "api", "ada", "--set", "1/hour"), "say --set RATE with --ttl DURATION"),
        (("rates", "api", "ada", "--clear", "--set", "1/hour", "--ttl", "1h"), "say --set RATE with --ttl DURATION"),
        (("rates", "api", "ada", "--set", "1/hour", "--ttl", "soon"), "'soon' is not a duration"),
    ],
)
def test_a_wrong_call_says_why(run, words, said):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err


def test_with_the_server_away():
    done = CliRunner().invoke(app, ["limit", "peek", "api", "ada", *RATE, "--url", "redis://127.0.0.1:1"])
    assert done.exit_code == 3
