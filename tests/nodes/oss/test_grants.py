"""Grant accounts: nothing is promised twice, nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labsim.base.units import MIB
from labsim.nodes.oss.grants import CHUNK, Grants

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["connect", "report", "write", "grant", "shrink", "forget"]),
        st.integers(1, 3),
        st.integers(0, 64 * MIB),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 512 * MIB))
def test_sums_follow_the_accounts(steps: list[tuple[str, int, int]], available: int) -> None:
    grants = Grants()
    cookies: set[int] = set()
    for what, cookie, amount in steps:
        account = grants.account(cookie)
        cookies.add(cookie)
        if what == "connect":
            grants.connect(cookie, amount, available)
        elif what == "report":
            grants.report(account, amount, amount // 7)
        elif what == "write":
            used = grants.consume(account, amount)
            assert used <= amount
            assert grants.tot_pending >= used
            grants.settle(account, used)
        elif what == "grant":
            before = account.granted
            added = grants.grant(account, before, amount, available)
            assert 0 <= added <= CHUNK + 4096
        elif what == "shrink":
            grants.shrink(account, amount)
        else:
            grants.forget(cookie)
            cookies.discard(cookie)
        accounts = [grants.account(one) for one in cookies]
        assert grants.tot_granted == sum(one.granted for one in accounts)
        assert grants.tot_dirty == sum(one.dirty for one in accounts)
        assert grants.tot_pending == 0
        assert all(one.granted >= 0 and 0 <= one.dirty <= one.granted for one in accounts)


def test_a_full_ost_promises_nothing() -> None:
    grants = Grants()
    assert grants.connect(1, 8 * MIB, 0) == 0


def test_who_claims_enough_gets_no_more() -> None:
    grants = Grants()
    grants.connect(1, 8 * MIB, 1 << 40)
    account = grants.account(1)
    assert grants.grant(account, 8 * MIB, 8 * MIB, 1 << 40) == 0
