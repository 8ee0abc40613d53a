"""mdd: the namespace on top of the OSD: names, links, and who may change them.

Does not know requests, locks or other nodes: every method reads the OSD, and says what is to change
in the transaction that it is given. Stands for mdd/mdd_dir.c and mdd_object.c.

Nothing waits between the checks and the transaction's join but the join itself; what depends on
other changes to the same directory (its link count, its times) is computed when the join happens.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID, Fid
from labsim.nodes.mds import acl as acls
from labsim.nodes.mds import cred as creds
from labsim.nodes.mds import directory, linkea, objects
from labsim.nodes.mds.cred import APPEND_FL, IMMUTABLE_FL, MAY_EXEC, MAY_WRITE, Cred
from labsim.nodes.mds.directory import Entry
from labsim.nodes.mds.linkea import Link
from labsim.nodes.mds.mdd_attr import MddAttributes
from labsim.storage.osd import Attrs, Tx

DIR_SIZE, DIR_BLOCKS = 4096, 8
"""What an empty directory takes on ldiskfs: one block of 4 KiB, eight sectors."""


class New(NamedTuple):
    """An object to be made: its FID, its mode with type and umask, and what its type needs."""

    fid: Fid
    mode: int
    time: int
    umask: int = 0
    rdev: int = 0
    target: bytes = b""


class Victim(NamedTuple):
    """What losing a name did to an object: its attributes from now on, and whether it is gone."""

    fid: Fid
    attrs: Attrs
    last: bool


class Mdd(MddAttributes, Component, tree="mdd.{name}"):
    """The namespace of one MDT."""

    # ---- reading

    def name_hash(self, name: bytes) -> int:
        """Where a name stands in its directory."""
        return directory.name_hash(name)

    def _key(self, name: bytes) -> bytes:
        return directory.key(self.name_hash(name), name)

    def find(self, parent: Fid, name: bytes) -> tuple[Fid, int] | None:
        """(FID, type) of a name, without any check of permissions; None where there is none."""
        value = self.osd.lookup(parent, self._key(name))
        return None if value is None else directory.target(value)

    def lookup(self, parent: Fid, name: bytes, cred: Cred) -> Fid:
        """The FID of a name; ENOTDIR, EACCES, ENAMETOOLONG, ENOENT."""
        self.search(parent, cred)
        if len(name) > objects.NAME_MAX:
            raise LustreError(errno.ENAMETOOLONG, "name too long")
        found = self.find(parent, name)
        if found is None:
            raise LustreError(errno.ENOENT, "no such name")
        return found[0]

    def search(self, parent: Fid, cred: Cred) -> None:
        """ENOTDIR or EACCES unless `cred` may look for names in `parent`."""
        attrs = self.osd.attrs(parent)
        if not stat.S_ISDIR(attrs.mode):
            raise LustreError(errno.ENOTDIR, f"{parent} is no directory")
        creds.require(attrs, self.acl(parent), cred, MAY_EXEC)

    def entries(self, fid: Fid, start: int) -> Iterator[Entry]:
        """The names of a directory from a hash on, in their order."""
        for index_key, value in self.osd.iterate(fid, directory.start_key(start)):
            yield directory.entry(index_key, value)

    def empty(self, fid: Fid) -> bool:
        """Has a directory no names but its own?"""
        return all(entry.name in (b".", b"..") for entry in self.entries(fid, 0))

    def parent(self, fid: Fid) -> Fid:
        """What ".." of a directory is."""
        found = self.find(fid, b"..")
        return found[0] if found else fid

    def is_below(self, fid: Fid, top: Fid) -> bool:
        """Is the directory `fid` somewhere under `top`, or `top` itself?"""
        while fid != top:
            if fid == ROOT_FID:
                return False
            above = self.parent(fid)
            if above == fid:
                return False
            fid = above
        return True

    # ---- making

    def make_root(self, tx: Tx, time: int) -> None:
        """The root directory of a new file system."""
        self._make(tx, New(ROOT_FID, stat.S_IFDIR | 0o755, time), 0, 0)
        self._fill(tx, ROOT_FID, ROOT_FID)

    def may_create(self, parent: Fid, name: bytes, cred: Cred) -> None:
        """Refuse where `name` cannot be made in `parent`: EEXIST, EACCES, ENOENT, ENOTDIR."""
        objects.check_name(name)
        if self.find(parent, name) is not None:
            raise LustreError(errno.EEXIST, "the name is taken")
        self._may_change(parent, cred)

    def _may_change(self, parent: Fid, cred: Cred) -> Attrs:
        attrs: Attrs = self.osd.attrs(parent)
        if not stat.S_ISDIR(attrs.mode):
            raise LustreError(errno.ENOTDIR, f"{parent} is no directory")
        if attrs.nlink == 0:
            raise LustreError(errno.ENOENT, f"{parent} has been removed")
        creds.require(attrs, self.acl(parent), cred, MAY_WRITE | MAY_EXEC)
        return attrs

    def create(self, tx: Tx, parent: Fid, name: bytes, new: New, cred: Cred) -> None:
        """Make an object and give it its first name."""
        self.may_create(parent, name, cred)
        if not objects.is_client_fid(new.fid):
            raise LustreError(errno.EPERM, f"{new.fid} is not for clients")
        above = self.osd.attrs(parent)
        gid = cred.gid
        if above.mode & stat.S_ISGID:
            gid = above.gid
            if stat.S_ISDIR(new.mode):
                new = new._replace(mode=new.mode | stat.S_ISGID)
        new, access = self._initial_acl(parent, new)
        self._make(tx, new, cred.uid, gid)
        tx.set_xattr(new.fid, linkea.NAME, linkea.pack([Link(parent, name)]))
        if access is not None:
            tx.set_xattr(new.fid, acls.ACL_ACCESS, access)
        if stat.S_ISDIR(new.mode):
            self._fill(tx, new.fid, parent)
            inherited = self.get(parent, acls.ACL_DEFAULT)
            if inherited:
                tx.set_xattr(new.fid, acls.ACL_DEFAULT, inherited)
        self._enter(tx, parent, name, new.fid, new.mode, new.time)

    def _initial_acl(self, parent: Fid, new: New) -> tuple[New, bytes | None]:
        """The mode and the access ACL that a new object begins with."""
        if stat.S_ISLNK(new.mode):
            return new, None
        default = self.get(parent, acls.ACL_DEFAULT)
        entries = acls.parse(default) if default else ()
        if not entries:
            return new._replace(mode=new.mode & ~(new.umask & 0o777)), None
        access, mode, plain = acls.inherit(entries, new.mode)
        return new._replace(mode=mode), None if plain else acls.pack(access)

    def _make(self, tx: Tx, new: New, uid: int, gid: int) -> None:
        folder = stat.S_ISDIR(new.mode)
        attrs = Attrs(
            mode=new.mode, uid=uid, gid=gid, nlink=2 if folder else 1,
            size=DIR_SIZE if folder else 0, blocks=DIR_BLOCKS if folder else 0,
            atime=new.time, mtime=new.time, ctime=new.time, rdev=new.rdev,
        )  # fmt: skip
        tx.create(new.fid, attrs)
        tx.set_xattr(new.fid, objects.LMA, objects.lma(new.fid))
        if new.target:
            tx.write(new.fid, 0, new.target)

    def _fill(self, tx: Tx, fid: Fid, parent: Fid) -> None:
        for name, target in ((b".", fid), (b"..", parent)):
            tx.insert(fid, self._key(name), directory.value(target, stat.S_IFDIR))

    def _enter(
        self, tx: Tx, parent: Fid, name: bytes, fid: Fid, mode: int, time: int, links: int = 1
    ) -> None:
        """Put a name into a directory; a subdirectory adds `links` to the directory's own."""
        tx.insert(parent, self._key(name), directory.value(fid, mode))
        self._touch(tx, parent, time, links if stat.S_ISDIR(mode) else 0)

    def _leave(
        self, tx: Tx, parent: Fid, name: bytes, mode: int, time: int, links: int = 1
    ) -> None:
        """Take a name out of a directory."""
        tx.delete(parent, self._key(name))
        self._touch(tx, parent, time, -links if stat.S_ISDIR(mode) else 0)

    def _touch(self, tx: Tx, fid: Fid, time: int, links: int = 0) -> None:
        """A directory's times and link count, computed when the transaction joins."""

        def change() -> None:
            attrs = self.osd.attrs(fid)
            moved = {name: time for name in ("mtime", "ctime") if getattr(attrs, name) < time}
            nlink = _folder_links(attrs.nlink, links)
            if nlink != attrs.nlink:
                moved["nlink"] = nlink
            if moved:
                tx.set_attrs(fid, **moved)

        tx.before_join(change)

    # ---- links

    def link(self, tx: Tx, parent: Fid, name: bytes, fid: Fid, cred: Cred, time: int) -> None:
        """Give a file one more name; EPERM for a directory, EMLINK, ENOENT without names."""
        self.may_create(parent, name, cred)
        attrs = self.osd.attrs(fid)
        if stat.S_ISDIR(attrs.mode) or attrs.flags & (IMMUTABLE_FL | APPEND_FL):
            raise LustreError(errno.EPERM, f"{fid} takes no link")
        if attrs.nlink == 0:
            raise LustreError(errno.ENOENT, f"{fid} has been removed")
        if attrs.nlink >= objects.LINK_MAX:
            raise LustreError(errno.EMLINK, f"{fid} has {attrs.nlink} links")
        tx.set_attrs(fid, nlink=attrs.nlink + 1, ctime=max(time, attrs.ctime))
        self._set_links(tx, fid, linkea.added(self.links(fid), Link(parent, name)))
        self._enter(tx, parent, name, fid, attrs.mode, time)

    def links(self, fid: Fid) -> tuple[Link, ...]:
        """The names of an object, as its link EA has them."""
        value = self.get(fid, linkea.NAME)
        return linkea.parse(value) if value else ()

    @staticmethod
    def _set_links(tx: Tx, fid: Fid, links: tuple[Link, ...]) -> None:
        tx.set_xattr(fid, linkea.NAME, linkea.pack(links))

    # ---- removing

    def may_remove(self, parent: Fid, fid: Fid, cred: Cred) -> Attrs:
        """The attributes of what is to lose a name; EACCES, EPERM (sticky, immutable), ENOENT."""
        above = self._may_change(parent, cred)
        attrs: Attrs = self.osd.attrs(fid)
        frozen = IMMUTABLE_FL | APPEND_FL
        if above.flags & APPEND_FL or attrs.flags & frozen or creds.sticky(above, attrs, cred):
            raise LustreError(errno.EPERM, f"{fid} may not be removed")
        if fid == ROOT_FID:
            raise LustreError(errno.EBUSY, "the root directory")
        return attrs

    def unlink(
        self, tx: Tx, parent: Fid, name: bytes, fid: Fid, cred: Cred, time: int, folder: bool,
        open_: bool = False,
    ) -> Victim:  # fmt: skip
        """Take a name away; with its last name an object goes, or becomes an orphan if `open_`.

        `folder` is what the caller thinks it is: ENOTDIR, EISDIR. ENOTEMPTY for a directory in use.
        """
        attrs = self.may_remove(parent, fid, cred)
        is_folder = stat.S_ISDIR(attrs.mode)
        if is_folder != folder:
            raise LustreError(errno.EISDIR if is_folder else errno.ENOTDIR, f"{fid}")
        if is_folder and not self.empty(fid):
            raise LustreError(errno.ENOTEMPTY, f"{fid}")
        self._leave(tx, parent, name, attrs.mode, time)
        return self._lose(tx, parent, name, fid, attrs, time, open_)

    def _lose(
        self, tx: Tx, parent: Fid, name: bytes, fid: Fid, attrs: Attrs, time: int, open_: bool
    ) -> Victim:
        """An object's side of losing a name."""
        nlink = 0 if stat.S_ISDIR(attrs.mode) else max(attrs.nlink - 1, 0)
        ctime = max(time, attrs.ctime)
        after = _with(attrs, nlink=nlink, ctime=ctime)
        if nlink == 0 and not open_:
            self.destroy(tx, fid)
            return Victim(fid, after, last=True)
        tx.set_attrs(fid, nlink=nlink, ctime=ctime)
        self._set_links(tx, fid, linkea.removed(self.links(fid), Link(parent, name)))
        if nlink == 0:
            tx.insert(objects.ORPHANS, objects.key(fid), directory.value(fid, attrs.mode))
        return Victim(fid, after, last=False)

    def destroy(self, tx: Tx, fid: Fid) -> None:
        """Remove an object that nobody can reach any more, and its OST objects with it."""
        self.lod.destroy(tx, fid)
        tx.destroy(fid)

    def orphans(self) -> list[Fid]:
        """The files that have no name but were open."""
        return [objects.unkey(one) for one, _ in self.osd.iterate(objects.ORPHANS)]

    def destroy_orphan(self, tx: Tx, fid: Fid) -> None:
        """The last opener of an orphan has gone."""
        tx.delete(objects.ORPHANS, objects.key(fid))
        self.destroy(tx, fid)

    # ---- moving

    def rename(
        self, tx: Tx, source: Link, target: Link, fid: Fid, replaced: Fid | None, cred: Cred,
        time: int, open_: bool = False,
    ) -> Victim | None:  # fmt: skip
        """Move an object from one place to another, over what is there (`replaced`).

        EISDIR, ENOTDIR, ENOTEMPTY where the two do not fit together. Returns what became of the
        replaced object.
        """
        attrs = self.may_remove(source.parent, fid, cred)
        folder = stat.S_ISDIR(attrs.mode)
        victim = None
        if replaced is None:
            objects.check_name(target.name)
            self._may_change(target.parent, cred)
        else:
            victim = self._replace(tx, target, replaced, folder, cred, time, open_)
        across = source.parent != target.parent
        self._leave(tx, source.parent, source.name, attrs.mode, time, int(across))
        kept = int(across) - int(folder and replaced is not None)
        self._enter(tx, target.parent, target.name, fid, attrs.mode, time, kept)
        if folder and across:
            up = directory.value(target.parent, stat.S_IFDIR)
            tx.insert(fid, self._key(b".."), up, replace=True)
        tx.set_attrs(fid, ctime=max(time, attrs.ctime))
        moved = linkea.added(linkea.removed(self.links(fid), source), target)
        self._set_links(tx, fid, moved)
        return victim

    def _replace(
        self, tx: Tx, target: Link, fid: Fid, folder: bool, cred: Cred, time: int, open_: bool
    ) -> Victim:
        """Clear the place that a rename wants."""
        attrs = self.may_remove(target.parent, fid, cred)
        if stat.S_ISDIR(attrs.mode) != folder:
            raise LustreError(errno.ENOTDIR if folder else errno.EISDIR, f"{fid}")
        if folder and not self.empty(fid):
            raise LustreError(errno.ENOTEMPTY, f"{fid}")
        tx.delete(target.parent, self._key(target.name))
        return self._lose(tx, target.parent, target.name, fid, attrs, time, open_)


def _with(attrs: Attrs, **changes: Any) -> Attrs:
    fields = {name: getattr(attrs, name) for name in attrs.__struct_fields__}
    return Attrs(**{**fields, **changes})


def _folder_links(nlink: int, change: int) -> int:
    """A directory's link count: past ldiskfs's limit it sticks to 1, "more than can be told"."""
    if not change or nlink == 1:
        return nlink
    after = nlink + change
    return 1 if after >= objects.LINK_MAX else max(after, 0)
