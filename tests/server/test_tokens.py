"""Tokens of both colours: a refresh token is used once, a copy ends the login, and what was revoked is accepted nowhere."""

import base64
import json
import re

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from forebay import (
    AccessTokenInvalid,
    AccessTokenRevoked,
    AsyncForebay,
    Device,
    EncodeError,
    InvalidKey,
    InvalidNamespace,
    RefreshTokenCopied,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SettingsError,
    TooManySessions,
    Unavailable,
    UsageError,
)
from tests.either import older
from tests.server.test_near import until

KEY = "k" * 64


async def everything(bay, prefix):
    """All that Redis holds under the prefix, names too."""
    found = b""
    for name in await bay.execute("KEYS", f"{prefix}*"):
        found += name + (await bay.execute("DUMP", name))
    return found


async def test_a_login_gives_a_pair_and_the_pair_is_renewed(either):
    tokens = either.tokens(KEY, access_ttl="5m")
    first = await tokens.issue(42, claims={"role": "admin"}, device=Device("curl", "10.0.0.1"))
    assert first.response == {
        "access_token": first.access_token,
        "token_type": "Bearer",
        "expires_in": 300,
        "refresh_token": first.refresh_token,
    }
    said = await tokens.verify(first.access_token)
    assert (said.user_id, said.claims, said.handle) == ("42", {"role": "admin"}, first.handle)
    assert (said.expires_at - said.issued_at).total_seconds() == 300
    second = await tokens.refresh(first.refresh_token, claims={"role": "reader", "for": "this one"})
    assert second.refresh_token != first.refresh_token
    assert (second.handle, second.user_id) == (first.handle, "42")
    assert (await tokens.verify(second.access_token)).claims == {"role": "reader", "for": "this one"}
    third = await tokens.refresh(second.refresh_token)
    assert (await tokens.verify(third.access_token)).claims == {"role": "admin"}, "what the login says"
    assert (await tokens.verify(first.access_token)).user_id == "42", "it is good until its time is over"
    ids = {(await tokens.verify(pair.access_token)).id for pair in (first, second, third)}
    assert len(ids) == 3


async def test_no_token_stands_in_redis_and_every_key_ends(either, prefix):
    tokens = either.tokens(KEY)
    first = await tokens.issue(42)
    second = await tokens.refresh(first.refresh_token)
    await tokens.revoke_access(second.access_token)
    await tokens.verify(first.access_token)
    held = await everything(either, prefix)
    for pair in (first, second):
        for part in pair.refresh_token.split(".")[1:]:
            assert part.encode() not in held
        assert pair.access_token.encode() not in held
        assert pair.refresh_token not in repr(pair)
        assert pair.access_token not in repr(pair)
    for name in await either.execute("KEYS", f"{prefix}*"):
        assert await either.execute("PTTL", name) > 0, name
        assert name.startswith(f"{prefix}token:".encode())


async def test_a_token_used_twice_after_its_grace_ends_the_login_and_its_access_tokens(make_either, url, prefix):
    heard = []
    bay = make_either(url, prefix=prefix, on_event=heard.append)
    tokens = bay.tokens(KEY)
    first, other = await tokens.issue(42), await tokens.issue(42)
    second = await tokens.refresh(first.refresh_token)
    await older(bay, "11s")
    with pytest.raises(RefreshTokenReused, match="all tokens of its login are revoked"):
        await tokens.refresh(first.refresh_token)
    with pytest.raises(RefreshTokenInvalid):
        await tokens.refresh(second.refresh_token)
    for pair in (first, second):
        with pytest.raises(AccessTokenRevoked):
            await tokens.verify(pair.access_token)
    assert [(type(event), event.handle) for event in heard] == [(RefreshTokenCopied, first.handle)]
    assert first.handle not in heard[0].describe()
    await tokens.refresh(other.refresh_token)
    assert [info.handle for info in await tokens.list_for(42)] == [other.handle]


async def test_within_its_grace_a_token_brings_the_same_next_one(either, advance):
    tokens = either.tokens(KEY)
    first = await tokens.issue(42)
    second, again = [await tokens.refresh(first.refresh_token) for _ in range(2)]
    assert again.refresh_token == second.refresh_token
    assert again.access_token != second.access_token
    await advance("9s")
    assert (await tokens.refresh(first.refresh_token)).refresh_token == second.refresh_token
    third = await tokens.refresh(second.refresh_token)
    with pytest.raises(RefreshTokenInvalid) as caught:
        await tokens.refresh(first.refresh_token)
    assert not isinstance(caught.value, RefreshTokenReused), "late, and no theft"
    assert (await tokens.refresh(second.refresh_token)).refresh_token == third.refresh_token
    await tokens.refresh(third.refresh_token)


async def test_without_grace_the_second_use_is_a_theft(either):
    tokens = either.tokens(KEY, grace=None)
    first = await tokens.issue(42)
    second = await tokens.refresh(first.refresh_token)
    with pytest.raises(RefreshTokenReused):
        await tokens.refresh(first.refresh_token)
    with pytest.raises(RefreshTokenInvalid):
        await tokens.refresh(second.refresh_token)


async def test_what_follows_a_token_needs_the_secret_of_the_service(either):
    first = await either.tokens(KEY, secret="s" * 16).issue(42)
    second = await either.tokens(KEY, secret="s" * 16).refresh(first.refresh_token)
    stranger = await either.tokens(KEY).refresh(first.refresh_token)
    assert stranger.refresh_token != second.refresh_token


@pytest.mark.parametrize("kind", ["unknown", "another family's", "cut", "long", "not hexadecimal", "none", "a newline", "empty"])
async def test_what_is_no_refresh_token_is_refused_alike(either, kind):
    tokens = either.tokens(KEY)
    mine, other = (await tokens.issue(42)).refresh_token, (await tokens.issue(43)).refresh_token
    text = {
        "unknown": mine[:33] + "0" * 64 + mine[97:],
        "another family's": mine[:33] + other[33:],
        "cut": mine[:-1],
        "long": mine + "0",
        "not hexadecimal": mine[:-1] + "g",
        "none": None,
        "a newline": mine[:-1] + "\n",
        "empty": "",
    }[kind]
    with pytest.raises(RefreshTokenInvalid, match="^there is no such refresh token$") as caught:
        await tokens.refresh(text)
    assert not isinstance(caught.value, RefreshTokenReused)
    await tokens.refresh(mine)
    await tokens.refresh(other)


async def test_a_stored_digest_is_no_token(either, prefix):
    tokens = either.tokens(KEY)
    pair = await tokens.issue(42)
    [name] = [each for each in await either.execute("KEYS", f"{prefix}token:*") if re.search(rb"[0-9a-f]{64}$", each)]
    digest, now = name.decode()[-64:], (await either.execute("HGET", name, "%now")).decode()
    for text in (f"{pair.refresh_token[:33]}{digest}.{now}", f"{pair.refresh_token[:33]}{digest}.{pair.refresh_token[98:]}"):
        with pytest.raises(RefreshTokenInvalid):
            await tokens.refresh(text)
    await tokens.refresh(pair.refresh_token)


async def test_a_logout_ends_the_login_and_nothing_else(either):
    tokens = either.tokens(KEY)
    here, there = await tokens.issue(42), await tokens.issue(42)
    await tokens.revoke(here.refresh_token)
    await tokens.revoke(here.refresh_token)
    with pytest.raises(AccessTokenRevoked):
        await tokens.verify(here.access_token)
    with pytest.raises(RefreshTokenInvalid):
        await tokens.refresh(here.refresh_token)
    assert (await tokens.verify(there.access_token)).handle == there.handle
    with pytest.raises(RefreshTokenInvalid):
        await tokens.revoke("nonsense")


async def test_one_access_token_can_be_revoked(either):
    tokens = either.tokens(KEY)
    first = await tokens.issue(42)
    second = await tokens.refresh(first.refresh_token)
    await tokens.verify(first.access_token)
    await tokens.revoke_access(first.access_token)
    with pytest.raises(AccessTokenRevoked):
        await tokens.verify(first.access_token)
    await tokens.verify(second.access_token)
    await tokens.refresh(second.refresh_token)


async def test_logins_are_listed_and_revoked_by_handle_and_all_at_once(either):
    tokens = either.tokens(KEY)
    pairs = [await tokens.issue(42, device=f"device {n}") for n in range(4)]
    stranger = await tokens.issue(43)
    assert {(info.handle, info.device.agent) for info in await tokens.list_for(42)} == {
        (pair.handle, f"device {n}") for n, pair in enumerate(pairs)
    }
    assert await tokens.revoke_handle(42, pairs[0].handle)
    assert not await tokens.revoke_handle(42, pairs[0].handle)
    assert not await tokens.revoke_handle(43, pairs[1].handle), "another user's"
    assert await tokens.revoke_for(42, except_=pairs[3].refresh_token) == 2
    for pair in pairs[:3]:
        with pytest.raises(AccessTokenRevoked):
            await tokens.verify(pair.access_token)
        with pytest.raises(RefreshTokenInvalid):
            await tokens.refresh(pair.refresh_token)
    assert [info.handle for info in await tokens.list_for(42)] == [pairs[3].handle]
    kept = await tokens.refresh(pairs[3].refresh_token)
    await tokens.verify(kept.access_token)
    assert await tokens.revoke_for(42) == 1
    for pair in (kept, pairs[3]):
        with pytest.raises(AccessTokenRevoked):
            await tokens.verify(pair.access_token)
    await tokens.verify(stranger.access_token)
    assert await tokens.revoke_for(44) == 0


async def test_a_revocation_that_failed_half_way_can_be_repeated(either):
    """Were the login ended first, a repeat would not know any more which access tokens to refuse."""
    tokens = either.tokens(KEY)
    pairs = [await tokens.issue(42) for _ in range(3)]
    core = getattr(tokens, "wrapped", tokens)
    revocations = getattr(core, "_core", core)._revocations
    revoke, failed = revocations.revoke, []

    async def fails(*ids, ttl):
        failed.append(ids)
        raise Unavailable("the server went away")

    for attempt in (
        lambda: tokens.revoke_handle(42, pairs[0].handle),
        lambda: tokens.revoke_for(42),
        lambda: tokens.revoke(pairs[0].refresh_token),
    ):
        revocations.revoke = fails
        with pytest.raises(Unavailable):
            await attempt()
        revocations.revoke = revoke
        await attempt()
    assert len(failed) == 3
    for pair in pairs:
        with pytest.raises(AccessTokenRevoked):
            await tokens.verify(pair.access_token)


async def test_a_user_has_only_so_many_logins(either):
    tokens = either.tokens(KEY, max_per_user=2, when_full="refuse")
    for _ in range(2):
        await tokens.issue(42)
    with pytest.raises(TooManySessions):
        await tokens.issue(42)
    evicting = either.tokens(KEY, max_per_user=2)
    newest = await evicting.issue(42)
    assert newest.handle in {info.handle for info in await evicting.list_for(42)}
    assert len(await evicting.list_for(42)) == 2


async def test_a_login_ends_when_it_is_not_used_and_at_its_absolute_end(either, advance, prefix):
    tokens = either.tokens(KEY, idle_timeout="1h", absolute_timeout="3h")
    used, idle = await tokens.issue(1), await tokens.issue(2)
    for _ in range(3):
        await advance("50m")
        used = await tokens.refresh(used.refresh_token)
    with pytest.raises(RefreshTokenInvalid):
        await tokens.refresh(idle.refresh_token)
    await advance("40m")
    with pytest.raises(RefreshTokenInvalid):
        await tokens.refresh(used.refresh_token)
    await tokens.revoke_access(used.access_token)
    await advance("4h")
    assert await either.execute("KEYS", f"{prefix}*") == [], "nothing is left behind"


async def test_a_check_asks_nobody_once_it_is_warm(either):
    tokens = either.tokens(KEY)
    pairs = [await tokens.issue(user) for user in range(20)]

    async def check():
        for pair in pairs:
            await tokens.verify(pair.access_token)

    await until(lambda: unasked(either, check))
    assert await unasked(either, check)
    await tokens.revoke(pairs[0].refresh_token)
    with pytest.raises(AccessTokenRevoked):
        await check()


async def unasked(bay, work):
    """Whether *work* sends no command."""
    before = await bay.execute("INFO", "stats")
    await work()
    count = [int(re.search(rb"total_commands_processed:(\d+)", text)[1]) for text in (before, await bay.execute("INFO", "stats"))]
    return count[1] - count[0] == 1


async def test_what_one_process_revokes_the_others_refuse(either, make_either, url, prefix):
    mine, others = either.tokens(KEY), make_either(url, prefix=prefix).tokens(KEY)
    pair = await mine.issue(42)
    for tokens in (mine, others):
        await tokens.verify(pair.access_token)
    await mine.revoke(pair.refresh_token)

    async def refused():
        try:
            await others.verify(pair.access_token)
        except AccessTokenRevoked:
            return True
        return False

    await until(refused)


async def test_strict_revocations_are_refused_everywhere_at_once(either, make_either, url, prefix):
    mine, others = either.tokens(KEY, near_strict=True), make_either(url, prefix=prefix).tokens(KEY, near_strict=True)
    for _ in range(5):
        pair = await mine.issue(42)
        for tokens in (mine, others, others):
            await tokens.verify(pair.access_token)
        await mine.revoke(pair.refresh_token)
        with pytest.raises(AccessTokenRevoked):
            await others.verify(pair.access_token)


async def test_where_the_list_cannot_be_read_nobody_is_let_in(make_either, url, prefix):
    bay = make_either("redis://127.0.0.1:1/0", required=False, prefix=prefix)
    access = (await make_either(url, prefix=prefix).tokens(KEY).issue(42)).access_token
    tokens = bay.tokens(KEY)
    with pytest.raises(Unavailable):
        await tokens.verify(access)
    with pytest.raises(Unavailable):
        await tokens.issue(42)


def forged(token, header=None, payload=None, signature=None):
    parts = token.split(".")

    def other(part, changes):
        data = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        data.update(changes)
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    head = other(parts[0], header) if header else parts[0]
    body = other(parts[1], payload) if payload else parts[1]
    return ".".join([head, body, parts[2] if signature is None else signature])


async def test_only_what_this_service_signed_is_read(either):
    tokens = either.tokens(KEY, issuer="shop", audience="api")
    good = (await tokens.issue(42)).access_token
    kid = jwt.get_unverified_header(good)["kid"]
    said = jwt.decode(good, options={"verify_signature": False})
    assert (await tokens.verify(good)).claims == {}

    def signed(key=KEY, algorithm="HS256", kid=kid, **changes):
        payload = {name: value for name, value in (said | changes).items() if value is not None}
        return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid})

    assert (await tokens.verify(signed())).user_id == "42"
    bad = {
        "no signature": forged(good, header={"alg": "none"}, signature=""),
        "none, signed": forged(good, header={"alg": "none"}),
        "another algorithm": signed(algorithm="HS512"),
        "another key": signed(key="x" * 64),
        "another key's name": signed(kid="0" * 16),
        "no key's name": forged(good, header={"kid": None}),
        "a list as the key's name": forged(good, header={"kid": ["x"]}),
        "changed": forged(good, payload={"sub": "1"}),
        "ended": signed(exp=said["iat"] - 1),
        "not yet": signed(iat=said["iat"] + 3600),
        "another issuer": signed(iss="other"),
        "another audience": signed(aud="other"),
        "no audience": signed(aud=None),
        "no issuer": signed(iss=None),
        "no login": signed(sid=None),
        "no id": signed(jti=None),
        "a number as the login": signed(sid=5),
        "a list as the id": signed(jti=["x"]),
        "a number for a user": signed(sub=42),
        "no end": signed(exp=None),
        "text for an end": signed(exp="soon"),
        "huge": good + "A" * 9000,
        "empty": "",
        "nothing": None,
        "bytes": good.encode(),
        "no JSON": "e30.e30.e30",
        "not ASCII": "é.é.é",
        "a refresh token": "0" * 32 + "." + "0" * 64 + "." + "0" * 64,
    }
    for name, text in bad.items():
        with pytest.raises(AccessTokenInvalid) as caught:
            await tokens.verify(text)
        assert not isinstance(caught.value, AccessTokenRevoked), name
        if isinstance(text, str) and text:
            assert text not in str(caught.value), name
        with pytest.raises(AccessTokenInvalid):
            await tokens.revoke_access(text)


async def test_keys_are_rotated(either):
    old, both, new = (either.tokens(keys) for keys in ("a" * 32, ["a" * 32, "b" * 32], b"b" * 32))
    before, after = (await old.issue(42)).access_token, (await both.issue(42)).access_token
    for tokens, text in ((old, before), (both, before), (both, after), (new, after)):
        assert (await tokens.verify(text)).user_id == "42"
    for tokens, text in ((old, after), (new, before)):
        with pytest.raises(AccessTokenInvalid, match="a key that is not known here"):
            await tokens.verify(text)


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
async def test_a_service_with_the_public_key_reads_and_cannot_sign(either, algorithm):
    private = ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signing, reading = either.tokens(pem, algorithm=algorithm), either.tokens(public, algorithm=algorithm)
    access = (await signing.issue(42)).access_token
    assert (await reading.verify(access)).user_id == "42"
    with pytest.raises(UsageError, match="cannot sign"):
        await reading.issue(42)
    confused = forged(jwt.encode({"sub": "1"}, "x" * 64, headers={"kid": jwt.get_unverified_header(access)["kid"]}))
    with pytest.raises(AccessTokenInvalid):
        await reading.verify(confused)


@pytest.mark.parametrize(
    ("keys", "options", "error", "message"),
    [
        ("short", {}, SettingsError, "5 bytes, and HS256 needs 32"),
        ([], {}, SettingsError, "empty"),
        ([5], {}, SettingsError, "not int"),
        (KEY, {"algorithm": "none"}, SettingsError, "algorithm='none' is unknown"),
        (KEY, {"algorithm": "EdDSA"}, SettingsError, "give it as PEM"),
        (KEY, {"access_ttl": "30d"}, SettingsError, "access_ttl is longer than idle_timeout"),
        (KEY, {"grace": "15d"}, SettingsError, "grace is not shorter"),
        (KEY, {"idle_timeout": "100d"}, SettingsError, "idle_timeout is longer than absolute_timeout"),
        (KEY, {"secret": "short"}, SettingsError, "at least 16"),
        (KEY, {"leeway": -1}, ValueError, "-1"),
        (KEY, {"speed": 9}, TypeError, r"tokens\(\) has no option 'speed'"),
    ],
    ids=["short", "no keys", "a number", "algorithm", "no PEM", "access", "grace", "idle", "secret", "leeway", "unknown"],
)
async def test_what_cannot_be_used_is_refused_at_once(either, keys, options, error, message):
    with pytest.raises(error, match=message) as caught:
        either.tokens(keys, **options)
    assert KEY not in str(caught.value)


async def test_what_cannot_be_said_is_refused_before_anything_is_stored(either, prefix):
    tokens = either.tokens(KEY)
    with pytest.raises(UsageError, match="claim 'sub' is set by Forebay"):
        await tokens.issue(42, claims={"sub": "1"})
    with pytest.raises(EncodeError):
        await tokens.issue(42, claims={"when": object()})
    with pytest.raises(InvalidKey):
        await tokens.issue("")
    assert await either.execute("KEYS", f"{prefix}*") == []
    pair = await tokens.issue(42)
    with pytest.raises(UsageError):
        await tokens.refresh(pair.refresh_token, claims={"exp": 5})
    with pytest.raises(EncodeError):
        await tokens.refresh(pair.refresh_token, claims={"when": object()})
    assert (await tokens.refresh(pair.refresh_token)).user_id == "42", "it was not used up"


async def test_reprs_keep_secrets_and_names_are_reserved(bay):
    tokens = bay.tokens(KEY, secret="t" * 16)
    assert repr(tokens) == "AsyncTokens(<Signer HS256, 1 keys>)"
    assert KEY not in repr(vars(tokens))
    with pytest.raises(InvalidNamespace, match="'token'"):
        bay.cache("token:revoked")


async def test_a_repeat_of_an_unknown_outcome_is_no_second_use(url, prefix):
    """The server ran the rotation and its reply was lost; the very same command comes again, without any grace."""
    async with AsyncForebay(url, prefix=prefix) as bay:
        tokens = bay.tokens(KEY, grace=None)
        first = await tokens.issue(42)
        sent, execute = [], bay.port.execute

        async def twice(*args, **options):
            sent.append(args)
            await execute(*args, **options)
            return await execute(*args, **options)

        bay.port.execute = twice
        second = await tokens.refresh(first.refresh_token)
        bay.port.execute = execute
        assert sent
        await tokens.refresh(second.refresh_token)
