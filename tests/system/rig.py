"""Processes on clients of one cluster, so that a test can make system calls as a program would."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from types import GeneratorType
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.payload import tobytes
from labsim.nodes.client.cred import ROOT, Cred
from labsim.nodes.client.vfs import Vfs
from labsim.scenario.cluster import Cluster

O_RDONLY, O_WRONLY, O_RDWR = 0, 1, 2
O_CREAT, O_EXCL, O_TRUNC, O_APPEND = 0o100, 0o200, 0o1000, 0o2000
O_SYNC, O_DIRECTORY, O_NOFOLLOW = 0o4010000, 0o200000, 0o400000


class Process:
    """One process on a client: every call of Vfs, run at once; OSError with Linux's errno."""

    def __init__(self, cluster: Cluster, client: int, cred: Cred = ROOT) -> None:
        self.cluster = cluster
        self.client = client
        self.vfs = Vfs(cluster.client(client).machine.node, cred)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.vfs, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if isinstance(result, GeneratorType):
                return self.cluster.run(_errno(result))
            return result

        return call

    def read(self, file: Any, length: int, offset: int | None = None) -> bytes:
        """System calls read, pread."""
        return tobytes(self.cluster.run(_errno(self.vfs.read(file, length, offset))))

    def put(self, path: str, data: bytes = b"", mode: int = 0o666) -> None:
        """Write a whole file."""
        file = self.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode)
        if data:
            self.write(file, data)
        self.close(file)

    def get(self, path: str) -> bytes:
        """Read a whole file."""
        file = self.open(path)
        try:
            return self.drain(file)
        finally:
            self.close(file)

    def drain(self, file: Any) -> bytes:
        """Everything from the file's position on."""
        found = b""
        while data := self.read(file, 1 << 22):
            found += data
        return found

    def names(self, path: str = ".") -> list[str]:
        """The names in a directory, sorted, without the dots."""
        return sorted(name for name, _, _ in self.readdir(path) if name not in (".", ".."))


def _errno(call: Any) -> Any:
    """The call, with an OSError for its LustreError, as Python's own calls have."""
    try:
        return (yield from call)
    except LustreError as error:
        raise OSError(error.errno, str(error)) from error


@contextmanager
def fails(*codes: int) -> Iterator[None]:
    """The block raises OSError with one of these errnos."""
    with pytest.raises(OSError) as caught:
        yield
    names = errno.errorcode
    got, wanted = caught.value.errno, [names[code] for code in codes]
    assert got in codes, f"{names.get(got, got)}, not {' or '.join(wanted)}: {caught.value}"
