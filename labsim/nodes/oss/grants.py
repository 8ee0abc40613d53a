"""Grants: the space that an OST has promised its clients for data they have yet to send.

Rules and sums, no I/O. Stands for target/tgt_grant.c: tgt_grant_incoming, tgt_grant_check,
tgt_grant_alloc and the counters tot_granted, tot_dirty and tot_pending. All numbers are bytes.
"""

from __future__ import annotations

from labsim.base.units import MIB

CHUNK = 2 * 4 * MIB
"""The most that one reply adds: twice the largest BRW (TGT_GRANT_CHUNK)."""

BLOCK = 4096


class Account:
    """One client: promised (ted_grant), dirty (ted_dirty), being written (ted_pending)."""

    __slots__ = ("dirty", "granted", "pending")

    def __init__(self) -> None:
        self.granted = 0
        self.dirty = 0
        self.pending = 0


class Grants:
    """The accounts of one OST's clients, by export cookie, and their sums."""

    def __init__(self) -> None:
        self._accounts: dict[int, Account] = {}
        self.tot_granted = 0
        self.tot_dirty = 0
        self.tot_pending = 0

    def account(self, cookie: int) -> Account:
        """A client's account; made when it first connects."""
        return self._accounts.setdefault(cookie, Account())

    def left(self, available: int) -> int:
        """Bytes free after everything promised and under way."""
        return max(available - self.tot_granted - self.tot_pending, 0)

    def connect(self, cookie: int, wanted: int, available: int) -> int:
        """The first promise to a client, or a repeated one; returns what it now holds in all."""
        account = self.account(cookie)
        self.grant(account, account.granted, wanted, available)
        return account.granted

    def report(self, account: Account, dirty: int, dropped: int) -> None:
        """Take in what a BRW says of its client: dirty bytes, and grant that it lost."""
        dropped = min(dropped, account.granted)
        account.granted -= dropped
        self.tot_granted -= dropped
        self._set_dirty(account, dirty)

    def _set_dirty(self, account: Account, dirty: int) -> None:
        """A client can hold no more dirty data than grant, whatever it says."""
        dirty = max(min(dirty, account.granted), 0)
        self.tot_dirty += dirty - account.dirty
        account.dirty = dirty

    def consume(self, account: Account, nbytes: int) -> int:
        """Use promised space for a write that says FROM_GRANT; returns how much there was."""
        used = min(nbytes, account.granted)
        account.granted -= used
        self.tot_granted -= used
        self._set_dirty(account, account.dirty - used)
        self.pend(account, used)
        return used

    def pend(self, account: Account, nbytes: int) -> None:
        """Count bytes of a write that is being done."""
        account.pending += nbytes
        self.tot_pending += nbytes

    def settle(self, account: Account, nbytes: int) -> None:
        """The write is in the store; its space counts there from now on."""
        account.pending -= nbytes
        self.tot_pending -= nbytes

    def grant(self, account: Account, current: int, wanted: int, available: int) -> int:
        """Promise more, if the client wants it and there is room; returns what was added.

        At most an eighth of what is left and one chunk at a time; nothing to who claims more
        than it wants, or a chunk more than this OST knows of.
        """
        if current >= wanted or current >= account.granted + CHUNK:
            return 0
        left = self.left(available)
        add = min(wanted - current, left >> 3, CHUNK)
        add = -(-add // BLOCK) * BLOCK if left > BLOCK else 0
        if account.granted + add > wanted + CHUNK:
            return 0
        account.granted += add
        self.tot_granted += add
        return add

    def shrink(self, account: Account, given: int) -> None:
        """A client gives grant back."""
        given = min(given, account.granted)
        account.granted -= given
        self.tot_granted -= given
        self._set_dirty(account, account.dirty)

    def forget(self, cookie: int) -> None:
        """A client is gone, and with it what it was promised."""
        account = self._accounts.pop(cookie, None)
        if account is not None:
            self.tot_granted -= account.granted
            self.tot_dirty -= account.dirty
            self.tot_pending -= account.pending
