"""lctl get_param, set_param, list_param and dl over one node's parameter tree.

Pure functions: words in, text out. Does not know any parameter, nor which release it speaks as: the
tree's dialect says which of its habits hold (`base.dialect.LctlStyle`). Stands for
lustre/utils/lustre_cfg.c (jt_lcfg_getparam and its kin) and for the part of lctl around it.

    status, out, err = run(tree, ["get_param", "-n", "osc.*.max_dirty_mb"])

A parameter that waits (for an RPC, a cancel) wants the generator: `yield from running(...)`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from inspect import isgenerator
from typing import Any, NamedTuple

from labsim.base.dialect import LctlStyle
from labsim.base.errors import InputError, LustreError
from labsim.base.param_names import slashed
from labsim.base.param_tree import Entry, File, ParamTree, at_once

PAGE = 4096
OPTIONS = {"get_param": "FnNR", "list_param": "FRD", "set_param": "n"}
USAGE = {
    "get_param": "usage: get_param [-F] [-n|-N] [-R] PATTERN ...",
    "list_param": "usage: list_param [-F] [-R] [-D] PATTERN ...",
    "set_param": "usage: set_param [-n] PATTERN=VALUE ... | PATTERN VALUE ...",
}


class Output(NamedTuple):
    """What a command leaves behind: exit status, standard output, standard error."""

    status: int
    stdout: str
    stderr: str


class Refused(Exception):
    """A file did not open, or its read or write failed."""

    def __init__(self, number: int, opening: bool) -> None:
        super().__init__(number)
        self.number = number
        self.opening = opening


def run(tree: ParamTree, argv: list[str]) -> Output:
    """One lctl command: `argv` without the word lctl."""
    result: Output = at_once(running(tree, argv))
    return result


def running(tree: ParamTree, argv: list[str]) -> Generator[Any, Any, Output]:
    """As `run`, for parameters that wait: a generator that returns the Output."""
    session = Session(tree)
    command = argv[0] if argv else ""
    if command in ("dl", "device_list"):
        session.devices()
    elif command not in OPTIONS:
        known = ", ".join([*OPTIONS, "dl"])
        raise InputError(f"lctl: '{command}' is not known here; known are {known}")
    else:
        yield from session.command(command, argv[1:])
    return Output(abs(session.status), "".join(session.out), "".join(session.err))


class Session:
    """One run of lctl: the options, what it printed, and its status so far."""

    def __init__(self, tree: ParamTree) -> None:
        self.tree = tree
        self.style: LctlStyle = tree.dialect.lctl
        self.out: list[str] = []
        self.err: list[str] = []
        self.status = 0
        self.flags = ""

    def command(self, command: str, words: list[str]) -> Generator[Any, Any, None]:
        """Parse the options, then work through the operands."""
        operands = self._options(command, words)
        if operands is None or not operands:
            self.err.append(USAGE[command] + "\n")
            self.status = self.style.exit_help
        elif command == "set_param":
            yield from self._set_all(operands)
        else:
            listing = command == "list_param" or "N" in self.flags
            for operand in operands:
                path = self._path(operand)
                failed = yield from self._each(command, path, listing=listing)
                if failed and command == "list_param" and not self.style.old:
                    told = os.strerror(failed)
                    self.err.append(f"error: list_param: listing '{path}': {told}\n")
                self._fail(failed)

    def devices(self) -> None:
        """Print what the file `devices` says."""
        for entry in self.tree.glob("devices"):
            if entry.file is not None:
                self.out.append(at_once(entry.file.show()))

    # ---- words

    def _options(self, command: str, words: list[str]) -> list[str] | None:
        """The operands, with the flags noted; None after an option that is not known (getopt)."""
        allowed = OPTIONS[command]
        if self.style.old:
            allowed = {"get_param": "nNF", "list_param": "FR"}.get(command, allowed)
        operands: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "--":
                operands += rest
            elif word.startswith("-") and len(word) > 1 and not word[1].isdigit():
                for letter in word[1:]:
                    if letter not in allowed:
                        self.err.append(f"{command}: invalid option -- '{letter}'\n")
                        return None
                self.flags += word[1:]
            else:
                operands.append(word)
        if self.style.old and not operands and "R" in self.flags:
            return ["*"]
        return operands

    def _path(self, operand: str) -> str:
        if "F" in self.flags and not self.style.old and operand[-1:] in ("@", "=", "/"):
            operand = operand[:-1]
        return slashed(operand, self.style.nids)

    def _fail(self, number: int) -> None:
        """Keep the first failure as the status."""
        self.status = self.status or number

    # ---- what matches

    def _each(self, command: str, path: str, listing: bool = False) -> Generator[Any, Any, int]:
        """Show or list all that matches; the errno of the first failure, or 0."""
        entries = self.tree.glob(path)
        if not entries:
            return self._no_match(command, path)
        failed, seen = 0, set()
        for entry in entries:
            if (entry.file is None or listing) and entry.parts in seen:
                continue
            seen.add(entry.parts)
            if listing and not ("D" in self.flags and entry.file is not None):
                self.out.append(self._name(entry) + "\n")
            elif entry.file is not None and not listing:
                failed = (yield from self._show(entry, entry.file)) or failed
            if entry.file is None and "R" in self.flags:
                below = "/".join([*entry.parts, "*"])
                failed = (yield from self._each(command, below, listing)) or failed
        return failed

    def _no_match(self, command: str, path: str) -> int:
        if "R" in self.flags and not self.style.old:
            return errno.ENOENT
        if not self.style.old:
            told = os.strerror(errno.ENOENT)
            self.err.append(f"error: {command}: param_path '{path}': {told}\n")
            return errno.ENOENT
        if self.style.names_roots:
            path = f"/proc/{{fs,sys}}/{{lnet,lustre}}/{path}"
        if command == "get_param" and "N" in self.flags:
            command = "list_param"
        self.err.append(f"error: {command}: {path}: Found no match\n")
        return errno.ESRCH

    def _name(self, entry: Entry, plain: bool = False) -> str:
        """The dotted name; with -F what it is: / a directory, = a file to write."""
        if plain or "F" not in self.flags:
            return entry.name
        if entry.file is None:
            return entry.name + "/"
        return entry.name + ("=" if entry.file.access != "ro" else "")

    # ---- reading

    def _show(self, entry: Entry, file: File) -> Generator[Any, Any, int]:
        """Print NAME=VALUE of one file; its errno where it could not be read."""
        try:
            text = yield from read_file(file)
        except Refused as refused:
            return self._not_read(entry, refused)
        if text and "n" in self.flags:
            self.out.append(text)
        elif text:
            name = self._name(entry, plain=self.style.old)
            gap = "\n" if self._wraps(name, text) else ""
            self.out.append(f"{name}={gap}{text}")
        return 0

    def _wraps(self, name: str, text: str) -> bool:
        """Whether the value begins on a line of its own."""
        first = text[:PAGE]
        if "\n" in first[:-1]:
            return True
        if self.style.wraps == "name80":
            return len(first) + len(name) >= 80
        return self.style.wraps == "value60" and len(first) > 60

    def _not_read(self, entry: Entry, refused: Refused) -> int:
        told = os.strerror(refused.number)
        if self.style.old:
            verb = "opening" if refused.opening else "read"
            self.err.append(f"error: get_param: {verb}('{entry.path}') failed: {told}\n")
            return 0 if refused.opening else 1
        if not self.style.hushes_reads:
            self.err.append(f"error: read_param: '{entry.path}': {told}\n")
            return refused.number
        if refused.opening:
            self.err.append(f"error: get_param: opening '{entry.path}': {told}\n")
        elif refused.number != errno.EIO:
            self.err.append(f"error: get_param: reading '{entry.name}': {told}\n")
        return 0

    # ---- writing

    def _set_all(self, operands: list[str]) -> Generator[Any, Any, None]:
        """PATTERN=VALUE and PATTERN VALUE, mixed as they come."""
        rest = iter(operands)
        for operand in rest:
            name, equals, value = operand.partition("=")
            if not equals:
                value = next(rest, "")
            if not value:
                self._no_value(name)
                if self.style.old or self.style.repeats or not equals:
                    return
                continue
            path = self._path(name)
            failed = yield from self._set_each(path, value)
            if self.style.repeats:
                self.status = failed
                if failed:
                    told = os.strerror(failed)
                    self.err.append(f"error: set_param: setting '{path}'='{value}': {told}\n")
            self._fail(failed)

    def _no_value(self, name: str) -> None:
        told = os.strerror(errno.EINVAL)
        if self.style.old:
            self.err.append(
                f"error: set_param: setting {slashed(name, self.style.nids)}=: {told}\n"
            )
            self.status = errno.EINVAL
        elif self.style.repeats:
            self.err.append(f"error: set_param: setting {name}: {told}\n")
            self.status = errno.EINVAL
        else:
            self.err.append(f"error: set_param: setting {name}: no value\n")
            self._fail(errno.EINVAL)

    def _set_each(self, path: str, value: str) -> Generator[Any, Any, int]:
        """Write to all that matches; the errno of the first failure, or 0."""
        entries = self.tree.glob(path)
        if not entries:
            return self._no_match("set_param", path)
        failed = 0
        for entry in entries:
            if entry.file is None:
                continue
            said = f"{entry.name}={value}\n" if "n" not in self.flags else ""
            if self.style.old:
                self.out.append(said)
            try:
                yield from write_file(entry.file, value)
            except Refused as refused:
                failed = failed or self._not_written(entry, value, refused)
            else:
                if not self.style.old:
                    self.out.append(said)
                elif self.style.names_roots:
                    failed = 0
        return failed

    def _not_written(self, entry: Entry, value: str, refused: Refused) -> int:
        told = os.strerror(refused.number)
        if refused.opening and self.style.old:
            self.err.append(f"error: set_param: opening {told}: {entry.path}\n")
        elif refused.opening:
            self.err.append(f"error: set_param: opening '{entry.path}': {told}\n")
        elif self.style.old or refused.number != errno.EIO:
            self.err.append(f"error: set_param: setting {entry.path}={value}: {told}\n")
        return 1 if self.style.names_roots else refused.number


def read_file(file: File) -> Generator[Any, Any, str]:
    """The text of a file as read(2) gives it."""
    if file.access == "wo":
        raise no_entry(file)
    try:
        text = file.show()
        if isgenerator(text):
            text = yield from text
    except LustreError as error:
        raise Refused(error.errno, opening=False) from error
    return str(text)


def write_file(file: File, value: str) -> Generator[Any, Any, None]:
    """What write(2) of the value does to a file."""
    if file.access == "ro":
        raise no_entry(file)
    try:
        stored = file.store(value)
        if isgenerator(stored):
            yield from stored
    except LustreError as error:
        raise Refused(error.errno, opening=False) from error


def no_entry(file: File) -> Refused:
    """How root meets a file without that operation: sysfs does not open it, the others fail."""
    if file.location == "sysfs":
        return Refused(errno.EACCES, opening=True)
    return Refused(errno.EIO if file.location == "procfs" else errno.EINVAL, opening=False)
