"""The parameter tree of one node: what lctl sees, and what a node mounts its components into.

Does not know which components there are. Stands for /proc/fs/lustre, /sys/fs/lustre and
/sys/kernel/debug/lustre, searched as if they were one.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from inspect import isgenerator
from sys import intern
from typing import Any, NamedTuple

from labsim.base.component import Component
from labsim.base.dialect import ANY, PLAIN, ROOTS, Dialect, Rule
from labsim.base.errors import LustreError
from labsim.base.param_names import braces, slashed, word_matcher
from labsim.base.params import Param


class Planned(NamedTuple):
    """One file of a component class under one dialect."""

    key: str
    """The file's name with a star for each instance: "osc.*.max_dirty_mb"."""
    param: Param
    rule: Rule
    location: str
    root: str
    access: str


class Mount(NamedTuple):
    """Where one component's files are."""

    tree: ParamTree
    component: Component
    path: tuple[str, ...]
    plan: dict[str, Planned]

    def rule(self, param: Param) -> Rule:
        """The dialect's rule for that file of this component."""
        planned = self.plan.get(param.attr)
        return planned.rule if planned is not None else ANY

    def key(self, param: Param) -> str:
        """The file's name with a star for each instance."""
        planned = self.plan.get(param.attr)
        return planned.key if planned is not None else param.file


class File(NamedTuple):
    """One parameter file as lctl meets it."""

    mount: Mount
    planned: Planned

    @property
    def access(self) -> str:
        """ro, rw or wo."""
        return self.planned.access

    @property
    def location(self) -> str:
        """procfs, sysfs or debugfs."""
        return self.planned.location

    def show(self) -> Any:
        """The text, or a generator that returns it."""
        return getattr(self.mount.component, "show_" + self.planned.param.method)()

    def store(self, text: str) -> Any:
        """Take the text; may be a generator. EACCES where the file is read-only."""
        if self.access == "ro":
            raise LustreError(errno.EACCES, f"{self.planned.param.file} is read-only")
        return getattr(self.mount.component, "store_" + self.planned.param.method)(text)


class Entry(NamedTuple):
    """One path that a pattern matched: a file, or a directory where `file` is None."""

    path: str
    parts: tuple[str, ...]
    file: File | None

    @property
    def name(self) -> str:
        """The dotted name that lctl prints."""
        return ".".join(self.parts)


Entries = list[Entry]
Files = list[tuple[Entry, File]]
Names = list[str]
Texts = list[tuple[str, str]]
Mounts = list[Mount]


def _filled(part: str, names: dict[str, str]) -> str:
    """A part of a path; a name that is all of it is not copied, as many paths have it."""
    whole = names.get(part[1:-1])
    return intern(part.format(**names)) if whole is None else whole


class ParamTree:
    """The mounted components of one node, in its dialect.

    `wall_ns` gives the date of snapshots, `hz` the kernel's HZ (files in jiffies), `console` takes
    what the kernel would log.
    """

    def __init__(
        self,
        dialect: Dialect | None = None,
        wall_ns: Callable[[], int] = lambda: 0,
        hz: int = 1000,
        console: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.dialect = dialect or PLAIN
        self.wall_ns = wall_ns
        self.hz = hz
        self.console = console
        self.mounts: Mounts = []
        self.on_look: list[Callable[[], None]] = []
        """Called before the tree is looked through after a change: mount what nobody needed yet."""
        self._index: dict[str, Entries] | None = None

    def mount(self, component: Component, **names: str) -> Mount:
        """Put the component's files where its class says; `names` fill the braces of its `tree`."""
        if component.tree is None:
            raise TypeError(f"{type(component).__name__} has no place in the parameter tree")
        path = tuple(_filled(part, names) for part in component.tree.split(".") if part)
        made = Mount(self, component, path, plan_of(self.dialect, type(component)))
        component.mounted = made
        for attr, planned in made.plan.items():
            if planned.rule.default is not None and attr not in vars(component):
                setattr(component, attr, planned.rule.default)
        self.mounts.append(made)
        self._index = None
        return made

    def unmount(self, component: Component) -> None:
        """Take the component's files away."""
        self.mounts = [mount for mount in self.mounts if mount.component is not component]
        component.mounted = None
        self._index = None

    def changed(self) -> None:
        """Something in `on_look` may have more to mount."""
        self._index = None

    # ---- by pattern, without lctl's words

    def list(self, pattern: str) -> Names:
        """The dotted names of the files and directories that match."""
        return [entry.name for entry in self.glob(slashed(pattern))]

    def get(self, pattern: str) -> Texts:
        """(dotted name, text) of every file that matches; ENOENT where none does."""
        return [(entry.name, at_once(file.show())) for entry, file in self._files(pattern)]

    def set(self, pattern: str, text: str) -> int:
        """Write to every file that matches, and say to how many; the first error is raised."""
        files = self._files(pattern)
        for _, file in files:
            at_once(file.store(text))
        return len(files)

    def _files(self, pattern: str) -> Files:
        found = [(e, e.file) for e in self.glob(slashed(pattern)) if e.file is not None]
        if not found:
            raise LustreError(errno.ENOENT, pattern)
        return found

    # ---- as glob(3) over all roots

    def glob(self, pattern: str) -> Entries:
        """What a slashed pattern with * ? [..] {a,b} matches, root by root, each sorted by path."""
        found: Entries = []
        index = self._entries()
        expansions = [expanded.strip("/").split("/") for expanded in braces(pattern)]
        for root in self.dialect.roots:
            entries = index.get(root, [])
            for parts in expansions:
                matchers = [word_matcher(part) for part in parts]
                found += [
                    entry
                    for entry in entries
                    if len(entry.parts) == len(matchers)
                    and all(match(p) for match, p in zip(matchers, entry.parts, strict=True))
                ]
        return found

    def _entries(self) -> dict[str, Entries]:
        """Every file and directory by root, sorted by path."""
        if self._index is None:
            for mount_more in self.on_look:
                mount_more()
            index: dict[str, dict[tuple[str, ...], File | None]] = {}
            for mount in self.mounts:
                for planned in mount.plan.values():
                    under = index.setdefault(planned.root, {})
                    parts = (*mount.path, *planned.param.file.split("."))
                    for depth in range(1, len(parts)):
                        under.setdefault(parts[:depth], None)
                    under[parts] = File(mount, planned)
            self._index = {
                root: sorted(
                    (Entry(f"{root}/{'/'.join(p)}", p, f) for p, f in under.items()),
                    key=lambda entry: entry.path,
                )
                for root, under in index.items()
            }
        return self._index


def plan_of(dialect: Dialect, kind: type[Component]) -> dict[str, Planned]:
    """The files of a component class under a dialect, by attribute; made once."""
    plan: dict[str, Planned] | None = dialect.plans.get(kind)
    if plan is None:
        plan = {}
        stars = [re.sub(r"\{[^}]*\}", "*", part) for part in (kind.tree or "").split(".") if part]
        for attr, param in kind.declared.items():
            key = ".".join([*stars, param.file])
            rule = dialect.rule(key)
            location = rule.location if rule.location != "default" else dialect.location
            if param.kind == "absent" or location == "absent":
                continue
            root = rule.root or ROOTS[location]
            plan[attr] = Planned(key, param, rule, location, root, rule.access or param.access)
        dialect.plans[kind] = plan
    return plan


def at_once(result: Any) -> Any:
    """The result of a show or store that need not wait; one that waits wants `yield from`."""
    if not isgenerator(result):
        return result
    try:
        next(result)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("this parameter waits for an event; read or write it with `yield from`")
