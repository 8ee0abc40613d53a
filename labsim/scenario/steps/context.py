"""What a verb works with, and what a command leaves behind.

Does not know any verb nor which runtime carries it. Stands for a process with its standard streams,
its working directory (the mount point) and its credentials.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterable
from typing import Any

import msgspec

from labsim.base.errors import NAMES, LustreError
from labsim.base.payload import Payload, piece, tobytes
from labsim.scenario.topology import address

MOUNT_POINT = "/mnt/lustre"
"""Where every client mounts the file system, as Lustre's own tests do."""

_SAID = {errno.ENODATA: "No such attribute"}


class Result(msgspec.Struct):
    """What one command did: exit status, output, the last errno, and a verb's own value.

    `chunks` are (file descriptor, bytes) in the order they were written.
    """

    status: int = 0
    errno: int = 0
    value: int | str | None = None
    chunks: list[tuple[int, bytes]] = []

    def _text(self, *streams: int) -> str:
        data = b"".join(data for stream, data in self.chunks if stream in streams)
        return data.decode("utf-8", "surrogateescape")

    @property
    def stdout(self) -> str:
        """Standard output, undecodable bytes as surrogates."""
        return self._text(1)

    @property
    def stderr(self) -> str:
        """Standard error."""
        return self._text(2)

    @property
    def output(self) -> str:
        """Both streams as a terminal shows them."""
        return self._text(1, 2)

    @property
    def errno_name(self) -> str:
        """The errno's name, "ENODATA"; empty after success."""
        return NAMES.get(self.errno, str(self.errno)) if self.errno else ""


class Context:
    """One command's process on one node.

    `vfs` is the system-call face of a client with the command's credentials, None on a server;
    `host` the node's host; `role` one of client, mds, oss, mgs.
    """

    def __init__(self, node: Any, host: Any, role: str, user: tuple[int, int] = (0, 0)) -> None:
        self.node = node
        self.host = host
        self.role = role
        self.vfs: Any = node.process(*user) if role == "client" else None
        self.status = 0
        self.errno = 0
        self.value: int | str | None = None
        self.chunks: list[tuple[int, Payload]] = []

    # ---- output

    def out(self, text: str | Payload) -> None:
        """Write to standard output."""
        self._write(1, text)

    def err(self, text: str) -> None:
        """Write to standard error."""
        self._write(2, text)

    def _write(self, stream: int, text: str | Payload) -> None:
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        if len(data):
            self.chunks.append((stream, data))

    def take_stdout(self) -> list[Payload]:
        """Take standard output away, for a redirection."""
        taken = [data for stream, data in self.chunks if stream == 1]
        self.chunks = [chunk for chunk in self.chunks if chunk[0] != 1]
        return taken

    # ---- failure

    def fail(self, message: str, error: LustreError | int = 0, status: int = 1) -> None:
        """Print one line to standard error, with strerror's words where there is an errno."""
        number = error.errno if isinstance(error, LustreError) else error
        self.err(f"{message}: {os.strerror(number)}\n" if number else f"{message}\n")
        self.note(number, status)

    def note(self, number: int, status: int = 1) -> None:
        """Remember a failure without a word."""
        self.errno = number or self.errno
        self.status = status

    def result(self) -> Result:
        """What the command leaves behind."""
        chunks = [(stream, tobytes(data)) for stream, data in self.chunks]
        value = self.value
        if isinstance(value, str):  # the chunks have every byte, the value is for text
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return Result(self.status, self.errno, value, chunks)

    # ---- what verbs share

    @property
    def source(self) -> str:
        """The device that is mounted: the MGS and the file system."""
        return f"{address('mgs', 0)}:/{self.node.config.fs.fsname}"

    def now_ns(self) -> int:
        """The date in nanoseconds since 1970."""
        return int(self.host.clock.wall_ns())

    def each(
        self, paths: Iterable[str], act: Callable[[str], Any], said: Callable[[str], str]
    ) -> Any:
        """Run `act` on every path; a failure is told and the next one is tried."""
        for path in paths:
            try:
                yield from act(path)
            except LustreError as error:
                self.fail(said(path), error)


def strerror_ea(number: int) -> str:
    """The attr tools' words for an errno: they say "No such attribute" for ENODATA."""
    return _SAID.get(number) or os.strerror(number)


def join(directory: str, name: str) -> str:
    """A name in a directory, as coreutils print it."""
    return directory + name if directory.endswith("/") else f"{directory}/{name}"


def basename(path: str) -> str:
    """The last part of a path without trailing slashes."""
    return path.rstrip("/").rpartition("/")[2] or "/"


def write_all(
    vfs: Any, file: Any, data: Payload, offset: int | None = None
) -> Generator[Any, Any, None]:
    """Write, and what was not taken again, until all is or a call says why not (full_write)."""
    done, length = 0, len(data)
    while done < length:
        rest = piece(data, done, length) if done else data
        done += yield from vfs.write(file, rest, None if offset is None else offset + done)
