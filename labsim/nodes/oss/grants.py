"""Grants: the space that an OST has promised its clients for data they have yet to send.

Rules and sums, no I/O; all numbers are bytes. Stands for target/tgt_grant.c of 2.12: what each
client was promised (ted_grant), says it has dirty (ted_dirty) and has written but not yet on disk
(ted_pending), and the sums: tgd_tot_granted (with what is pending), tgd_tot_dirty, tgd_tot_pending.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from labsim.base.errors import LustreError

ENOSPC = 28

OBD_MAX_GRANT = 0x7FFFFFFF
COMPAT_BITS = 12
"""COMPAT_BSIZE_SHIFT: the block size that clients without GRANT_PARAM count in."""
MAX_PRECREATE = 20000
"""OST_MAX_PRECREATE."""
SHRINK_RPCS = 2 * 8
"""TGT_GRANT_SHRINK_LIMIT: full BRWs of grant that a client is taken to use."""


class Terms(NamedTuple):
    """What the store says of its space (dt_device_param, of osd-ldiskfs).

    Blocks of `1 << block_bits` bytes; an extent has up to `extent_blocks` of them and costs
    `extent_tax` bytes to insert; an object takes `inode_space` bytes, its directory entry.
    """

    block_bits: int = 12
    extent_blocks: int = 1 << 14
    extent_tax: int = 6 * 4096
    inode_space: int = 28

    @property
    def block(self) -> int:
        """Bytes of a block."""
        return 1 << self.block_bits

    @property
    def inode_bits(self) -> int:
        """ocd_grant_inobits: the next power of two of `inode_space`."""
        return (self.inode_space - 1).bit_length()

    def taxed(self, nbytes: int) -> int:
        """`nbytes` and the extents that they take."""
        most = self.block * self.extent_blocks
        return nbytes + -(-nbytes // most) * self.extent_tax


class Told(NamedTuple):
    """What the obdo of a BRW says of its client's grant."""

    known: bool = False
    """The rest holds: FLBLOCKS and FLGRANT are valid, and it is neither resent nor a replay."""
    held: int = 0
    dirty: int = 0
    wanted: int = 0
    dropped: int = 0
    used: int = 0
    """o_grant_used, of a client that knows the terms."""
    shrink: bool = False
    again: bool = False
    """OBD_FL_RECOV_RESEND over the same connection: its grant was taken the first time."""


class Range(NamedTuple):
    """One niobuf: where, how long, and whether its client paid for it with grant."""

    offset: int
    length: int
    paid: bool


class Verdict(NamedTuple):
    """What became of a write: which ranges have room, what to settle, what to tell the client."""

    room: list[bool]
    pending: int
    grant: int


class Account:
    """One client; `terms`: it knows the terms (GRANT_PARAM); `brw`: its largest BRW."""

    __slots__ = ("brw", "counted", "dirty", "gone", "granted", "pending", "terms")

    def __init__(self, brw: int = 0, terms: bool = True) -> None:
        self.granted = 0
        self.dirty = 0
        self.pending = 0
        self.brw = brw
        self.terms = terms
        self.counted = False
        """It is one of tgd_tot_granted_clients."""
        self.gone = False
        """It is nobody's (exp_failed): what it writes is counted, it gets nothing any more."""

    def sums(self) -> list[int]:
        """Granted, dirty, pending."""
        return [self.granted, self.dirty, self.pending]


class Grants:
    """The accounts of one OST's clients, by export cookie, and their sums."""

    def __init__(self, terms: Terms | None = None) -> None:
        self.terms = terms or Terms()
        self.own = Account()
        """The OST's own: room for objects to be made (grant of obd_self_export)."""
        self._accounts: dict[int, Account] = {}
        self._gone: list[Account] = []
        """Clients that are gone, and had written what is not on disk yet."""
        self.tot_granted = 0
        self.tot_dirty = 0
        self.tot_pending = 0
        self.clients = 0
        self.compat_disable = False
        """Nothing for clients that do not know the terms (tgd_grant_compat_disable)."""

    def account(self, cookie: int) -> Account:
        """A client's account; one that is gone where it has none, or no more."""
        account = self._accounts.get(cookie)
        if account is None:
            account = Account()
            account.gone = True
        return account

    def accounts(self) -> Iterator[tuple[int, Account]]:
        """(cookie, account) of all clients."""
        return iter(self._accounts.items())

    # ---- counting as the client does

    def inflate(self, account: Account, nbytes: int) -> int:
        """What a client without the terms counts, as space on this store."""
        grow = max(self.terms.block_bits - COMPAT_BITS, 0)
        return nbytes if account.terms else nbytes << grow

    def deflate(self, account: Account, nbytes: int) -> int:
        """The other way round."""
        grow = max(self.terms.block_bits - COMPAT_BITS, 0)
        return nbytes if account.terms else nbytes >> grow

    def chunk(self, account: Account) -> int:
        """The most that one reply adds: room for two full BRWs."""
        if account is self.own:
            return MAX_PRECREATE * self.terms.inode_space // 2
        if account.terms:
            return 2 * self.terms.taxed(account.brw)
        return 2 * self.inflate(account, account.brw)

    def size(self, one: Range, account: Account | None = None) -> int:
        """The space that a range takes: whole blocks and the tax; of `account`, as it counts."""
        plain = account is not None and not account.terms
        block = 1 << COMPAT_BITS if plain else self.terms.block
        nbytes = -(-(one.offset % block + one.length) // block) * block
        if plain:
            assert account is not None
            return self.inflate(account, nbytes)
        return self.terms.taxed(nbytes)

    def left(self, available: int) -> int:
        """Of `available` bytes, those that nobody was promised."""
        return max(available - self.tot_granted, 0) & -self.terms.block

    # ---- clients come and go

    def connect(
        self, cookie: int, wanted: int, available: int, *, new: bool, brw: int, terms: bool,
        recovering: bool = False,
    ) -> int:  # fmt: skip
        """A client comes or comes back; returns what it now holds in all, as it counts.

        Who comes back gets all that it says it holds where there is room, and so does everybody
        during recovery; who is new gets a chunk.
        """
        account = self._accounts.setdefault(cookie, Account())
        account.brw, account.terms = brw, terms
        if not account.counted:
            account.counted = True
            self.clients += 1
        self._alloc(
            account, account.granted, self.inflate(account, wanted), self.left(available),
            cautious=new and not recovering,
        )  # fmt: skip
        self._set_dirty(account, 0)
        return self.deflate(account, account.granted)

    def forget(self, cookie: int) -> None:
        """A client is gone, and with it what it was promised; what it wrote is on its way."""
        account = self._accounts.pop(cookie, None)
        if account is not None:
            self.tot_granted -= account.granted
            account.granted = 0
            self._set_dirty(account, 0)
            self.clients -= account.counted
            account.gone = True
            if account.pending:
                self._gone.append(account)

    # ---- what BRWs say and ask for

    def read(self, account: Account, told: Told, available: int) -> int:
        """A read: take in what it says; returns its reply's o_grant: what a shrink did not take."""
        if not told.known:
            return 0
        told = self._incoming(account, told)
        shrink = told.known and told.shrink
        return self.deflate(account, self._shrink(account, told, available) if shrink else 0)

    def shrink(self, account: Account, held: int, available: int) -> int:
        """A client gives `held` bytes back (grant_shrink); what it must keep."""
        told = Told(known=True, held=self.inflate(account, held))
        return self.deflate(account, self._shrink(account, told, available))

    def write(
        self, account: Account, told: Told, ranges: Sequence[Range], available: int,
        recovering: bool = False,
    ) -> Verdict:  # fmt: skip
        """A write: who has room, how much is pending now, and the grant to add."""
        left = self.left(available)
        told = self._incoming(account, told)
        room, granted, extra = self._check(account, told, ranges, left, recovering)
        account.granted -= granted
        self.tot_granted += extra
        self._pend(account, granted + extra)
        if told.known and not recovering:
            self._set_dirty(account, account.dirty - min(granted, account.dirty))
        left -= extra
        grant = 0
        if told.known and told.shrink:
            grant = self._shrink(account, told, available)
        elif told.known:
            grant = self._alloc(account, told.held, told.wanted, left, cautious=not recovering)
        return Verdict(room, granted + extra, self.deflate(account, grant))

    def commit(self, account: Account, nbytes: int) -> None:
        """What was pending is on disk, or will never be: the store itself counts it now."""
        account.pending -= nbytes
        self.tot_pending -= nbytes
        self.tot_granted -= nbytes
        if not account.pending and account in self._gone:
            self._gone.remove(account)

    def withdraw(self, account: Account, verdict: Verdict) -> None:
        """The reply that was to tell of more grant will not."""
        grant = min(self.inflate(account, verdict.grant), account.granted)
        account.granted -= grant
        self.tot_granted -= grant

    def create(self, count: int, available: int, blocks: int) -> tuple[int, int]:
        """Room for `count` new objects on a store of `blocks`: how many, and what to `commit`.

        ENOSPC where there is none for any, or less than a thousandth of all blocks is free.
        """
        own, each = self.own, self.terms.inode_space
        if (available - own.granted) // self.terms.block < blocks >> 10:
            raise LustreError(ENOSPC, "too few blocks for objects")
        left = self.left(available)
        count = min(count, (own.granted + left) // each)
        if count <= 0:
            raise LustreError(ENOSPC, "no room for objects")
        wanted = count * each
        taken = min(wanted, own.granted)
        own.granted -= taken
        self.tot_granted += wanted - taken
        left -= wanted - taken
        self._pend(own, wanted)
        if own.granted < self.chunk(own):
            self._alloc(own, own.granted, self.chunk(own) - own.granted, left, cautious=False)
        return count, wanted

    # ---- the rules

    def _incoming(self, account: Account, told: Told) -> Told:
        """Take in dirty and dropped bytes; returns `told` in this store's bytes."""
        if not told.known or account.gone:
            return told._replace(known=False)
        told = told._replace(
            held=self.inflate(account, told.held),
            dirty=self.inflate(account, told.dirty),
            wanted=min(self.inflate(account, told.wanted), OBD_MAX_GRANT),
            dropped=min(self.inflate(account, told.dropped), OBD_MAX_GRANT),
        )
        self._set_dirty(account, min(told.dirty, account.granted + 4 * self.chunk(account)))
        if told.dropped <= account.granted:
            account.granted -= told.dropped
            self.tot_granted -= told.dropped
        return told

    def _check(
        self, account: Account, told: Told, ranges: Sequence[Range], left: int, recovering: bool
    ) -> tuple[list[bool], int, int]:
        """Which ranges have room, how much of that is the client's grant, how much is not."""
        granted = extra = 0
        covered = recovering or told.again
        if not covered and account.terms and told.used > 0:
            missing = max(told.used - account.granted, 0)
            if not missing or left > missing:
                granted, extra, covered = told.used - missing, missing, True
                left -= missing
        room = []
        for one in ranges:
            if one.paid:
                if covered:
                    room.append(True)
                    continue
                nbytes = self.size(one, account)
                if account.granted >= granted + nbytes:
                    granted += nbytes
                    room.append(True)
                    continue
            nbytes = self.size(one)
            fits = left > nbytes
            room.append(fits)
            if fits:
                extra += nbytes
                left -= nbytes
        return room, granted, extra

    def _alloc(self, account: Account, held: int, wanted: int, left: int, *, cautious: bool) -> int:
        """Promise more, if the client wants it and there is room; returns what was added.

        Cautiously: at most an eighth of what is left and a chunk. Nothing to who claims what it
        wants already, or a chunk more than this OST knows of; never a chunk more than is wanted.
        """
        chunk = self.chunk(account)
        old = account is not self.own and not account.terms and self.compat_disable
        if old or left == 0 or wanted > OBD_MAX_GRANT or account.gone:
            return 0
        if held >= wanted or held >= account.granted + chunk:
            return 0
        block = self.terms.block
        grant = min(wanted - held, left >> 3 if cautious else left)
        grant = -(-grant // block) * block
        if cautious:
            grant = min(grant, chunk)
        grant = min(grant, wanted + chunk - account.granted)
        if grant <= 0:
            return 0
        account.granted += grant
        self.tot_granted += grant
        return grant

    def _shrink(self, account: Account, told: Told, available: int) -> int:
        """Take back what a client gives, where space is scarce; what stays its own (o_grant)."""
        if self.left(available) >= self.clients * SHRINK_RPCS * account.brw:
            return told.held
        given = min(told.held, account.granted)
        account.granted -= given
        self.tot_granted -= given
        return 0

    def _pend(self, account: Account, nbytes: int) -> None:
        account.pending += nbytes
        self.tot_pending += nbytes
        if account.gone and nbytes and account not in self._gone:
            self._gone.append(account)

    def _set_dirty(self, account: Account, dirty: int) -> None:
        self.tot_dirty += dirty - account.dirty
        account.dirty = dirty

    def snapshot(self) -> dict[str, object]:
        """Plain data for the invariants: [granted, dirty, pending] in all, and of each account."""
        return {
            "tot": [self.tot_granted, self.tot_dirty, self.tot_pending],
            "own": self.own.sums(),
            "gone": [0, 0, sum(one.pending for one in self._gone)],
            "exports": {cookie: one.sums() for cookie, one in self._accounts.items()},
        }
