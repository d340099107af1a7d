"""Whatever is done to sessions, in whatever order and with however old copies: what ended stays so, and items are the model's."""

import asyncio
import copy
import uuid

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from forebay import AsyncForebay, Forebay, SessionGone, SessionNotFound
from tests.either import Either

USERS = [None, "1", "2"]
users = st.sampled_from(USERS)
items = st.sampled_from(["a", "b"])


class Model(RuleBasedStateMachine):
    """The model: which ids live, whose they are, and what is in them."""

    url: str
    kind: type

    ids = Bundle("ids")
    copies = Bundle("copies")

    @initialize()
    def open(self):
        self.loop = asyncio.new_event_loop()
        self.prefix = f"m{uuid.uuid4().hex[:12]}:"
        bay = self.kind(self.url, prefix=self.prefix)
        self.bay = Either(bay) if self.kind is Forebay else bay
        self.sessions = self.bay.sessions()
        self.live = {}  # id -> (user, items)

    def run(self, work):
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @rule(target=ids, user=users)
    def create(self, user):
        session = self.run(self.sessions.create(user, {"a": [0]}))
        self.live[session.id] = (user, {"a": [0]})
        return session.id

    @rule(target=copies, id_=ids)
    def load(self, id_):
        if id_ not in self.live:
            with pytest.raises(SessionNotFound):
                self.run(self.sessions.load(id_))
            return None
        session = self.run(self.sessions.load(id_))
        user, content = self.live[id_]
        assert (session.user_id, dict(session)) == (user, content)
        return session

    @rule(session=copies, item=items, number=st.integers(0, 9), inside=st.booleans(), remove=st.booleans())
    def change_and_save(self, session, item, number, inside, remove):
        """What this copy changed wins, and nothing else is touched, however old the copy is."""
        if session is None:
            return
        if remove:
            session.pop(item, None)
        elif inside and isinstance(session.get(item), list):
            session[item].append(number)
        else:
            session[item] = [number]
        changes = session.changes()
        wanted = {field[1:]: copy.deepcopy(session[field[1:]]) for field in changes.put}
        if session.id not in self.live:
            if changes:
                with pytest.raises(SessionGone):
                    self.run(self.sessions.save(session))
            return
        self.run(self.sessions.save(session))
        content = self.live[session.id][1]
        content.update(wanted)
        for field in changes.removed:
            content.pop(field[1:], None)

    @rule(session=copies)
    def touch(self, session):
        if session is None:
            return
        session.record.seen = 0
        if session.id in self.live:
            assert self.run(self.sessions.touch(session))
        else:
            with pytest.raises(SessionGone):
                self.run(self.sessions.touch(session))

    @rule(target=ids, session=copies, user=users, remember=st.sampled_from([None, True, False]), proved=st.booleans())
    def regenerate(self, session, user, remember, proved):
        options = {"user_id": user, "remember_me": remember, "authenticated": proved}
        if session is None or session.id not in self.live:
            if session is not None:
                with pytest.raises(SessionGone):
                    self.run(self.sessions.regenerate(session, **options))
            return "0" * 32 + "." + "0" * 64
        new = self.run(self.sessions.regenerate(session, **options))
        assert self.run(self.sessions.load(new.id)).is_fresh(60) >= proved
        del self.live[session.id]
        self.live[new.id] = (user, copy.deepcopy(dict(new)))
        return new.id

    @rule(id_=ids)
    def destroy(self, id_):
        there = self.live.pop(id_, None) is not None
        assert self.run(self.sessions.destroy(id_)) == there

    @rule(user=st.sampled_from(["1", "2"]), spared=ids, spare=st.booleans())
    def destroy_for(self, user, spared, spare):
        lives = spare and self.live.get(spared, (None,))[0] == user
        assert self.run(self.sessions.destroy_for(user, except_=spared if spare else None)) == lives
        for id_ in [id_ for id_, (whose, _) in self.live.items() if whose == user and not (lives and id_ == spared)]:
            del self.live[id_]

    @rule(id_=ids)
    def destroy_by_handle(self, id_):
        if self.live.get(id_, (None,))[0] is not None:
            user = self.live[id_][0]
            handle = self.run(self.sessions.load(id_)).handle
            assert self.run(self.sessions.destroy_handle(user, handle))
            del self.live[id_]

    @rule(user=st.sampled_from(["1", "2"]))
    def an_evicted_epoch_logs_out(self, user):
        mine = [id_ for id_, (whose, _) in self.live.items() if whose == user]
        if mine:
            self.run(self.bay.execute("DEL", f"{self.prefix}session:{{{mine[0][:32]}}}:epoch"))
            for id_ in mine:
                del self.live[id_]

    @invariant()
    def lists_are_the_models_and_every_key_has_a_lifetime(self):
        if not hasattr(self, "live"):
            return
        for user in ("1", "2"):
            mine = {self.run(self.sessions.load(id_)).handle for id_, (whose, _) in self.live.items() if whose == user}
            assert {info.handle for info in self.run(self.sessions.list_for(user))} == mine
        cursor, names = b"0", set()
        while True:
            cursor, found = self.run(self.bay.execute("SCAN", cursor, "MATCH", f"{self.prefix}*", "COUNT", 1000))
            names.update(found)
            if cursor == b"0":
                break
        assert all(self.run(self.bay.execute("PTTL", name)) > 0 for name in names)

    def teardown(self):
        if hasattr(self, "bay"):
            self.run(self.bay.close())
            self.loop.close()


def check(url, kind, examples):
    """Compare sessions with the model, in so many runs."""
    machine = type("Machine", (Model,), {"url": url, "kind": kind})
    rounds = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=rounds)


@pytest.mark.parametrize("kind", [AsyncForebay, Forebay], ids=["asyncio", "threads"])
def test_sessions_are_as_the_model_says(url, kind):
    check(url, kind, 40)
