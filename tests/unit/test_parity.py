"""Both colours of every facade have the same names, parameters, defaults and docstrings."""

import inspect

import pytest

from forebay import (
    AsyncCache,
    AsyncForebay,
    AsyncLimiter,
    AsyncSessions,
    AsyncSubscription,
    AsyncTokens,
    Cache,
    Forebay,
    Limiter,
    Sessions,
    Subscription,
    Tokens,
)

PAIRS = [
    (AsyncForebay, Forebay),
    (AsyncCache, Cache),
    (AsyncSessions, Sessions),
    (AsyncSubscription, Subscription),
    (AsyncTokens, Tokens),
    (AsyncLimiter, Limiter),
]
ONLY_ASYNC = {"aclose"}  # contextlib.aclosing looks for this name


def public(cls):
    return {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}


@pytest.mark.parametrize(("asynchronous", "sync"), PAIRS)
def test_same_names(asynchronous, sync):
    assert set(public(asynchronous)) - ONLY_ASYNC == set(public(sync))


@pytest.mark.parametrize(("asynchronous", "sync"), PAIRS)
def test_same_parameters_docstrings_and_kinds(asynchronous, sync):
    for name, member in public(sync).items():
        twin = public(asynchronous)[name]
        assert type(member) is type(twin), name
        if callable(member):
            ours, theirs = inspect.signature(member), inspect.signature(twin)
            assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
                (p.name, p.kind, p.default) for p in theirs.parameters.values()
            ], name
        assert inspect.getdoc(member), f"{sync.__name__}.{name} has no docstring"
        assert inspect.getdoc(member) == inspect.getdoc(twin), name
        assert not inspect.iscoroutinefunction(member), name


@pytest.mark.parametrize(("asynchronous", "sync"), PAIRS)
def test_same_constructors(asynchronous, sync):
    if asynchronous is AsyncForebay:
        assert str(inspect.signature(asynchronous)) == str(inspect.signature(sync))
    assert inspect.getdoc(sync)
    assert inspect.getdoc(asynchronous)
