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
from labsim.nodes.mds import layout, points
from labsim.nodes.mds.layout import ANY_OST, Stripe, Wanted
from labsim.nodes.mds.osp import Osp
from labsim.runtime.ports import Steps
from labsim.storage.osd import Tx

SPEEDS = 3
"""How often the allocator goes around, each time content with slower OSTs."""


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
        return sum(osp.unusable() in (0, errno.ENOSPC) for osp in self.osps.values())

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

    def count(self, wish: Wanted) -> int:
        """How many stripes a file gets: not more than OSTs can be reached (lod_get_stripecnt)."""
        return layout.stripes_wanted(wish.count, max(self.activeobd, 1))

    def allocate(self, fid: Fid, wish: Wanted) -> Steps[Allocation]:
        """Set objects aside for a file; waits for OSTs that have none ready (lod_qos_prep_create).

        `release` gives back what is not used.
        """
        stripes: list[Stripe] = []
        try:
            if wish.osts:
                yield from self._named(wish, stripes)
            elif wish.offset != ANY_OST:
                yield from self._from(wish, stripes)
            else:
                yield from self._in_turn(wish, stripes)
        except BaseException:
            self.give_back(stripes)
            raise
        return Allocation(fid, layout.pack(fid, wish, stripes), tuple(stripes))

    def _named(self, wish: Wanted, stripes: list[Stripe]) -> Steps[None]:
        """These OSTs, in this order, or not at all (lod_alloc_ost_list)."""
        for index in wish.osts:
            osp = self.osps[index]
            if reason := osp.unusable():
                raise LustreError(reason, f"{osp.name} cannot be used")
            stripes.append(Stripe(index, (yield from osp.reserve())))

    def _from(self, wish: Wanted, stripes: list[Stripe]) -> Steps[None]:
        """From one OST on, which is waited for, and the next ones (lod_alloc_specific).

        EFBIG where there are not enough, ENOSPC where there is none. One that cannot be used is
        passed over, be it the first.
        """
        count = self.count(wish)
        indices = sorted(self.osps)
        start = next((at for at, index in enumerate(indices) if index >= wish.offset), 0)
        ring = indices[start:] + indices[:start]
        for speed in range(SPEEDS):
            for index in ring:
                idle = not self.osps[index].precreated and speed == 0
                if not (idle and index != ring[0]):
                    yield from self._try(index, stripes)
                if len(stripes) == count:
                    return
        raise LustreError(errno.EFBIG if stripes else errno.ENOSPC, "not enough OSTs")

    def _in_turn(self, wish: Wanted, stripes: list[Stripe]) -> Steps[None]:
        """Round robin: OSTs with objects at hand, then others, then degraded ones (lod_alloc_rr).

        Fewer stripes than wanted will do. Where there is none: EINPROGRESS if an OST is about to
        connect, so that the client asks again; else ENOSPC.
        """
        count, indices = self.count(wish), sorted(self.osps)
        start, connecting = self.next_start, False
        for speed in range(SPEEDS):
            self.next_start, connecting = start, False
            for _ in indices:
                if len(stripes) == count:
                    return
                index = indices[self.next_start % len(indices)]
                self.next_start += 1
                osp = self.osps[index]
                slow = (not osp.precreated and speed == 0) or (osp.degraded and speed < 2)
                if osp.unusable():
                    connecting |= osp.unusable() == errno.ENOTCONN
                elif not slow:
                    yield from self._try(index, stripes)
            if len(stripes) == count:
                return
        if not stripes:
            raise LustreError(
                errno.EINPROGRESS if connecting else errno.ENOSPC, "no OST has objects"
            )

    def _try(self, index: int, stripes: list[Stripe]) -> Steps[None]:
        """An object of this OST, unless the file has one there (lod_qos_declare_object_on)."""
        osp = self.osps[index]
        if osp.unusable() or any(stripe.ost == index for stripe in stripes):
            return
        if index == 0 and (yield from osp.mdt.hit(points.MDS_OSC_PRECREATE)):
            return
        try:
            stripes.append(Stripe(index, (yield from osp.reserve())))
        except LustreError as error:
            osp.mdt.host.trace.emit("lod.no_object", osp.name, error.errno)

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
