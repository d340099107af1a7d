"""The commands that look at entries and let them go: what they print in each state, and that looking changes nothing."""

import json

import pytest
from typer.testing import CliRunner

from forebay import new_sealing_key
from forebay.cache.entry import new_token, placeholder
from forebay.cli.app import app

OPTIONS = {"ttl": "15m", "stale_while_revalidate": "5m"}


@pytest.fixture
def run(url, prefix):
    """Run a command against this test's server, and return exit code, standard output and standard error."""

    def run(*words):
        done = CliRunner().invoke(app, [*words, "--url", url, "--prefix", prefix])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


STATES = {
    "bare": ({"ttl": "15m"}, lambda cache: cache.set("k", {"a": 1}), "fresh, bare"),
    "enveloped": (OPTIONS, lambda cache: cache.set("k", {"a": 1}), "fresh"),
    "tagged": (OPTIONS, lambda cache: cache.set("k", {"a": 1}, tags=["t"]), "fresh"),
    "for ever": (OPTIONS, lambda cache: cache.set("k", {"a": 1}, ttl=None), "fresh"),
    "msgpack": ({**OPTIONS, "codec": "msgpack"}, lambda cache: cache.set("k", {"a": 1}), "fresh"),
    "compressed": ({**OPTIONS, "compress_above": 1}, lambda cache: cache.set("k", {"a": "x" * 500}), "fresh"),
    "below the threshold": ({**OPTIONS, "compress_above": 1000}, lambda cache: cache.set("k", {"a": 1}), "fresh"),
}


@pytest.mark.parametrize(("options", "write", "state"), STATES.values(), ids=STATES)
def test_what_is_there_is_shown_and_explained(run, sync_bay, options, write, state):
    cache = sync_bay.cache("c", **options)
    write(cache)
    code, out, err = run("get", "c", "k", "--json")
    assert (code, json.loads(out), err) == (0, cache.get("k"), "")
    code, out, _ = run("explain", "c", "k", "--json")
    told = json.loads(out)
    assert (code, told["state"], told["served_from"]) == (0, state, "the server")
    assert told["memory"] > told["size"] > 0
    assert run("explain", "c", "k")[1].splitlines()[1].endswith(state)
    code, out, _ = run("ttl", "c", "k", "--json")
    fresh = json.loads(out)["fresh_for"]
    assert fresh is None or 890 < fresh <= 900
    assert run("ttl", "c", "k")[1].startswith("fresh for")
    assert cache.get("k")


def test_each_state_has_its_words(run, sync_bay, prefix):
    cache = sync_bay.cache("c", **OPTIONS)
    assert json.loads(run("explain", "c", "k", "--json")[1])["state"] == "missing"
    cache.set("k", 1, tags=["t"])
    cache.mark_stale("k")
    code, out, err = run("get", "c", "k", "--json")
    assert (code, out, err) == (0, "1\n", "forebay: c:k is stale\n")
    assert json.loads(run("explain", "c", "k", "--json")[1])["fresh_for"] < 0
    cache.set("k", 1, tags=["t"])
    cache.invalidate_tags("t")
    told = json.loads(run("explain", "c", "k", "--json")[1])
    assert (told["state"], told["versions"], told["served_from"]) == (
        "dead: c:#tag:t changed since",
        {"c:#tag:t": "changed"},
        "the loader",
    )
    sync_bay.execute("SET", f"{prefix}c:k", placeholder(new_token()), "PX", 5000)
    told = json.loads(run("explain", "c", "k", "--json")[1])
    assert told["state"].startswith("being loaded")
    assert 0 < told["leased_for"] <= 5
    assert run("get", "c", "k")[0] == run("ttl", "c", "k")[0] == 1
    sync_bay.execute("SET", f"{prefix}c:k", b"\x01damaged")
    assert "damaged" in run("explain", "c", "k")[1]
    assert run("get", "c", "k")[0] == 1


def test_what_is_sealed_is_not_shown(run, sync_bay):
    sync_bay.cache("c", seal_keys=[new_sealing_key()], **OPTIONS).set("k", "a secret")
    code, out, err = run("get", "c", "k")
    assert (code, out) == (1, "")
    assert "sealed" in err
    assert json.loads(run("explain", "c", "k", "--json")[1])["codec"] == "sealed, or unknown"


def test_what_is_missing_is_exit_code_one(run):
    for command in ("get", "ttl"):
        assert run(command, "c", "k") == (1, "", "forebay: c:k: missing\n")


def test_keys_are_listed_and_the_cut_is_said(run, sync_bay):
    cache = sync_bay.cache("c", **OPTIONS)
    cache.set_many({f"a{n}": n for n in range(30)} | {"#odd": 1, "b": 1}, tags=["t"])
    code, out, err = run("keys", "c")
    assert (code, set(out.split()), err) == (0, {f"a{n}" for n in range(30)} | {"#odd", "b"}, "")
    assert run("keys", "c", "b")[1] == "b\n"
    code, out, err = run("keys", "c", "a*", "--limit", "5", "--json")
    assert (len(json.loads(out)["keys"]), json.loads(out)["more"]) == (5, True)
    assert "--limit" in err
    assert run("keys", "d")[1] == ""


def test_a_dry_run_counts_and_changes_nothing(run, sync_bay):
    cache = sync_bay.cache("c", **OPTIONS)
    cache.set_many({f"a{n}": n for n in range(450)}, tags=["t"])
    cache.set_many({"b": 1, "d": 1}, tags=["u"])
    words = ("invalidate", "c", "--key", "b", "--key", "none", "--pattern", "a1*", "--tag", "t", "--tag", "u", "--dry-run")
    code, out, _ = run(*words, "--json")
    assert (code, json.loads(out)) == (0, {"dry_run": True, "counts": {"keys": 1, "pattern a1*": 111, "tags": 452}})
    assert "would go" in run(*words)[1]
    assert len(cache.get_many([f"a{n}" for n in range(450)])) == 450


def test_what_is_named_goes(run, sync_bay):
    cache = sync_bay.cache("c", **OPTIONS)
    cache.set_many({"a1": 1, "a2": 2, "b": 3}, tags=["t"])
    cache.set("e", 4, tags=["u"])
    assert run("invalidate", "c", "--key", "b", "--pattern", "a*") == (0, "keys: 1 entry gone\npattern a*: 2 entries gone\n", "")
    assert cache.get_many(["a1", "a2", "b", "e"]) == {"e": 4}
    assert run("invalidate", "c", "--tag", "u")[1] == "tags: all entries with them gone\n"
    assert cache.get("e") is None
    code, out, err = run("invalidate", "c")
    assert (code, out) == (2, "")
    assert "--key, --pattern or --tag" in err


def test_the_server_is_described(run, sync_bay):
    sync_bay.cache("c", **OPTIONS).set_many({n: n for n in range(7)})
    sync_bay.cache("d", **OPTIONS).set("k", 1)
    code, out, _ = run("stats", "--json")
    told = json.loads(out)
    assert (code, told["namespaces"], told["sampled"]) == (0, {"c": 7, "d": 1}, False)
    assert told["maxmemory_policy"] == "noeviction"
    assert "keys by namespace (all):" in run("stats")[1]


def test_a_bench_leaves_nothing_behind(run, sync_bay, prefix):
    code, out, err = run("bench", "--seconds", "0.05", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert set(told) == {"ping", "get", "get_or_set", "get_many of 100", "set", "get, near"}
    assert all(result["per_second"] > 0 and result["p99_us"] >= result["p50_us"] > 0 for result in told.values())
    assert sync_bay.execute("SCAN", 0, "MATCH", f"{prefix}*", "COUNT", 10_000)[1] == []
    assert "get_or_set" in run("bench", "--seconds", "0.05")[1]


def test_a_bench_elsewhere_asks_first():
    done = CliRunner().invoke(app, ["bench", "--url", "redis://cache.example:6379"])
    assert done.exit_code == 2
    assert "--yes" in done.stderr


def test_ping_for_programs(url):
    done = CliRunner().invoke(app, ["ping", "--url", url, "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["milliseconds"] > 0
