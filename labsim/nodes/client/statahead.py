"""Stat-ahead: who reads a directory and asks for one file after the other finds them answered.

Knows names of one directory and who has it open, not locks: what came ahead is in the caches like
anything else, and true as long as its locks hold. Stands for llite/statahead.c of 2.12 with AGL,
its glimpses of files' sizes.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.nodes.client.cred import Cred
from labsim.nodes.client.inode import Dentry, Inode
from labsim.nodes.client.namei import ATTR_BITS
from labsim.runtime.ports import Steps
from labsim.wire.constants import IT_GETATTR

SMALLEST = 2
"""LL_SA_RPC_MIN: how many names a scan is ahead at first."""
OMITTED = 8
"""SA_OMITTED_ENTRY_MAX: names that were passed over are kept so much longer."""
ENOUGH_HITS, MOST_MISSES = 7, 8


class Entry:
    """One name that is being asked for (struct sa_entry)."""

    __slots__ = ("good", "index", "ready", "waiting")

    def __init__(self, index: int) -> None:
        self.index = index
        self.ready = False
        self.good = False
        self.waiting: Any = None

    def answer(self, good: bool) -> None:
        """It is known by now, or cannot be."""
        self.ready, self.good = True, good
        if self.waiting is not None:
            self.waiting.succeed()


class Scan:
    """One directory that is being gone through (struct ll_statahead_info)."""

    def __init__(self, parent: Dentry, hidden: bool, cred: Cred) -> None:
        self.parent = parent
        self.hidden = hidden
        """Names that begin with a dot, too."""
        self.cred = cred
        self.entries: dict[str, Entry] = {}
        self.window = SMALLEST
        self.index = 1
        self.hits = self.misses = self.misses_in_row = 0
        self.skipped_hidden = self.missed_hidden = 0
        self.stopped = False
        self.event: Any = None

    @property
    def low(self) -> bool:
        """It is wrong too often: under four of five, or nine times in a row."""
        few = self.hits > ENOUGH_HITS and self.hits < 4 * self.misses
        return few or self.misses_in_row > MOST_MISSES

    def used(self, name: str, entry: Entry | None, good: bool, most: int) -> None:
        """A name was wanted: it came ahead, or not (sa_put)."""
        if good:
            self.hits += 1
            self.misses_in_row = 0
            self.window = min(2 * self.window, most)
        else:
            self.misses += 1
            self.misses_in_row += 1
        if entry is not None:
            self.entries.pop(name, None)
        for old, one in list(self.entries.items()):
            if not (one.ready and self.window + one.index + OMITTED < self.index):
                break
            del self.entries[old]
        self.wake()

    def wake(self) -> None:
        """Let it go on."""
        event, self.event = self.event, None
        if event is not None:
            event.succeed()


class Opened:
    """A directory that a process has open and may go through."""

    __slots__ = ("enabled", "file", "process", "scan")

    def __init__(self, file: Any, process: Any) -> None:
        self.file = file
        self.process = process
        self.enabled = True
        self.scan: Scan | None = None


class Statahead:
    """The stat-ahead of one mount."""

    def __init__(self, llite: Any) -> None:
        self.llite = llite
        self.env = llite.env
        self.opened: dict[Inode, Opened] = {}
        self.running = 0
        self.total = self.wrong = self.agl_total = 0

    # ---- who may

    def opens(self, file: Any, process: Any) -> None:
        """A directory was opened: its first opener may run ahead (ll_authorize_statahead)."""
        if self.llite.statahead_max:
            self.opened.setdefault(file.inode, Opened(file, process))

    def closes(self, file: Any) -> None:
        """A directory is closed; what is on its way ends in the caches."""
        opened = self.opened.get(file.inode)
        if opened is None or opened.file is not file:
            return
        del self.opened[file.inode]
        if opened.scan is not None:
            opened.scan.stopped = True
            opened.scan.wake()
            self.running -= 1

    # ---- what is asked for

    def ask(self, process: Any, parent: Dentry, name: str, cred: Cred) -> Steps[None]:
        """A name is wanted with its attributes (ll_statahead): wait for it if it is on its way.

        The first name of a directory begins a scan. Afterwards the caches know, or do not.
        """
        assert parent.inode is not None
        opened = self.opened.get(parent.inode)
        if opened is None or opened.process is not process or not opened.enabled:
            return
        scan = opened.scan
        if scan is None:
            yield from self._begin(opened, parent, name, cred)
            return
        if name[0] == "." and not scan.hidden and scan.missed_hidden < scan.skipped_hidden:
            scan.hidden = True
            scan.missed_hidden += 1
            return
        entry = scan.entries.get(name)
        if entry is not None and not entry.ready:
            entry.waiting = entry.waiting or self.env.event()
            yield entry.waiting
        good = entry is not None and entry.good and self._known(parent, name) is not None
        scan.used(name, entry, good, self.llite.statahead_max)

    def _known(self, parent: Dentry, name: str) -> Inode | None:
        """What a name leads to, if a lock covers that and the attributes."""
        dentry = self.llite.namei.cached(parent, name)
        inode: Inode | None = dentry.inode if dentry is not None else None
        if inode is None or not self.llite.still_covered(inode.fid, ATTR_BITS):
            return None
        return inode

    def _begin(self, opened: Opened, parent: Dentry, name: str, cred: Cred) -> Steps[None]:
        """Run ahead where this is the first name, as ls -l asks for it."""
        entries = yield from self.llite.entries(parent.inode, cred)
        names = [entry.name for entry in entries if entry.name not in (".", "..")]
        first = next((one for one in names if one[0] != "." or name[0] == "."), None)
        if opened.scan is not None or not opened.enabled:
            return
        if first != name or self.running >= self.llite.statahead_running_max:
            opened.enabled = False
            return
        scan = opened.scan = Scan(parent, name[0] == ".", cred)
        self.running += 1
        self.total += 1
        self.agl_total += self.llite.statahead_agl
        self.env.process(self._run(opened, scan, names))

    def _run(self, opened: Opened, scan: Scan, names: list[str]) -> Steps[None]:
        """Ask for all names but the first, the window's size at once (ll_statahead_thread)."""
        first = True
        for name in names:
            if name[0] == "." and not scan.hidden:
                scan.skipped_hidden += 1
                continue
            if first:
                first = False
                continue
            while len(scan.entries) >= scan.window and not scan.stopped and not scan.low:
                scan.event = self.env.event()
                yield scan.event
            if scan.stopped or scan.low:
                break
            entry = scan.entries[name] = Entry(scan.index)
            scan.index += 1
            self.env.process(self._ahead(scan, entry, name))
        if scan.low:
            self.wrong += 1
            opened.enabled = False

    def _ahead(self, scan: Scan, entry: Entry, name: str) -> Steps[None]:
        """One name: its attributes, and of a file its size."""
        inode = self._known(scan.parent, name)
        if inode is None:
            try:
                dentry = yield from self.llite.namei.ask(scan.parent, name, IT_GETATTR, scan.cred)
                inode = dentry.inode
            except LustreError as error:
                self.llite.trace.emit("statahead.failed", name, error.errno)
        entry.answer(inode is not None)
        if inode is not None and inode.is_reg and inode.layout and self.llite.statahead_agl:
            try:
                self.llite.data.glimpse_ahead(inode)
            except LustreError as error:
                self.llite.trace.emit("agl.failed", name, error.errno)

    # ---- the file statahead_stats

    def text(self) -> str:
        """The counters."""
        return (
            f"statahead total: {self.total}\nstatahead wrong: {self.wrong}\n"
            f"agl total: {self.agl_total}\n"
        )

    def clear(self) -> None:
        """Begin to count anew."""
        self.total = self.wrong = self.agl_total = 0
