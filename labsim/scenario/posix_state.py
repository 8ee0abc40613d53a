"""The reference model's file system: one namespace, inodes, what each file holds.

Does not know calls, clients' caches or servers. A state can be forked, so that several orders of
concurrent calls can be tried. What failures have made uncertain is `UNSURE` until it is seen again.
"""

from __future__ import annotations

import stat as st
from typing import NamedTuple

from labsim.scenario.posix_content import EMPTY, UNKNOWN, Content

ENOENT, ENOTDIR, ELOOP = 2, 20, 40

ROOT = 1
NOTHING = 0
"""The inode of a name that is not there."""
UNSURE = -1
"""The inode of a name of which nothing is known; a number or mode of which nothing is known."""

MOUNT = "/mnt/lustre"
MAX_LINKS = 40


class Inode(NamedTuple):
    """One file, directory or link: `kind` is its S_IFMT bits, UNSURE before it was seen."""

    kind: int
    nlink: int = 1
    mode: int = UNSURE
    uid: int = UNSURE
    gid: int = UNSURE
    target: str | None = None
    xattrs: tuple[tuple[str, bytes], ...] | None = ()
    content: Content = EMPTY
    fid: str = ""
    parent: int = NOTHING
    names: int = 0
    """Of a directory, how many names are in it; UNSURE where that is not known."""
    strange: bool = False
    """Of a directory, whether there may be names in it that nothing is known of."""
    again: bool = False
    """Found by a call that shows no FID where nothing was known: it may be known by its FID."""

    @property
    def is_dir(self) -> bool:
        """Certainly a directory."""
        return self.kind == st.S_IFDIR

    @property
    def is_reg(self) -> bool:
        """Certainly a regular file."""
        return self.kind == st.S_IFREG


class Found(NamedTuple):
    """Where a path leads: its last directory and name, the inode (NOTHING, UNSURE), or an errno.

    `doubt`: a directory on the way may be another than it was, or be gone; without a parent nothing
    is known of it at all.
    """

    parent: int
    name: str
    inode: int
    errno: int = 0
    doubt: bool = False


class State:
    """The whole file system as the model has it; `fork` before trying something."""

    __slots__ = ("fids", "inodes", "names", "opened", "was")

    def __init__(self) -> None:
        root = Inode(st.S_IFDIR, nlink=2, parent=ROOT, mode=UNSURE)
        self.inodes: dict[int, Inode] = {ROOT: root}
        self.names: dict[tuple[int, str], int] = {}
        self.opened: dict[tuple[str, int], int] = {}
        """By client and number of the open file."""
        self.fids: dict[str, int] = {}
        self.was: dict[tuple[int, str], int] = {}
        """What names led to of which nothing is known any more."""

    def fork(self) -> State:
        """A state that changes without this one."""
        other = State.__new__(State)
        other.inodes = self.inodes.copy()
        other.names = self.names.copy()
        other.opened = self.opened.copy()
        other.fids = self.fids.copy()
        other.was = self.was.copy()
        return other

    def __eq__(self, other: object) -> bool:
        """True where nothing tells the two apart."""
        assert isinstance(other, State)
        return self.names == other.names and self.inodes == other.inodes

    def __hash__(self) -> int:
        """As it is now; a state that is kept by its hash must not change."""
        inodes = frozenset(
            (number, one.nlink, one.content.sizes) for number, one in self.inodes.items()
        )
        return hash((frozenset(self.names.items()), inodes))

    # ---- paths

    def walk(self, path: str, follow: bool = True, links: int = 0, start: int = ROOT) -> Found:
        """What a path leads to; a link at its end is followed where `follow` says so."""
        if path == MOUNT or path.startswith(MOUNT + "/"):
            path = path[len(MOUNT) :]
        at = ROOT if path.startswith("/") else start
        parts = [part for part in path.split("/") if part and part != "."]
        slash = path.endswith(("/", "/."))
        found, doubt = Found(self.inodes[at].parent, "", at), False
        for number, name in enumerate(parts):
            last = number == len(parts) - 1
            if not self._searchable(at):
                return Found(NOTHING, name, NOTHING, ENOTDIR, doubt)
            if name == "..":
                at = self.inodes[at].parent or ROOT
                found = Found(self.inodes[at].parent, "", at, doubt=doubt)
                continue
            inode = self.leads(at, name)
            if inode == UNSURE and not last:
                inode, doubt = self._directory_before(at, name), True
                if inode == UNSURE:
                    return Found(NOTHING, parts[-1], UNSURE, doubt=True)
            found = Found(at, name, inode, doubt=doubt)
            if inode <= NOTHING:
                return found if last else found._replace(errno=ENOENT)
            one = self.inodes[inode]
            if one.kind == st.S_IFLNK and (follow or slash or not last):
                if links >= MAX_LINKS or one.target is None:
                    return found._replace(errno=ELOOP if one.target else 0, inode=UNSURE)
                rest = "/".join([one.target, *parts[number + 1 :]]) + ("/" if slash else "")
                there = self.walk(rest, follow, links + 1, at)
                return there._replace(doubt=doubt or there.doubt)
            at = inode
        if slash and found.inode > NOTHING and not self._searchable(found.inode):
            return found._replace(errno=ENOTDIR)
        return found

    def _directory_before(self, parent: int, name: str) -> int:
        """The directory that an unsure name led to: the one that is there, if any is."""
        inode = self.was.get((parent, name), UNSURE)
        return inode if inode > NOTHING and self.inodes[inode].is_dir else UNSURE

    def _searchable(self, inode: int) -> bool:
        return self.inodes[inode].kind in (st.S_IFDIR, UNSURE)

    def now(self, found: Found) -> Found:
        """What was found, with what its last name leads to by now."""
        if found.errno or not found.name or not found.parent:
            return found
        return found._replace(inode=self.leads(found.parent, found.name))

    def leads(self, parent: int, name: str) -> int:
        """The inode that a name in a directory leads to."""
        unknown = UNSURE if parent and self.inodes[parent].strange else NOTHING
        return self.names.get((parent, name), unknown)

    # ---- changing names

    def put(self, parent: int, name: str, inode: int) -> None:
        """A name leads to an inode from now on."""
        if (parent, name) not in self.names:
            self._count(parent, 1)
        self.names[parent, name] = inode
        self.was.pop((parent, name), None)

    def drop(self, parent: int, name: str) -> None:
        """A name is gone."""
        self.was.pop((parent, name), None)
        if self.names.pop((parent, name), None) is not None:
            self._count(parent, -1)

    def _count(self, parent: int, more: int) -> None:
        directory = self.inodes[parent]
        if directory.names != UNSURE:
            self.change(parent, names=directory.names + more)

    def link(self, inode: int, more: int) -> None:
        """An inode has so many more links."""
        if inode > NOTHING and self.inodes[inode].nlink != UNSURE:
            self.change(inode, nlink=self.inodes[inode].nlink + more)

    def change(self, inode: int, **fields: object) -> None:
        """Replace fields of an inode."""
        self.inodes[inode] = self.inodes[inode]._replace(**fields)  # type: ignore[arg-type]

    def entries(self, directory: int) -> dict[str, int]:
        """The names in a directory."""
        return {name: inode for (parent, name), inode in self.names.items() if parent == directory}

    # ---- what was seen

    def is_fid(self, inode: int, fid: str) -> bool:
        """Note an inode's FID where it is new; False where it contradicts what was seen.

        One that was found again without its FID may turn out to be one that was known before.
        """
        one = self.inodes[inode]
        if not fid or one.fid:
            return not fid or one.fid == fid
        if fid in self.fids:
            if not self.inodes[inode].again:
                return False
            self._is_one(inode, self.fids[fid])
        self.change(inode, fid=fid, again=False)
        self.fids[fid] = inode
        return True

    def _is_one(self, inode: int, known: int) -> None:
        """What was found without a FID is an inode that was known: all that leads to it moves."""

        def moved(number: int) -> int:
            return inode if number == known else number

        kind = self.inodes[known].kind
        self.inodes[inode] = self.inodes[inode]._replace(kind=kind)
        self.forget_inode(inode)
        for number, one in list(self.inodes.items()):
            if one.parent == known:
                self.change(number, parent=inode)
        self.names = {(moved(at), name): moved(to) for (at, name), to in self.names.items()}
        self.was = {(moved(at), name): moved(to) for (at, name), to in self.was.items()}
        self.opened = {file: moved(to) for file, to in self.opened.items()}

    def found_again(self, parent: int, name: str, fid: str, number: int) -> int:
        """A name of which nothing was known leads to a FID: the inode it is."""
        inode = self.fids.get(fid) if fid else None
        if inode is None:
            inode = number
            self.inodes[inode] = Inode(
                UNSURE, nlink=UNSURE, xattrs=None, content=UNKNOWN, fid=fid, parent=parent,
                names=UNSURE, strange=True, again=not fid,
            )  # fmt: skip
            if fid:
                self.fids[fid] = inode
            elif self.was.get((parent, name), NOTHING) > NOTHING:
                self.forget_inode(self.was[parent, name])
        self.names[parent, name] = inode
        return inode

    # ---- what was lost

    def forget_name(self, parent: int, name: str) -> None:
        """Nothing is known of a name any more, nor of what it led to."""
        inode = self.names.get((parent, name), NOTHING)
        if inode > NOTHING:
            self.forget_inode(inode)
            self.was[parent, name] = inode
        self.names[parent, name] = UNSURE
        self.change(parent, names=UNSURE, nlink=UNSURE)

    def forget_inode(self, inode: int) -> None:
        """Nothing is known of an inode but its FID and kind."""
        one = self.inodes[inode]
        self.inodes[inode] = one._replace(
            nlink=UNSURE, mode=UNSURE, uid=UNSURE, gid=UNSURE, xattrs=None, content=UNKNOWN,
            names=UNSURE,
        )  # fmt: skip
