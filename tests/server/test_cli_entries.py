"""The commands that look at entries and let them go: what they print in each state, and that looking changes nothing."""

import json
import os
import pty
import subprocess
import sys
import time
from dataclasses import dataclass

import msgspec
import pytest
from typer.testing import CliRunner

from forebay import EmbeddedServer, Forebay, new_sealing_key
from forebay.cache.entry import new_token, placeholder
from forebay.cli.app import app
from tests.clusters import ClusterSet

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
    assert (told["state"], told["served_from"]) == ("dead: c:#tag:t changed since", "the loader")
    version = told["versions"]["c:#tag:t"]
    assert (version["state"], len(version["recorded"]), version["current"]) == ("gone", 16, None)
    said = (1, "", "forebay: c:k: dead: c:#tag:t changed since\n")
    assert run("get", "c", "k") == run("ttl", "c", "k") == said, "no read would be answered with it"
    sync_bay.execute("SET", f"{prefix}c:#tag:t", b"12345678")
    version = json.loads(run("explain", "c", "k", "--json")[1])["versions"]["c:#tag:t"]
    assert (version["state"], version["current"]) == ("changed", b"12345678".hex())
    token = new_token()
    sync_bay.execute("SET", f"{prefix}c:k", placeholder(token), "PX", 5000)
    told = json.loads(run("explain", "c", "k", "--json")[1])
    assert told["state"].startswith("being loaded")
    assert 0 < told["leased_for"] <= 5
    assert told["lease"] == token.hex()
    assert run("get", "c", "k")[0] == run("ttl", "c", "k")[0] == 1
    sync_bay.execute("SET", f"{prefix}c:k", b"\x01damaged")
    assert "damaged" in run("explain", "c", "k")[1]
    assert run("get", "c", "k")[0] == 1


def test_what_is_sealed_is_not_shown(run, sync_bay):
    sync_bay.cache("c", seal_keys=[new_sealing_key()], **OPTIONS).set("k", "a secret")
    code, out, err = run("get", "c", "k")
    assert (code, out) == (1, "")
    assert "sealed" in err
    assert json.loads(run("explain", "c", "k", "--json")[1])["codec"] == "JSON, sealed"


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
    code, out, err = run("bench", "--seconds", "0.3", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert set(told) == {"ping", "get", "get_or_set", "get_many of 100", "set", "get, near", "get_or_set, near"}
    assert all(result["per_second"] > 0 and result["p99_us"] >= result["p50_us"] > 0 for result in told.values())
    assert sync_bay.execute("SCAN", 0, "MATCH", f"{prefix}*", "COUNT", 10_000)[1] == []
    assert "get_or_set" in run("bench", "--seconds", "0.3")[1]


def test_a_bench_elsewhere_asks_first():
    done = CliRunner().invoke(app, ["bench", "--url", "redis://cache.example:6379"])
    assert done.exit_code == 2
    assert "--yes" in done.stderr


def test_ping_for_programs(url):
    done = CliRunner().invoke(app, ["ping", "--url", url, "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["milliseconds"] > 0


@dataclass
class Point:
    x: int


KINDS = {
    "msgpack": {"codec": "msgpack"},
    "msgpack, zstd": {"codec": "msgpack", "compress_above": 0},
    "msgpack, not compressed": {"codec": "msgpack", "compress_above": 100_000},
    "JSON": {},
    "JSON, zstd": {"compress_above": 0},
    "JSON, not compressed": {"compress_above": 100_000},
}


@pytest.mark.parametrize(("codec", "options"), KINDS.items(), ids=KINDS)
@pytest.mark.parametrize("value", [49, [1.5] * 100, "7"], ids=["a number", "a list", "text"])
def test_every_codec_of_plain_values_is_named_and_read(run, sync_bay, codec, options, value):
    cache = sync_bay.cache("c", **options, **OPTIONS)
    cache.set("k", value)
    code, out, err = run("get", "c", "k", "--json")
    assert (code, json.loads(out), err) == (0, value, "")
    told = json.loads(run("explain", "c", "k", "--json")[1])["codec"]
    assert told == codec or (told, value) == (codec.replace("zstd", "not compressed"), value)  # what gains nothing stays as it is


@pytest.mark.parametrize(("codec", "options"), KINDS.items(), ids=KINDS)
def test_values_of_an_applications_type_are_read_from_their_bytes(run, sync_bay, codec, options):
    sync_bay.cache("c", type=list[Point], **options, **OPTIONS).set("k", [Point(1)] * 50)
    code, out, err = run("get", "c", "k", "--json")
    assert (code, json.loads(out), err) == (0, [{"x": 1}] * 50, "")


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_byte_that_two_codecs_read_otherwise_is_not_shown_as_either(run, sync_bay, codec):
    sync_bay.cache("c", type=int | bool, codec=codec, **OPTIONS).set("k", 1 if codec == "json" else 49)
    code, out, err = run("get", "c", "k")
    assert (code, out) == (1, "")
    assert "JSON or msgpack" in err


def test_what_json_has_not_is_shown_as_near_as_it_gets(run, sync_bay):
    cache = sync_bay.cache("c", codec="msgpack", **OPTIONS)
    cache.set("k", {"bytes": b"\x00\xff", "text": "Grüße"})
    assert json.loads(run("get", "c", "k", "--json")[1]) == {"bytes": "AP8=", "text": "Grüße"}


def test_bytes_of_others_are_no_entry_and_no_traceback(run, sync_bay, prefix):
    foreign = [b"\xff\xfehello", b"hello", b"h", b"", b"\x00", msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"abc")), b"\x09"]
    for data in foreign:
        sync_bay.execute("SET", f"{prefix}c:k", data)
        code, out, err = run("get", "c", "k")
        assert (code, out, err) == (1, "", "forebay: c:k: bare, and no JSON: no cache reads it\n"), data
        assert sync_bay.cache("c", ttl=60).get("k") is None
    sync_bay.execute("DEL", f"{prefix}c:k")
    sync_bay.execute("RPUSH", f"{prefix}c:k", "a")
    assert run("get", "c", "k") == (1, "", "forebay: c:k: a Redis list, and no entry\n")
    assert "a Redis list" in run("explain", "c", "k")[1]


def test_names_of_others_do_not_steer_the_terminal(run, sync_bay, prefix):
    sync_bay.execute("SET", f"{prefix}c:\x1b[2Jk", "1")
    assert run("keys", "c")[1] == "\\x1b[2Jk\n"


def test_a_sample_is_bounded_by_what_the_server_looks_at():
    with EmbeddedServer(port=0) as server, Forebay(server.url) as bay:
        bay.execute("EVAL", "for n = 1, 150000 do redis.call('SET', 'foreign:' .. n, 1) end", 0)
        bay.cache("c", ttl=60).set("k", 1)
        before = int(_calls(bay, "scan"))
        done = CliRunner().invoke(app, ["stats", "--prefix", "shop:", "--json", "--url", server.url])
        assert json.loads(done.stdout)["sampled"] is True
        assert int(_calls(bay, "scan")) - before == 200
        assert "(a sample)" in CliRunner().invoke(app, ["stats", "--url", server.url]).stdout


def _calls(bay, command):
    text = bay.execute("INFO", "commandstats").decode()
    return next((line.split("calls=")[1].split(",")[0] for line in text.splitlines() if line.startswith(f"cmdstat_{command}:")), "0")


def test_a_watch_prints_until_it_is_ended(url, prefix):
    words = ["stats", "--watch", "0.1", "--json", "--url", url, "--prefix", prefix]
    child = subprocess.Popen([sys.executable, "-m", "forebay.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [json.loads(child.stdout.readline()) for _ in range(3)]
    child.terminate()
    _, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (130, "forebay: ended\n")
    assert all(line["keys"] >= 0 for line in lines)


def test_a_watch_at_a_terminal_begins_each_time_at_the_top(url):
    ours, theirs = pty.openpty()
    words = ["stats", "--watch", "0.1", "--url", url]
    child = subprocess.Popen(
        [sys.executable, "-m", "forebay.cli", *words], stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    seen, limit = b"", time.monotonic() + 30
    while seen.count(b"every 0.1 s, Ctrl-C ends") < 2:
        assert time.monotonic() < limit
        seen += os.read(ours, 65536)
    child.terminate()
    assert child.wait(30) == 130
    os.close(ours)
    assert b"\x1b[2J" in seen


def test_an_account_that_may_not_ask_is_told_so(sync_bay, prefix, url):
    sync_bay.cache("c", **OPTIONS).set("k", 1)
    sync_bay.execute("ACL", "SETUSER", "looker", "reset", "on", ">word", f"~{prefix}*", "+@all", "-time")
    try:
        done = CliRunner().invoke(app, ["explain", "c", "k", "--prefix", prefix, "--url", url.replace("://", "://looker:word@")])
    finally:
        sync_bay.execute("ACL", "DELUSER", "looker")
    assert isinstance(done.exception, SystemExit)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "NOPERM" in done.stderr
    assert "time" in done.stderr


def test_removals_can_be_counted_by_programs(run, sync_bay):
    sync_bay.cache("c", ttl=60).set_many({"a1": 1, "a2": 2, "b": 3})
    assert run("cache", "delete-matching", "c", "a*", "--json") == (0, '{"removed": 2}\n', "")
    assert run("cache", "clear", "c", "--yes", "--json") == (0, '{"removed": 1}\n', "")


def test_a_cluster_is_looked_at_as_a_whole():
    with ClusterSet(masters=3) as nodes:
        address = nodes.url
        with Forebay(address, prefix="shop:") as bay:
            cache = bay.cache("c", **OPTIONS)
            cache.set_many({f"a{n}": n for n in range(60)}, tags=["t", "u", "v"])

            def run(*words):
                done = CliRunner().invoke(app, [*words, "--url", address, "--prefix", "shop:", "--json"])
                assert done.exit_code == 0, done.stderr
                return json.loads(done.stdout)

            assert len(run("keys", "c")["keys"]) == 60
            assert run("get", "c", "a7") == 7
            assert set(run("explain", "c", "a7")["versions"]) == {"c:#tag:t", "c:#tag:u", "c:#tag:v"}
            words = ("invalidate", "c", "--key", "a1", "--key", "a2", "--key", "a3", "--pattern", "a1*", "--tag", "t", "--tag", "u")
            assert run(*words, "--dry-run")["counts"] == {"keys": 3, "pattern a1*": 11, "tags": 60}
            assert run("stats")["namespaces"]["c"] >= 60
            assert run("bench", "--seconds", "0.3")["get"]["per_second"] > 0
            run(*words)
            assert cache.get_many([f"a{n}" for n in range(60)]) == {}
