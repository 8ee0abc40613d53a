"""Verbs for extended attributes: setfattr, getfattr.

Does not know namespaces or caches. Stands for the attr package, whose words and layout it keeps.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Generator
from typing import Annotated, Any

from labsim.base.errors import InputError, LustreError
from labsim.scenario.steps.context import Context, strerror_ea
from labsim.scenario.steps.registry import flag, verb

Step = Generator[Any, Any, Any]

_ESCAPES = {ord("\\"): b"\\", ord('"'): b'"'}


MOSTLY = 8
"""A value is text where at most one byte in so many cannot be printed (well_enough_printable)."""


@verb()
def setfattr(
    ctx: Context,
    *files: str,
    name: Annotated[str, flag("-n", "--name")] = "",
    value: Annotated[str, flag("-v", "--value")] = "",
    remove: Annotated[str, flag("-x", "--remove")] = "",
    no_dereference: Annotated[bool, flag("-h", "--no-dereference")] = False,
) -> Step:
    """Set or remove an extended attribute.

    setfattr {-n NAME [-v VALUE] | -x NAME} [-h] FILE...
    VALUE is text, 0xHEX, 0sBASE64, or quoted text with octal escapes.
    """
    if bool(name) == bool(remove):
        raise InputError("setfattr needs either -n NAME or -x NAME")
    data = decode_value(value)
    follow = not no_dereference
    for path in files:
        try:
            if remove:
                yield from ctx.vfs.removexattr(path, remove, follow=follow)
            else:
                yield from ctx.vfs.setxattr(path, name, data, 0, follow=follow)
        except LustreError as error:
            ctx.fail(f"setfattr: {path}: {strerror_ea(error.errno)}")
            ctx.note(error.errno)


def decode_value(text: str) -> bytes:
    """A value as setfattr reads it: 0xHEX, 0sBASE64, "quoted" or plain."""
    try:
        if text[:2] in {"0x", "0X"}:
            return bytes.fromhex(text[2:])
        if text[:2] in {"0s", "0S"}:
            return base64.b64decode(text[2:], validate=True)
    except ValueError:
        raise InputError(f"setfattr: bad input encoding '{text}'") from None
    data = text.encode("utf-8", "surrogateescape")
    if len(data) < 2 or not (data[:1] == data[-1:] == b'"'):
        return data
    return re.sub(rb"\\([0-7]{3}|.)", _unescape, data[1:-1])


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code, 8) & 255]) if len(code) == 3 else code


def encode_value(data: bytes, encoding: str = "") -> str:
    """A value as getfattr prints it: quoted text where it is text, base64 where it is not."""
    if encoding == "hex":
        return "0x" + data.hex()
    counted = data.removesuffix(b"\0")
    strange = sum(not 32 <= byte < 127 for byte in counted)
    if encoding == "base64" or (not encoding and len(counted) < strange * MOSTLY):
        return "0s" + base64.b64encode(data).decode()
    body = b"".join(
        b"\\" + bytes([byte]) if byte in b'\\"' else b"\\%03o" % byte if byte in b"\n\r\0" else
        bytes([byte]) for byte in data
    )  # fmt: skip
    return f'"{body.decode("utf-8", "surrogateescape")}"'


def quoted_name(name: str) -> str:
    """A name in getfattr's output: = and control characters as octal."""
    return re.sub(r"[\\=\n\r\t]", lambda match: f"\\{ord(match[0]):03o}", name)


@verb()
def getfattr(
    ctx: Context,
    *files: str,
    name: Annotated[str, flag("-n", "--name")] = "",
    dump: Annotated[bool, flag("-d", "--dump")] = False,
    encoding: Annotated[str, flag("-e", "--encoding")] = "",
    only_values: Annotated[bool, flag("--only-values")] = False,
    match: Annotated[str, flag("-m", "--match")] = "^user\\.",
    no_dereference: Annotated[bool, flag("-h", "--no-dereference")] = False,
    absolute: Annotated[bool, flag("--absolute-names")] = False,
) -> Step:
    """Show attributes.

    getfattr [-n NAME] [-d] [-e ENC] [-m PATTERN] [--only-values] [-h] FILE...
    Without -n lists the names that PATTERN matches (-: all), with values by -d; ENC is text, hex
    or base64.
    """
    if encoding and encoding not in {"text", "hex", "base64"}:
        raise InputError(f"getfattr: '{encoding}' is no encoding; one of text, hex, base64")
    tool = _Getfattr(ctx, not no_dereference, encoding, only_values)
    for path in files:
        try:
            yield from ctx.vfs.stat(path, follow=not no_dereference)
            if name:
                names, values = [name], True
            else:
                names = yield from tool.names(path, "" if match == "-" else match)
                values = dump or only_values
            yield from tool.show(path, names, values, absolute)
        except LustreError as error:
            ctx.fail(f"getfattr: {path}: {strerror_ea(error.errno)}")
            ctx.note(error.errno)


class _Getfattr:
    """One getfattr: how it prints."""

    def __init__(self, ctx: Context, follow: bool, encoding: str, only_values: bool) -> None:
        self.ctx = ctx
        self.follow = follow
        self.encoding = encoding
        self.only_values = only_values

    def names(self, path: str, pattern: str) -> Step:
        """The names that match; asks for the length first, as the tool does."""
        vfs = self.ctx.vfs
        length = yield from vfs.listxattr(path, 0, follow=self.follow)
        if not length:
            return []
        data = yield from vfs.listxattr(path, length, follow=self.follow)
        return sorted(name for name in xattr_names(data) if re.search(pattern, name))

    def show(self, path: str, names: list[str], values: bool, absolute: bool) -> Step:
        headed = self.only_values
        for name in names:
            data = b""
            if values:
                try:
                    data = yield from self._value(path, name)
                except LustreError as error:
                    words = strerror_ea(error.errno)
                    self.ctx.fail(f"{path}: {quoted_name(name)}: {words}")
                    self.ctx.note(error.errno)
                    continue
            if self.only_values:
                self.ctx.out(data)
                continue
            if not headed:
                self._head(path, absolute)
                headed = True
            shown = f"={encode_value(bytes(data), self.encoding)}" if values else ""
            self.ctx.out(f"{quoted_name(name)}{shown}\n")
        if headed and not self.only_values:
            self.ctx.out("\n")

    def _value(self, path: str, name: str) -> Step:
        length = yield from self.ctx.vfs.getxattr(path, name, 0, follow=self.follow)
        if not length:
            return b""
        return (yield from self.ctx.vfs.getxattr(path, name, length, follow=self.follow))

    def _head(self, path: str, absolute: bool) -> None:
        if path.startswith("/") and not absolute:
            self.ctx.err("getfattr: Removing leading '/' from absolute path names\n")
            path = path.lstrip("/")
        self.ctx.out(f"# file: {path}\n")


def xattr_names(data: Any) -> list[str]:
    """The names of listxattr's answer, which separates them by NUL."""
    if isinstance(data, (list, tuple)):
        return list(data)
    text = bytes(data).decode("utf-8", "surrogateescape")
    return [name for name in text.split("\0") if name]
