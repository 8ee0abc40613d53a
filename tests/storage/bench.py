"""Both kinds of OSD, to open, crash and open again."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from labsim.runtime.sim import environment
from labsim.storage.osd import Osd
from labsim.storage.osd_lmdb import OsdLmdb
from labsim.storage.osd_mem import OsdMem


class Bench:
    """An OSD in an environment of its own; `osd` changes when it is opened again."""

    def __init__(self, kind: str, path: Path, **options: Any) -> None:
        self.kind = kind
        self.path = path
        self.options = options
        self.env = environment()
        self.held: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.hold = False
        self.osd: Osd = self._open()

    def _open(self) -> Osd:
        if self.kind == "mem":
            return OsdMem(self.env, **self.options)
        return OsdLmdb(self.env, self.path, self._offload, **self.options)

    def _offload(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """A helper thread that is done at once, or when the test says so."""
        if self.hold:
            self.held.append((work, done))
        else:
            done(work())

    def io(self, nbytes: int, write: bool) -> Generator[Any, Any, None]:
        """For `OsdMem`: a disk that is done at once, or when the test says so."""
        if self.hold and write:
            event = self.env.event()
            self.held.append((lambda: None, event.succeed))
            yield event

    def release(self) -> None:
        """Let the disk go on."""
        self.hold = False
        held, self.held = self.held, []
        for work, done in held:
            done(work())

    def run(self, steps: Generator[Any, Any, Any]) -> Any:
        """The result of a generator, when it is done."""
        return self.env.run(self.env.process(steps))

    def tx(self, *changes: tuple[Any, ...], sync: bool = False) -> None:
        """One transaction: `("write", fid, 0, b"x"), ...`."""
        tx = self.osd.transaction()
        for name, *arguments in changes:
            getattr(tx, name)(*arguments)
        self.run(tx.stop(sync))

    def read(self, fid: Any, offset: int = 0, length: int = 1 << 40) -> Any:
        return self.run(self.osd.read(fid, offset, length))

    def wait(self, nanoseconds: int) -> None:
        self.env.run(self.env.now + nanoseconds)

    def reopen(self) -> None:
        """Shut down as it should be, and open."""
        self.run(self.osd.close())
        if self.kind == "lmdb":
            self.osd = self._open()

    def close(self) -> None:
        self.release()
        self.run(self.osd.close())
