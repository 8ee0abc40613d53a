"""Params: the tunables and counters of a component, declared where they are read.

Does not know where a file is mounted (`param_tree`) nor what a source tree does to it (`dialect`).
Stands for lprocfs_vars, LUSTRE_RW_ATTR and their show and store functions.

How to declare:

    class Osc(Component, tree="osc.{name}"):
        max_rpcs_in_flight = Param.count(8, low=1, high=256, unit="RPCs",
                                         help="bulk RPCs this OSC may have on the wire")
        checksums = Param.flag(True, help="guard bulk data with a checksum")
        max_dirty_bytes = Param.size_mb(32 * MIB, low=1, help="dirty data before a writer waits")
        idle_timeout_ns = Param.seconds(20, high=50, help="an idle import disconnects after this")
        stats = Param.stats(help="one counter per operation and per RPC")

        @Param.computed(unit="bytes", help="grant this client holds")
        def cur_grant_bytes(self) -> int:
            return self.grant

        @Param.trigger(help="reconnect an idle import")
        def idle_connect(self, text: str) -> None:
            self.imp.wake()

Reading is a plain attribute: after the class statement `max_rpcs_in_flight` *is* 8 on the class,
and a store puts an int into the instance.

The attribute's suffix says the unit it holds, the file's name follows from it:

    max_dirty_bytes = Param.size_mb(...)    attribute in bytes         file max_dirty_mb
    idle_timeout_ns = Param.seconds(...)    attribute in nanoseconds   file idle_timeout
    timeout         = Param.seconds(...)    attribute in seconds       file timeout

`file="pool.state"` names any other file. `low` and `high` are in the file's unit and may be
functions of the component: `high=lambda self: self.max_rpcs_in_flight - 1`.

Text goes out through `show_FILE(self) -> str` (with its newline) and comes in through
`store_FILE(self, text)`; dots in a file's name become underscores there. Both are made for every
Param. A component or an overlay may define them to replace the rule; `super()` reaches the made one
from a subclass or an overlay, `self.declared["attr"].show(self)` from the class itself. They may be
generators where they have to wait (a statfs RPC, cancelling locks). `set_ATTR(self, value)`, where
a component defines it, is called with the accepted value in place of a plain assignment (to resize
something, say).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, Literal, TypeVar, cast

from labsim.base import param_text
from labsim.base.stats import Stats
from labsim.base.units import MIB, NS_PER_MS, NS_PER_S

Kind = Literal["count", "flag", "size", "time", "text", "computed", "trigger", "stats", "absent"]
Access = Literal["ro", "rw", "wo"]
Bound = int | Callable[[Any], int] | None
Show = Callable[[Any], "str | Generator[Any, Any, str]"]
Store = Callable[[Any, str], "Generator[Any, Any, None] | None"]
Method = Callable[[Any], Any]
F = TypeVar("F", bound=Callable[..., Any])

INT_MAX = 2**31 - 1


class Param:
    """One declared parameter file; made by the constructors below, never by hand.

    The constructors say they return the attribute's type, since that is what a reader gets; in
    truth they return a Param, which `Component` takes out of the class statement.
    """

    __slots__ = (
        "access", "attr", "bounds", "default", "file", "function", "help", "kind", "method",
        "scale", "unit",
    )  # fmt: skip

    def __init__(
        self, kind: Kind, default: Any, *, unit: str, help: str, access: Access,
        low: Bound = None, high: Bound = None, file: str = "", function: Any = None,
    ) -> None:  # fmt: skip
        if not help.strip() and kind != "absent":
            raise TypeError("a Param says in `help` what it is for")
        self.kind: Kind = kind
        self.default = default
        self.unit = unit
        self.help = help
        self.access: Access = access
        self.bounds = (low, high)
        self.file = file
        self.function = function
        self.attr = ""
        self.method = ""
        self.scale = 1

    # ---- how a class declares

    @staticmethod
    def count(
        default: int, *, help: str, unit: str, low: Bound = 0, high: Bound = INT_MAX,
        file: str = "", access: Access = "rw",
    ) -> int:  # fmt: skip
        """An integer; `unit` is what it counts ("RPCs", "locks", "bytes")."""
        return cast(int, Param("count", default, help=help, unit=unit, low=low, high=high,
                               file=file, access=access))  # fmt: skip

    @staticmethod
    def flag(default: bool, *, help: str, file: str = "", access: Access = "rw") -> bool:
        """On or off; the attribute is a bool, the file shows 1 or 0."""
        return cast(bool, Param("flag", default, help=help, unit="bool", low=0, high=1,
                                file=file, access=access))  # fmt: skip

    @staticmethod
    def size_mb(
        default: int, *, help: str, low: Bound = 0, high: Bound = INT_MAX,
        file: str = "", access: Access = "rw",
    ) -> int:  # fmt: skip
        """A size shown in MiB: `default` and the attribute (NAME_bytes) in bytes, bounds in MiB."""
        return cast(int, Param("size", default, help=help, unit="MiB", low=low, high=high,
                               file=file, access=access))  # fmt: skip

    @staticmethod
    def seconds(
        default: int, *, help: str, low: Bound = 0, high: Bound = INT_MAX,
        file: str = "", access: Access = "rw",
    ) -> int:  # fmt: skip
        """A time shown in seconds, as is `default`; the attribute is in ns where named NAME_ns."""
        return cast(int, Param("time", default, help=help, unit="s", low=low, high=high,
                               file=file, access=access))  # fmt: skip

    @staticmethod
    def milliseconds(
        default: int, *, help: str, low: Bound = 0, high: Bound = INT_MAX,
        file: str = "", access: Access = "rw",
    ) -> int:  # fmt: skip
        """As `seconds`, for a file whose text is in milliseconds; `default` and bounds too."""
        return cast(int, Param("time", default, help=help, unit="ms", low=low, high=high,
                               file=file, access=access))  # fmt: skip

    @staticmethod
    def text(
        default: str, *, help: str, length: int = 4095, unit: str = "text",
        file: str = "", access: Access = "rw",
    ) -> str:  # fmt: skip
        """A line of text of at most `length` characters; stored without its newline."""
        return cast(str, Param("text", default, help=help, unit=unit, low=0, high=length,
                               file=file, access=access))  # fmt: skip

    @staticmethod
    def computed(
        *, help: str, unit: str = "", file: str = "", access: Access = "ro"
    ) -> Callable[[Method], Any]:
        """Decorator: a file whose text is made when it is read; the attribute is a property.

        The method returns an int, a bool, or the text as a str (a missing newline is added). With
        access "rw" the component defines `store_FILE` too.
        """
        return lambda function: Param("computed", None, help=help, unit=unit, file=file,
                                      access=access, function=function)  # fmt: skip

    @staticmethod
    def trigger(*, help: str, unit: str = "any", file: str = "") -> Callable[[F], F]:
        """Decorator: a write-only file; the method gets the text and may be a generator."""

        def declare(function: F) -> F:
            return cast(F, Param("trigger", None, help=help, unit=unit, file=file, access="wo",
                                 function=function))  # fmt: skip

        return declare

    @staticmethod
    def stats(*, help: str, order: Iterable[str] = (), word: str = "reqs", file: str = "") -> Stats:
        """Counters, one `Stats` per component; `order` is the order of their lines.

        A write clears them. `word` is what a plain operation counts in ("reqs"; llite says "regs").
        """
        return cast(Stats, Param("stats", (tuple(order), word), help=help, unit="samples",
                                 file=file, access="rw"))  # fmt: skip

    @staticmethod
    def absent() -> Any:
        """In an overlay: this file does not exist in that tree."""
        return Param("absent", None, help="", unit="", access="ro")

    # ---- how Component takes it

    def named(self, attr: str, owner: type) -> Param:
        """Learn the attribute's name, and from it the file's name and the scale of the value."""
        if self.attr:
            return self
        self.attr = attr
        stem = attr
        if self.kind == "size":
            stem = attr.removesuffix("_bytes")
            if stem == attr:
                raise TypeError(f"{owner.__name__}.{attr} holds bytes: name it NAME_bytes")
            stem, self.scale = f"{stem}_mb", MIB
        elif self.kind == "time":
            stem = attr.removesuffix("_ns")
            unit_ns = NS_PER_S if self.unit == "s" else NS_PER_MS
            self.scale = unit_ns if stem != attr else 1
            self.default *= self.scale
        self.file = self.file or stem
        self.method = self.file.replace(".", "_")
        return self

    def attribute(self, attr: str) -> Any:
        """What stands in the class in place of the declaration."""
        if self.kind == "computed":
            return property(self.function)
        if self.kind == "trigger":
            return self.function
        if self.kind == "stats":
            return LazyStats(attr, *self.default)
        return self.default

    # ---- how its text is made and read

    def show(self, component: Any) -> str:
        """The text of the file, by declaration and dialect."""
        return param_text.show(self, component)

    def store(self, component: Any, text: str) -> None:
        """Take text that somebody wrote; LustreError EINVAL or ERANGE where it is not accepted."""
        param_text.store(self, component, text)


class LazyStats:
    """Makes a component's `Stats` when it first counts; afterwards a plain attribute."""

    def __init__(self, attr: str, order: tuple[str, ...], word: str) -> None:
        self.attr = attr
        self.order = order
        self.word = word

    def __get__(self, component: Any, owner: type) -> Any:
        if component is None:
            return self
        made = vars(component)[self.attr] = Stats(self.order, self.word)
        if component.mounted is not None:
            made.started_ns = component.mounted.tree.wall_ns()
        return made


def made_show(param: Param) -> Show:
    """The `show_FILE` of a component that defines none."""
    return lambda component: param.show(component)  # noqa: PLW0108


def made_store(param: Param) -> Store:
    """The `store_FILE` of a component that defines none."""
    if param.kind == "trigger":
        return lambda component, text: getattr(component, param.attr)(text)
    return lambda component, text: param.store(component, text)  # noqa: PLW0108
