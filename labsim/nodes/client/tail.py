"""Small writes that follow one another, put together as they come.

Knows bytes and where they are in an object, not what becomes of them. Stands for the pages that a
write copies into: what lies in one buffer need not be put together when it is sent.
"""

from __future__ import annotations

from labsim.base.units import MIB


class Tail:
    """The buffer that the last write went into, and where that ended.

    Writes that go on from there are appended, as long as nobody looks at the buffer; what is in it
    never changes. It ends with its MiB, so that nothing much hangs on a few bytes of it.
    """

    __slots__ = ("buffer", "end", "start")

    def __init__(self) -> None:
        self.buffer: bytes | bytearray = b""
        self.start, self.end = 0, -1

    def put(self, at: int, data: bytes | bytearray | memoryview) -> int:
        """Take what was written at `at`; where in the buffer it is."""
        follows, self.end = at == self.end, at + len(data)
        if follows and isinstance(self.buffer, bytearray) and at % MIB:
            try:
                self.buffer += data
            except BufferError:
                pass
            else:
                return at - self.start
        self.start = at
        self.buffer = bytearray(data) if follows else bytes(data)
        return 0
