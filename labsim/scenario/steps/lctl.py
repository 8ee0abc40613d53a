"""The verbs of lctl: get_param, set_param, conf_param, list_param, dl.

Does not know any parameter, nor how a tree's lctl talks (`nodes.lctl`). Options go to it as they
are, but for -P, which makes the MGS tell every node.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from typing import Any

from labsim.base.errors import InputError, LustreError
from labsim.base.ids import Nid
from labsim.nodes import lctl
from labsim.scenario.steps.context import Context
from labsim.scenario.steps.registry import ROLES, verb

Step = Generator[Any, Any, Any]


def _lctl(ctx: Context, command: str, words: tuple[str, ...]) -> Step:
    """What lctl does and says on this node."""
    said = yield from lctl.running(ctx.host.params, [command, *words])
    ctx.out(said.stdout)
    ctx.err(said.stderr)
    if said.status:
        ctx.note(_errno(said.stderr), said.status)


def _errno(message: str) -> int:
    """The errno whose words end a message; lctl's exit status does not always tell it."""
    last = message.rstrip().rpartition(": ")[2]
    return next((number for number in errno.errorcode if os.strerror(number) == last), 0)


def _letters(known: str) -> Any:
    """A check that options are made of known letters."""

    def check(words: tuple[str, ...]) -> None:
        for word in words:
            if word[:1] == "-" and len(word) > 1 and not set(word[1:]) <= set(known):
                listed = " ".join(f"-{letter}" for letter in known)
                raise InputError(f"lctl has no option '{word}' here; there are {listed}")

    return check


@verb("lctl get_param", on=ROLES, raw=True, check=_letters("nNFR"))
def get_param(ctx: Context, *patterns: str) -> Step:
    """Show parameters; -n: values only, -N: names only, -F: say what each name is.

    lctl get_param [-n | -N [-F]] [-R] PATTERN...
    """
    yield from _lctl(ctx, "get_param", patterns)


@verb("lctl list_param", on=ROLES, raw=True, check=_letters("FRD"))
def list_param(ctx: Context, *patterns: str) -> Step:
    """Show the names of parameters; -F: say what each is, -R: and all below.

    lctl list_param [-F] [-R] PATTERN...
    """
    yield from _lctl(ctx, "list_param", patterns)


def _settings(words: tuple[str, ...]) -> None:
    _letters("nPd")(words)
    flags = "".join(word[1:] for word in words if word[:1] == "-" and not word[1:2].isdigit())
    if "d" in flags and "P" not in flags:
        raise InputError("lctl set_param -d goes with -P")
    for word in words:
        if "P" in flags and word[:1] != "-" and ("=" in word) is ("d" in flags):
            what = "PATTERN" if "d" in flags else "PATTERN=VALUE"
            raise InputError(f"'{word}' is no {what}")


@verb("lctl set_param", on=ROLES, raw=True, check=_settings)
def set_param(ctx: Context, *settings: str) -> Step:
    """Set parameters; -n: say nothing, -P: for good and on every node, -d: no more (on the mgs).

    lctl set_param [-n] [-P] PATTERN=VALUE..., lctl set_param -P -d PATTERN...
    """
    if not any(word[:1] == "-" and "P" in word for word in settings):
        yield from _lctl(ctx, "set_param", settings)
        return
    if ctx.role != "mgs":
        raise InputError(f"lctl set_param -P runs on the mgs, not on {ctx.host.name}")
    for setting in settings:
        if not setting.startswith("-"):
            pattern, _, text = setting.partition("=")
            yield from _for_good(ctx, "set_param", setting, ctx.node.set_param(pattern, text))


def _for_good(ctx: Context, command: str, setting: str, done: Step) -> Step:
    """What the MGS does and refuses."""
    try:
        yield from done
    except LustreError as error:
        ctx.err(f"error: {command}: setting {setting}: {os.strerror(error.errno)}\n")
        ctx.note(error.errno, error.errno)


def _confs(words: tuple[str, ...]) -> None:
    _letters("d")(words)
    for word in words:
        where, dot, rest = word.partition(".")
        if word[:1] != "-" and not (dot and where and ("=" in rest) is not ("-d" in words)):
            what = "TARGET.PARAM" if "-d" in words else "TARGET.PARAM=VALUE"
            raise InputError(f"'{word}' is no {what}")


@verb("lctl conf_param", on=("mgs",), raw=True, check=_confs)
def conf_param(ctx: Context, *settings: str) -> Step:
    """Set parameters of one target or file system for good, with -d no more (on the mgs).

    lctl conf_param TARGET.PARAM=VALUE..., lctl conf_param -d TARGET.PARAM...
    """
    for setting in settings:
        if not setting.startswith("-"):
            name, _, value = setting.partition("=")
            where, _, param = name.partition(".")
            done = ctx.node.conf_param(where, param, value)
            yield from _for_good(ctx, "conf_param", setting, done)


@verb("lctl clear_conf", on=("mgs",))
def clear_conf(ctx: Context, name: str) -> Step:
    """Drop from logs what does not count any more, when nobody else is mounted.

    lctl clear_conf FSNAME | LOG
    """
    try:
        yield from ctx.node.clear_conf(name)
    except LustreError as error:
        ctx.err(f"error: clear_conf: {os.strerror(error.errno)}\n")
        ctx.note(error.errno, error.errno)


@verb("lctl llog_print", on=("mgs",))
def llog_print(ctx: Context, log: str) -> Step:
    """Show what a configuration log says.

    lctl llog_print LOG
    """
    try:
        ctx.out((yield from ctx.node.llog_print(log)))
    except LustreError as error:
        ctx.err(f"OBD_IOC_LLOG_PRINT failed: {os.strerror(error.errno)}\n")
        ctx.note(error.errno, error.errno)


@verb("lctl dl", on=ROLES, least=0)
def dl(ctx: Context) -> Step:
    """List the devices of this node.

    lctl dl
    """
    yield from _lctl(ctx, "dl", ())


_DEVICE = {
    "abort_recovery": ("mds", "oss"),
    "activate": ("client", "mds"),
    "deactivate": ("client", "mds"),
    "recover": ("client", "mds"),
}
"""What --device does, and on which nodes."""


@verb("lctl --device", on=("client", "mds", "oss"))
def device(ctx: Context, name: str, command: str, uuid: str = "") -> Step:
    """Switch an import off or on, connect it anew; stop waiting for a target's clients.

    lctl --device NAME activate | deactivate | recover [NID] | abort_recovery
    """
    if ctx.role not in _DEVICE.get(command, ()):
        raise InputError(f"lctl --device does no '{command}' on {ctx.host.name}")
    try:
        if command == "abort_recovery":
            ctx.node.target(name).abort_recovery()
            return
        device = ctx.node.client_device(name)
        if command == "recover":
            device.imp.reconnect(Nid.parse(uuid) if uuid else 0)
        elif device.active != (command == "activate"):
            device.set_active(command == "activate")
        if device.active:
            yield from device.imp.reached()
    except LustreError as error:
        failed = "" if command == "recover" else " failed:"
        ctx.err(f"error: {command}:{failed} {os.strerror(error.errno)}\n")
        ctx.note(error.errno, error.errno)
