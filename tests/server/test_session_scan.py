"""Whatever many do at once to sessions and tokens, no key of theirs is ever without a lifetime; and in the end nothing is left."""

import random
import threading

from forebay import EmbeddedServer, Forebay, RefreshTokenInvalid, SessionGone, SessionNotFound
from forebay.testing import moved_clock
from tests.immortal import Scanner

THREADS = 4
ROUNDS = 250
USERS = 5


def hammer(bay, seed, failures):
    """Do one of everything, at random, to sessions and tokens that others may have ended."""
    dice = random.Random(seed)
    sessions, tokens = bay.sessions(max_per_user=6), bay.tokens("k" * 64, grace=None)
    mine, pairs = [sessions.create(0)], [tokens.issue(0)]
    try:
        for _ in range(ROUNDS):
            user, session, pair = dice.randrange(USERS), dice.choice(mine), dice.choice(pairs)
            try:
                match dice.randrange(10):
                    case 0:
                        mine.append(sessions.create(dice.choice([None, user]), {"n": 1}))
                    case 1:
                        session["n"] = dice.random()
                        session.put("soon", 1, ttl="5m")
                        sessions.save(session)
                    case 2:
                        session.record.seen = 0
                        sessions.touch(session)
                    case 3:
                        mine.append(sessions.regenerate(session, user_id=user, grace=dice.choice([None, "5s"])))
                    case 4:
                        sessions.destroy(session.id)
                    case 5:
                        sessions.destroy_for(user, except_=dice.choice([None, session.id]))
                    case 6:
                        for info in sessions.list_for(user)[:1]:
                            sessions.destroy_handle(user, info.handle)
                    case 7:
                        pairs.append(tokens.issue(user))
                    case 8:
                        pairs.append(tokens.refresh(pair.refresh_token))
                    case 9:
                        tokens.revoke_for(user)
            except (SessionGone, SessionNotFound, RefreshTokenInvalid):
                continue
    except BaseException as error:
        failures.append(error)
        raise


def test_no_key_is_without_a_lifetime_at_any_moment():
    with EmbeddedServer(port=0) as server, Forebay(server.url, prefix="x:") as bay:
        failures = []
        with Scanner(server) as scanner:
            threads = [threading.Thread(target=hammer, args=(bay, seed, failures)) for seed in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert failures == []
        assert scanner.found == set()
        assert scanner.seen > 50
        with moved_clock(bay) as clock:
            clock.advance("100d")
        assert bay.execute("DBSIZE") == 0, "nothing is left once all times are over"


def test_the_scanner_would_find_one():
    with EmbeddedServer(port=0) as server, Forebay(server.url, prefix="x:") as bay:
        session = bay.sessions().create(42)
        bay.execute("PERSIST", f"x:session:{{{session.id[:32]}}}:epoch")
        with Scanner(server) as scanner:
            pass
        assert scanner.found == {f"x:session:{{{session.id[:32]}}}:epoch".encode()}
