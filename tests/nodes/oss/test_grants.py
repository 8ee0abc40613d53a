"""Grant accounts: nothing is promised twice, nothing is lost, what was promised has room."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labsim.base.errors import LustreError
from labsim.base.units import KIB, MIB
from labsim.nodes.oss.grants import Account, Grants, Range, Terms, Told

BRW = 4 * MIB
TAX = 24 * KIB
BIG = 1 << 40

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["connect", "read", "write", "commit", "shrink", "create", "forget"]),
        st.integers(1, 3),
        st.integers(0, 64 * MIB),
        st.booleans(),
    ),
    max_size=40,
)


def connected(grants: Grants, cookie: int = 1, wanted: int = 32 * MIB, room: int = BIG) -> Account:
    grants.connect(cookie, wanted, room, new=True, brw=BRW, terms=True)
    return grants.account(cookie)


def check_sums(grants: Grants) -> None:
    told = grants.snapshot()
    rows = [told["own"], told["gone"], *told["exports"].values()]  # type: ignore[attr-defined]
    granted, dirty, pending = (sum(column) for column in zip(*rows, strict=True))
    assert told["tot"] == [granted + pending, dirty, pending]
    assert all(number >= 0 for row in rows for number in row)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.integers(0, 512 * MIB))
def test_sums_follow_the_accounts(steps: list[tuple[str, int, int, bool]], room: int) -> None:
    """Whatever clients say; and never is more promised than there is, but for what they claim."""
    grants = Grants()
    pending: list[tuple[Account, int]] = []
    for what, cookie, amount, flag in steps:
        account = grants.account(cookie)
        told = Told(True, amount, amount, 32 * MIB, amount // 7, amount if flag else 0, flag)
        if what == "connect":
            grants.connect(cookie, amount, room, new=flag, brw=BRW, terms=flag)
        elif what == "read":
            assert grants.read(account, told, room) in (0, amount)
        elif what == "write":
            ranges = [Range(amount, 4096, flag), Range(0, amount + 1, True)]
            verdict = grants.write(account, told, ranges, room)
            assert len(verdict.room) == 2
            pending.append((account, verdict.pending))
        elif what == "commit" and pending:
            grants.commit(*pending.pop(0))
        elif what == "shrink":
            grants.shrink(account, amount, room)
        elif what == "create":
            try:
                count, nbytes = grants.create(amount, room, 1000)
            except LustreError:
                continue
            assert 0 < count <= amount
            pending.append((grants.own, nbytes))
        elif what == "forget":
            grants.forget(cookie)
        check_sums(grants)
        assert grants.tot_granted < room + 4096
    for account, nbytes in pending:
        grants.commit(account, nbytes)
    check_sums(grants)
    assert grants.tot_pending == 0


def test_a_full_ost_promises_nothing() -> None:
    assert connected(Grants(), room=0).granted == 0


def test_the_first_promise_is_a_chunk() -> None:
    """Two full BRWs and the tax of their extents (tgt_grant_chunk)."""
    assert connected(Grants()).granted == 2 * (BRW + TAX)


def test_without_the_terms_there_is_no_tax() -> None:
    grants = Grants()
    assert grants.connect(1, 32 * MIB, BIG, new=True, brw=BRW, terms=False) == 2 * BRW


def test_larger_blocks_are_inflated_for_who_does_not_know_them() -> None:
    grants = Grants(Terms(block_bits=16))
    told = grants.connect(1, 32 * MIB, BIG, new=True, brw=BRW, terms=False)
    account = grants.account(1)
    assert told == 2 * BRW
    assert account.granted == told << 4
    verdict = grants.write(account, Told(True, dirty=4096), [Range(0, 4096, True)], BIG)
    assert verdict.pending == 4096 << 4


def test_compat_disable_leaves_them_nothing() -> None:
    grants = Grants()
    grants.compat_disable = True
    assert grants.connect(1, 32 * MIB, BIG, new=True, brw=BRW, terms=False) == 0


def test_one_step_is_an_eighth_of_what_is_left() -> None:
    assert connected(Grants(), room=8 * MIB).granted == MIB


def test_who_comes_back_gets_what_he_says_he_holds() -> None:
    """A restarted server believes its clients: they hold dirty pages for it."""
    grants = Grants()
    held = 30 * MIB + 4096
    assert grants.connect(1, held, BIG, new=True, brw=BRW, terms=True, recovering=True) == held
    assert grants.connect(2, held, 8 * MIB + held, new=False, brw=BRW, terms=True) == 8 * MIB


def test_a_reconnect_starts_dirty_anew() -> None:
    grants = Grants()
    account = connected(grants)
    grants.read(account, Told(True, dirty=MIB), BIG)
    assert grants.tot_dirty == MIB
    grants.connect(1, 0, BIG, new=False, brw=BRW, terms=True)
    assert grants.tot_dirty == account.dirty == 0


def test_a_paid_write_is_pending_until_it_is_on_disk() -> None:
    grants = Grants()
    account = connected(grants)
    before = account.granted
    told = Told(True, held=before - MIB - TAX, dirty=MIB + TAX, wanted=before)
    verdict = grants.write(account, told, [Range(0, MIB, True)], BIG)
    assert verdict == ([True], MIB + TAX, MIB + TAX)
    assert account.sums() == [before, 0, MIB + TAX]
    assert grants.tot_granted == before + MIB + TAX
    grants.commit(account, verdict.pending)
    assert grants.tot_granted == account.granted == before
    check_sums(grants)


def test_grant_used_is_taken_as_said() -> None:
    grants = Grants()
    account = connected(grants)
    told = Told(True, used=MIB + 3 * TAX, dirty=MIB)
    assert grants.write(account, told, [Range(0, MIB, True)], BIG).pending == MIB + 3 * TAX


def test_who_uses_more_than_he_has_takes_the_rest_from_what_is_free() -> None:
    grants = Grants()
    account = connected(grants)
    had = account.granted
    told = Told(True, used=had + MIB)
    assert grants.write(account, told, [Range(0, MIB, True)], BIG).room == [True]
    assert account.granted == 0
    assert grants.tot_granted == account.pending == had + MIB


def test_an_unpaid_range_needs_free_space() -> None:
    """Each range by itself: ENOSPC for one, not for the other; grant of others is not touched."""
    grants = Grants()
    connected(grants, 1)
    account = connected(grants, 2, wanted=0)
    room = grants.tot_granted + MIB
    ranges = [Range(0, 4096, False), Range(4 * MIB, 2 * MIB, False), Range(8 * MIB, 4096, False)]
    verdict = grants.write(account, Told(True), ranges, room)
    assert verdict.room == [True, False, True]
    assert verdict.pending == 2 * (4096 + TAX)


def test_a_repetition_takes_no_grant_twice() -> None:
    grants = Grants()
    account = connected(grants)
    before = account.granted
    grants.write(account, Told(True, again=True), [Range(0, MIB, True)], BIG)
    assert account.granted == before
    assert account.pending == 0


def test_what_is_sent_again_says_nothing_and_gets_nothing() -> None:
    grants = Grants()
    account = connected(grants)
    before = account.granted
    told = Told(False, held=0, dirty=MIB, wanted=BIG, dropped=MIB, shrink=True)
    verdict = grants.write(account, told, [Range(0, MIB, True)], BIG)
    assert verdict.grant == 0
    assert account.sums() == [before - MIB - TAX, 0, MIB + TAX]


def test_during_recovery_nothing_is_counted() -> None:
    grants = Grants()
    account = connected(grants)
    before = account.granted
    verdict = grants.write(account, Told(False), [Range(0, MIB, True)], 0, recovering=True)
    assert verdict == ([True], 0, 0)
    assert account.granted == before


def test_who_claims_enough_gets_no_more() -> None:
    grants = Grants()
    account = connected(grants)
    told = Told(True, held=8 * MIB, wanted=8 * MIB)
    assert grants.write(account, told, [], BIG).grant == 0
    far = Told(True, held=account.granted + grants.chunk(account), wanted=BIG)
    assert grants.write(account, far, [], BIG).grant == 0


def test_never_a_chunk_more_than_is_wanted() -> None:
    grants = Grants()
    account = connected(grants)
    for _ in range(8):
        grants.write(account, Told(True, held=0, wanted=MIB), [], BIG)
    assert account.granted == MIB + grants.chunk(account)


def test_dropped_grant_is_free_again_unless_it_was_never_given() -> None:
    grants = Grants()
    account = connected(grants)
    before = account.granted
    grants.read(account, Told(True, dropped=MIB), BIG)
    assert account.granted == before - MIB
    grants.read(account, Told(True, dropped=before), BIG)
    assert account.granted == before - MIB


def test_shrink_only_where_space_is_scarce() -> None:
    """Turned down, a client finds in the reply what it would have given."""
    grants = Grants()
    account = connected(grants)
    before = account.granted
    plenty = grants.tot_granted + 16 * BRW
    assert grants.shrink(account, MIB, plenty) == MIB
    assert account.granted == before
    assert grants.shrink(account, MIB, plenty - 4096) == 0
    assert account.granted == before - MIB
    told = Told(True, held=BIG, shrink=True)
    assert grants.read(account, told, grants.tot_granted) == 0
    assert account.granted == 0


def test_objects_are_made_from_the_ost_s_own_grant() -> None:
    grants = Grants()
    count, nbytes = grants.create(32, BIG, 1 << 20)
    assert (count, nbytes) == (32, 32 * 28)
    assert grants.own.granted == -(-280000 // 4096) * 4096
    grants.commit(grants.own, nbytes)
    before = grants.own.granted
    _, nbytes = grants.create(64, 0 + BIG, 1 << 20)
    grants.commit(grants.own, nbytes)
    assert grants.own.granted == before - 64 * 28
    check_sums(grants)


def test_no_objects_where_less_than_a_thousandth_is_free() -> None:
    with pytest.raises(LustreError, match="too few blocks"):
        Grants().create(32, 4096 * 1000, 1 << 20)
    count, _ = Grants().create(200, 4096, 1)
    assert count == 4096 // 28


def test_a_client_that_goes_leaves_what_is_pending() -> None:
    grants = Grants()
    account = connected(grants)
    verdict = grants.write(account, Told(True), [Range(0, MIB, True)], BIG)
    grants.forget(1)
    check_sums(grants)
    assert grants.tot_granted == grants.tot_pending == verdict.pending
    grants.commit(account, verdict.pending)
    assert grants.tot_granted == 0
    assert grants.clients == 0


def test_a_write_of_who_was_thrown_out_leaves_no_grant_behind() -> None:
    """It was under way when its client was evicted: its space counts until it is on disk."""
    grants = Grants()
    before = connected(grants)
    grants.forget(1)
    account = grants.account(1)
    told = Told(True, held=0, dirty=MIB, wanted=32 * MIB, dropped=MIB)
    verdict = grants.write(account, told, [Range(0, MIB, True)], BIG)
    assert verdict == ([True], MIB + TAX, 0)
    check_sums(grants)
    assert grants.read(account, told, BIG) == 0
    grants.commit(account, verdict.pending)
    assert grants.tot_granted == grants.tot_dirty == grants.tot_pending == 0
    assert before.sums() == [0, 0, 0]
    assert grants.account(1) is not account
    connected(grants)
    check_sums(grants)
