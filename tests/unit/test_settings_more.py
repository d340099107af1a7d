"""The settings of patience, bounds, TLS and passwords: each reader with good and bad text, contradictions, and no secret in any word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import AsyncForebay, ConnectFailed, Forebay, Settings, SettingsError
from forebay.readers import TUNING

SECRET = "hunter2"

TIMES = ["cache_budget", "close_timeout", "dial_timeout", "limit_deadline", "ping_every", "read_timeout", "write_timeout"]
SIZES = ["large_value", "max_in_flight_bytes"]
TEXTS = ["password_file", "sentinel_password", "sentinel_username", "tls_ca", "tls_cert", "tls_server_name"]

GOOD = [
    *(
        (name, text, seconds)
        for name in TIMES
        for text, seconds in (("3", 3.0), ("0.25", 0.25), ("250ms", 0.25), ("1m", 60.0), ("1h30m", 5400.0))
    ),
    *(
        (name, text, size)
        for name in SIZES
        for text, size in (("1", 1), ("65536", 65536), ("64k", 65536), ("2M", 2 << 20), ("1gb", 1 << 30))
    ),
    *(
        (name, text, text)
        for name in TEXTS
        for text in ("plain", "/run/secrets/one", "a:b")
        if name != "tls_server_name" or "/" not in text
    ),
    ("max_in_flight", "1", 1),
    ("max_in_flight", "10000000", 10_000_000),
    ("pool_size", "100000", 100_000),
    ("tls_server_name", "cache.example", "cache.example"),
    ("tls_server_name", "[::1]", "::1"),
    ("tls_verify", "full", "full"),
    ("tls_verify", "insecure-no-hostname", "insecure-no-hostname"),
    ("tls_verify", "insecure-none", "insecure-none"),
    ("host_map", "10.0.0.5:6379=cache.example:7001", {"10.0.0.5:6379": "cache.example:7001"}),
    ("host_map", "a:1=b:2, c:3=d:4", {"a:1": "b:2", "c:3": "d:4"}),
    ("host_map", "[::1]:1=[::2]:65535", {"[::1]:1": "[::2]:65535"}),
]
BAD = [
    *((name, text) for name in TIMES for text in ("", "0", "-1", "soon", "1 day", "nan", "inf", "1e99", "5 5")),
    *((name, text) for name in SIZES for text in ("", "0", "-1", "64x", "1.5k", "k", "0x10", "1e3", "６４k")),
    *((name, "") for name in TEXTS),
    *(("max_in_flight", text) for text in ("", "0", "-1", "many", "10000001", "1e3", "1_000")),
    *(("tls_verify", text) for text in ("", "none", "FULL", "false", "insecure", " full")),
    *(("tls_server_name", text) for text in ("a b", "a/b", "a,b", "user@a")),
    *(("host_map", text) for text in ("", "a", "a:1", "a=b", "a:1=b", "a:1=b:c", "a:1=b:2,", "a:1=b:2;c:3=d:4", "=", "a:1==b:2")),
    *(("host_map", text) for text in ("a:1=b:0", "a:1=b:65536", "a:99999=b:1")),
]


def test_every_option_has_a_reader_and_is_tried():
    fields = set(Settings.__struct_fields__)
    assert set(TUNING) <= fields
    assert fields - set(TUNING) == {"topology", "hosts", "path", "tls", "service", "username", "password", "db"}
    assert {name for name, *_ in GOOD} >= set(TUNING) - {"min_idle", "tls_key"}
    assert [variable for variable, _ in TUNING.values()] == [f"REDIS_{name.upper()}" for name in TUNING]


def quoted(text):
    from urllib.parse import quote

    return quote(text, safe="")


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_an_option_is_the_same_in_the_query_and_in_the_environment(name, text, value):
    variable = TUNING[name][0]
    from_query = Settings.from_url(f"redis://h?{name}={quoted(text)}", {})
    assert getattr(from_query, name) == value
    assert Settings.from_url("redis://h", {variable: text}) == from_query
    assert getattr(Settings.from_env({variable: text}), name) == value
    other = {"tls_verify": "full", "host_map": "x:1=y:2", "tls_server_name": "elsewhere"}.get(name, "77")
    assert getattr(Settings.from_url(f"redis://h?{name}={quoted(text)}", {variable: other}), name) == value, "the query is nearer"


@pytest.mark.parametrize(("name", "text"), BAD)
def test_an_option_that_cannot_be_read_is_named_with_its_value(name, text):
    variable = TUNING[name][0]
    for what, read in (
        (variable, lambda: Settings.from_env({variable: text})),
        (f"{name} in REDIS_URL", lambda: Settings.from_env({"REDIS_URL": f"redis://h?{name}={quoted(text)}"})),
    ):
        with pytest.raises(SettingsError) as caught:
            read()
        assert str(caught.value).startswith(f"{what}={text!r} is not ")


def test_a_bad_variable_does_not_matter_where_the_query_says_otherwise():
    assert Settings.from_url("redis://h?read_timeout=1s", {"REDIS_READ_TIMEOUT": "soon"}).read_timeout == 1.0


@pytest.mark.parametrize(
    ("text", "tls"), [("1", True), ("true", True), ("YES", True), (" on ", True), ("0", False), ("False", False), ("no", False)]
)
def test_tls_by_a_variable(text, tls):
    settings = Settings.from_env({"REDIS_HOST": "h", "REDIS_TLS": text})
    assert settings.tls is tls
    assert settings.where == ("rediss" if tls else "redis") + "://h:6379/0"


@pytest.mark.parametrize("text", ["", "2", "tls", "ja", "required"])
def test_tls_that_cannot_be_read(text):
    with pytest.raises(SettingsError, match=f"^REDIS_TLS={text!r} is not 'true' or 'false'$"):
        Settings.from_env({"REDIS_TLS": text})


def test_a_url_says_itself_whether_it_is_tls():
    assert Settings.from_env({"REDIS_URL": "redis://h", "REDIS_TLS": "true"}).tls is False
    assert Settings.from_env({"REDIS_URL": "rediss://h", "REDIS_TLS": "false"}).tls is True


@pytest.mark.parametrize(
    ("url", "topology", "where"),
    [
        ("rediss+cluster://a:1,b:2", "cluster", "rediss+cluster://a:1,b:2"),
        ("rediss+cluster://[::1]", "cluster", "rediss+cluster://[::1]:6379"),
        ("rediss+sentinel://a,b:2/main/3", "sentinel", "rediss+sentinel://a:26379,b:2/main/3"),
    ],
)
def test_tls_of_many_servers(url, topology, where):
    settings = Settings.from_url(f"{url}?tls_ca=ca.pem&tls_verify=insecure-no-hostname", {})
    assert (settings.topology, settings.tls, settings.tls_ca, settings.tls_verify) == (topology, True, "ca.pem", "insecure-no-hostname")
    assert settings.where == where


CONTRADICTIONS = [
    ({"password": SECRET, "password_file": "f"}, "REDIS_PASSWORD_FILE"),
    ({"password": lambda: SECRET, "password_file": "f"}, "REDIS_PASSWORD_FILE"),
    ({"tls_key": "k"}, "REDIS_TLS_KEY is given without REDIS_TLS_CERT"),
    ({"tls_verify": "none"}, "REDIS_TLS_VERIFY='none'"),
    ({"min_idle": 11}, "REDIS_MIN_IDLE=11 is above REDIS_POOL_SIZE=10"),
]


@pytest.mark.parametrize(("fields", "hint"), CONTRADICTIONS)
def test_contradictions_are_refused_however_they_come_about(fields, hint):
    for make in (lambda: Settings(**fields), lambda: Settings.from_env({}).replace(**fields)):
        with pytest.raises(SettingsError, match=hint) as caught:
            make()
        assert SECRET not in repr(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settings.from_env({"REDIS_PASSWORD": SECRET, "REDIS_PASSWORD_FILE": "f"}),
        lambda: Settings.from_url(f"redis://:{SECRET}@h", {"REDIS_PASSWORD_FILE": "f"}),
        lambda: Settings.from_url(f"redis://:{SECRET}@h?password_file=f", {}),
    ],
)
def test_a_password_and_its_file_are_one_too_many(make):
    with pytest.raises(SettingsError, match="which one holds") as caught:
        make()
    assert SECRET not in str(caught.value)


def test_replacing_changes_a_copy():
    before = Settings.from_url("redis://app@h?pool_size=4", {})
    after = before.replace(password=SECRET, read_timeout=0.1)
    assert (before.password, before.read_timeout) == (None, 3.0)
    assert (after.password, after.read_timeout, after.username, after.pool_size) == (SECRET, 0.1, "app", 4)
    assert after.replace(password=None, read_timeout=3.0) == before


def test_replacing_what_is_not_there_is_refused():
    with pytest.raises(SettingsError, match=r"there is no setting 'passwort'; known are .*password.*host_map") as caught:
        Settings().replace(passwort=SECRET)
    assert SECRET not in str(caught.value)


def shown(error):
    parts = []
    while error is not None:
        parts += [str(error), repr(error), repr(error.args), repr(getattr(error, "__notes__", ""))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(parts)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://h?sentinel_password={SECRET}&timeout=3",
        f"redis://h?sentinel_password={SECRET}&pool_size=none",
        f"redis://h?pool_size=none&sentinel_password={SECRET}",
        f"redis://h/main?sentinel_password={SECRET}",
        f"redis://h:port?sentinel_password={SECRET}",
        f"http://h?sentinel_password={SECRET}",
        f"redis://h?password={SECRET}",
        f"redis://h?sentinel_password={SECRET}&x",
        f"redis://h?sentinel_password={SECRET}#x",
        f"redis+cluster://h/0?sentinel_password={SECRET}",
        f"unix://h/s?sentinel_password={SECRET}",
        f"redis://app:{SECRET}@h?sentinel_password=x&tls_key=k",
        f"redis://app:{SECRET}@h?tls_verify=none",
        f"redis://app:{SECRET}@h:port?x@y",
        f"redis://app:{SECRET}?x@h",
        f"redis://app:{SECRET}?x=1@h",
        f"redis://app:{SECRET}/x@h",
        f"redis://app:1234/{SECRET}@h",
        f"redis://app:{SECRET}@[h",
        f"redis://app:{SECRET}@h@",
        f"redis://app:{SECRET} x@",
        f"redis+sentinel://app:{SECRET}/x@h/service",
        f"unix://app:{SECRET}@h/run/s",
        f"redis://app:{SECRET}\u2100@h",
    ],
)
def test_no_secret_in_any_error(url):
    with pytest.raises(SettingsError) as caught:
        Settings.from_url(url, {})
    assert SECRET not in shown(caught.value)


@given(password=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=6).map(lambda text: f"{SECRET}{text}{SECRET}"))
def test_whatever_is_in_a_password_it_is_never_shown(password):
    """People forget to escape; what is read at all is read without showing it, and so is what is refused."""
    try:
        settings = Settings.from_url(f"redis://app:{password}@cache/0", {})
    except SettingsError as error:
        assert SECRET not in shown(error)
    else:
        assert SECRET not in repr(settings) + str(settings) + settings.where


@pytest.mark.parametrize("field", ["password", "sentinel_password"])
def test_no_secret_in_what_anybody_prints(field):
    settings = Settings().replace(**{field: SECRET})
    printed = [
        repr(settings),
        str(settings),
        settings.where,
        f"{settings}",
        repr({"settings": settings}),
        repr(list(settings.__rich_repr__())),
    ]
    assert SECRET not in "\n".join(printed)
    assert f"{field}='***'" in repr(settings) or f"{field}=***" in repr(settings)


def test_a_function_for_a_password_is_not_shown_either():
    class Vault:
        def __repr__(self):
            return f"<Vault {SECRET}>"

        def __call__(self):
            return SECRET

    assert SECRET not in repr(Settings(password=Vault()))


@pytest.mark.parametrize("bay", [Forebay, AsyncForebay])
def test_a_bay_shows_where_and_nothing_more(bay):
    one = bay(f"redis://app:{SECRET}@h?sentinel_password={SECRET}", prefix="p:")
    assert repr(one) == f"{bay.__name__}('redis://h:6379/0', prefix='p:')"


@pytest.mark.parametrize("host", ["a..b", ".example", "a" * 64])
async def test_a_host_that_no_resolver_takes_is_refused_in_good_order(make_either, host):
    with pytest.raises((SettingsError, ConnectFailed)):
        await make_either(f"redis://{host}").connect()


@pytest.mark.parametrize("option", ["password_file", "tls_ca", "tls_cert"])
async def test_a_file_that_cannot_be_named_is_refused_in_good_order(make_either, option):
    with pytest.raises((SettingsError, ConnectFailed)):
        await make_either(f"rediss://127.0.0.1:1?{option}=a%00b").connect()
