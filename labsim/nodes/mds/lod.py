"""lod: which OST objects a file gets, and what becomes of them.

Does not know how objects are created or destroyed (osp) nor names (mdd). Stands for lod/lod_qos.c
(round robin), lod_object.c and lod_lov.c.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID, Fid
from labsim.base.params import Param
from labsim.nodes.mds import layout
from labsim.nodes.mds.layout import ANY_OST, Stripe, Wanted
from labsim.nodes.mds.osp import Osp
from labsim.runtime.ports import Steps
from labsim.storage.osd import Tx


class Allocation(NamedTuple):
    """Objects set aside for one file, and the lov EA that names them."""

    fid: Fid
    ea: bytes
    stripes: tuple[Stripe, ...]


class Lod(Component, tree="lod.{name}"):
    """The striping of one MDT: `osps` are its ways to the OSTs, by index."""

    stripesize = Param.count(
        1 << 20, low=65536, high=(1 << 32) - 65536, unit="bytes",
        help="stripe size of files for which nobody asked for another",
    )  # fmt: skip
    stripecount = Param.count(
        1, low=-1, high=2000, unit="stripes", help="stripes of such files; -1 is all OSTs"
    )
    stripeoffset = Param.count(
        -1, low=-1, high=65534, unit="OST index",
        help="OST on which such files begin; -1 lets the MDT choose",
    )  # fmt: skip

    def __init__(self, osd: Any, osps: dict[int, Osp]) -> None:
        self.osd = osd
        self.osps = osps
        self.next_start = 0
        """Where the next round-robin allocation begins, counted through the OSTs by index."""

    @Param.computed(unit="OSTs", help="OSTs that this MDT knows")
    def numobd(self) -> int:
        """How many OSTs there are."""
        return len(self.osps)

    @Param.computed(unit="OSTs", help="OSTs that new objects can be made on")
    def activeobd(self) -> int:
        """How many of them can be used now."""
        return sum(osp.active and osp.connected for osp in self.osps.values())

    # ---- what is wanted

    def default(self) -> Wanted:
        """What holds where nobody said anything."""
        return Wanted(self.stripecount & 0xFFFF or 1, self.stripesize, self.stripeoffset & 0xFFFF)

    def folder_default(self, folder: Fid) -> Wanted | None:
        """A directory's own default layout."""
        try:
            return layout.parse_default(self.osd.xattr(folder, layout.NAME))
        except LustreError as error:
            if error.errno not in (errno.ENODATA, errno.ENOENT):
                raise
            return None

    def wanted(self, parent: Fid | None, asked: bytes | None) -> Wanted:
        """What a new file gets: asked for, else its directory's, else the root's, else ours."""
        wish = layout.parse_user(asked, len(self.osps)) if asked else Wanted()
        if parent is not None:
            inherited = self.folder_default(parent) or self.folder_default(ROOT_FID)
            wish = wish.over(inherited or Wanted())
        return wish.over(self.default())

    def inherit(self, tx: Tx, parent: Fid, folder: Fid) -> None:
        """A new directory gets its parent's default layout; the root's holds without that."""
        if parent != ROOT_FID:
            default = self.folder_default(parent)
            if default is not None:
                tx.set_xattr(folder, layout.NAME, layout.pack_default(default))

    def set_folder_default(self, tx: Tx, folder: Fid, asked: bytes) -> None:
        """Do setstripe on a directory; a wish for nothing takes the default away."""
        wish = layout.parse_user(asked, len(self.osps))
        if not wish.says_nothing:
            tx.set_xattr(folder, layout.NAME, layout.pack_default(wish))
        elif self.folder_default(folder) is not None:
            tx.del_xattr(folder, layout.NAME)

    # ---- allocating

    def choose(self, wish: Wanted) -> list[int]:
        """The OSTs of a new file, in the order of its stripes; ENOSPC where none can be used.

        OSTs that are away or cannot create are passed over while there are others (lod_alloc_rr).
        """
        if wish.osts:
            return list(wish.osts)
        indices = sorted(index for index, osp in self.osps.items() if osp.active)
        count = layout.stripes_wanted(wish.count, len(indices))
        if not indices:
            raise LustreError(errno.ENOSPC, "no OST is active")
        if wish.offset != ANY_OST:
            start = next((at for at, index in enumerate(indices) if index >= wish.offset), 0)
            return (indices[start:] + indices[:start])[:count]
        start = self.next_start % len(indices)
        self.next_start = start + count
        ring = indices[start:] + indices[:start]
        ready = [index for index in ring if self.osps[index].ready]
        able = [index for index in ring if self.osps[index].able and index not in ready]
        return (ready + able)[:count] or ring[:count]

    def allocate(self, fid: Fid, wish: Wanted) -> Steps[Allocation]:
        """Set objects aside for a file; waits for OSTs that have none ready.

        ENOSPC or EIO where not a single one can be had. `release` gives back what is not used.
        """
        stripes: list[Stripe] = []
        failure: LustreError | None = None
        for index in self.choose(wish):
            try:
                oid = yield from self.osps[index].reserve()
            except LustreError as error:
                failure = error
                continue
            stripes.append(Stripe(index, oid))
        if failure is not None and not self._enough(wish, stripes):
            self.give_back(stripes)
            raise failure
        return Allocation(fid, layout.pack(fid, wish, stripes), tuple(stripes))

    def _enough(self, wish: Wanted, stripes: list[Stripe]) -> bool:
        """Three quarters of the stripes will do, unless the OSTs were named (min_stripe_count)."""
        if not stripes or wish.osts:
            return False
        count = layout.stripes_wanted(wish.count, len(self.osps))
        return len(stripes) >= max(1, count - count // 4)

    def give_back(self, stripes: list[Stripe] | tuple[Stripe, ...]) -> None:
        """Objects that were set aside and not used after all."""
        for stripe in stripes:
            self.osps[stripe.ost].give_back(stripe.oid)

    def throw_away(self, stripes: tuple[Stripe, ...]) -> Steps[None]:
        """Objects that were set aside and are no good for another file."""
        tx: Tx = self.osd.transaction()
        for stripe in stripes:
            self.osps[stripe.ost].throw_away(tx, stripe.oid)
        yield from tx.stop()

    def assign(self, tx: Tx, allocation: Allocation) -> None:
        """Make the objects the file's: its lov EA, and on each OST the last id in use."""
        tx.set_xattr(allocation.fid, layout.NAME, allocation.ea)
        for stripe in allocation.stripes:
            self.osps[stripe.ost].use(tx, stripe.oid)

    def adopt(self, tx: Tx, fid: Fid, ea: bytes) -> None:
        """Give a file the layout that a replay brings: its objects were in use before."""
        tx.set_xattr(fid, layout.NAME, ea)
        for stripe in layout.parse(ea)[1]:
            if stripe.ost in self.osps:
                self.osps[stripe.ost].adopt(tx, stripe.oid)

    def size_objects(self, allocation: Allocation, size: int) -> Steps[None]:
        """Give the objects the size that their file was truncated to before it had any.

        Only the one that holds the last byte needs to know (lod_declare_init_size).
        """
        if not size:
            return
        stripe_size, stripes = layout.parse(allocation.ea)
        whole, rest = divmod(size - 1, stripe_size)
        row, place = divmod(whole, len(stripes))
        last = stripes[place]
        yield from self.osps[last.ost].punch(last.oid, row * stripe_size + rest + 1)

    # ---- giving up

    def stripes(self, fid: Fid) -> list[Stripe]:
        """The objects of a file; none for what has no layout."""
        try:
            value = self.osd.xattr(fid, layout.NAME)
        except LustreError as error:
            if error.errno != errno.ENODATA:
                raise
            return []
        return layout.parse(value)[1]

    def destroy(self, tx: Tx, fid: Fid) -> None:
        """A file goes: its objects are to be destroyed once that is durable."""
        if self.osd.attrs(fid).mode & 0o170000 != 0o100000:
            return
        for stripe in self.stripes(fid):
            self.osps[stripe.ost].destroy(tx, stripe.oid)
