"""A small cluster and shorthands for what the client tests do with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.payload import tobytes
from labsim.scenario.cluster import Cluster
from labsim.wire.opcodes import opcode_name


class World:
    """Clients c0, c1 ... of one file system; `run` drives a call to its end."""

    def __init__(self, clients: int = 2, osts: int = 2, **options: Any) -> None:
        self.cluster = Cluster(clients=clients, oss=1, osts=osts, **options)
        self.cluster.__enter__()
        self.env = self.cluster.env
        self.nodes = [self.cluster.node(f"c{n}").machine.node for n in range(clients)]
        self.vfs = [node.process() for node in self.nodes]
        self.sent: list[tuple[str, str]] = []
        self.cluster.trace.listeners.append(self._listen)

    def _listen(self, event: Any) -> None:
        if event.kind == "rpc.send":
            self.sent.append((event.node, opcode_name(event.fields[0])))

    def close(self) -> None:
        self.cluster.close()

    def run(self, steps: Any) -> Any:
        return self.cluster.run(steps)

    def all(self, *steps: Any) -> list[Any]:
        """Run several calls at once; their results or errors."""
        results: list[Any] = [None] * len(steps)

        def one(number: int, what: Any) -> Any:
            try:
                results[number] = yield from what
            except LustreError as error:
                results[number] = error

        events = [self.env.process(one(n, what)) for n, what in enumerate(steps)]
        self.cluster.run(self.env.all_of(events))
        return results

    def errno(self, steps: Any) -> str:
        """The errno's name of a call that must fail."""
        with pytest.raises(LustreError) as raised:
            self.run(steps)
        return raised.value.name

    def rpcs(self, steps: Any, node: str = "c0") -> dict[str, int]:
        """What a node sends while a call runs, until all is quiet again."""
        self.sent.clear()
        self.run(steps)
        self.settle()
        return dict(Counter(name for who, name in self.sent if who == node))

    def settle(self) -> None:
        """Let callbacks and cancels that are under way come to their end."""
        self.cluster.run(self.env.timeout(10_000_000))

    def make(self, path: str, data: bytes = b"", client: int = 0) -> None:
        """A file with this content."""

        def steps() -> Any:
            vfs = self.vfs[client]
            file = yield from vfs.open(path, 0o101 | 0o1000, 0o644)
            if data:
                yield from vfs.write(file, data)
            yield from vfs.close(file)

        self.run(steps())

    def read(self, path: str, client: int = 0) -> bytes:
        """All of a file."""

        def steps() -> Any:
            vfs = self.vfs[client]
            file = yield from vfs.open(path)
            data = yield from vfs.read(file, 1 << 20)
            yield from vfs.close(file)
            return tobytes(data)

        return self.run(steps())

    def param(self, pattern: str, client: int = 0) -> str:
        return self.nodes[client].host.params.get(pattern)[0][1]
