"""A stormy run: two clients at random, lost packets, fault points, servers that lose their power.

`python -m tests.system.storm SEED` prints the hash of the run, for tests in other processes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.payload import Fill
from labsim.base.units import NS_PER_MS, NS_PER_S
from labsim.nodes.client.cred import Cred
from labsim.nodes.client.vfs import Vfs
from labsim.scenario import checkers
from labsim.scenario.cluster import Cluster

NAMES = ["a", "b", "c", "a/x", "b/x", "c/x"]
O_RDWR_CREAT = 0o102


def calls(vfs: Vfs, rng: Random) -> Any:
    """One random call."""
    path, other = rng.choice(NAMES), rng.choice(NAMES)
    name = f"user.{rng.choice('pq')}"
    some: list[Callable[[], Any]] = [
        lambda: vfs.mkdir(path),
        lambda: vfs.rmdir(path),
        lambda: vfs.unlink(path),
        lambda: vfs.rename(path, other),
        lambda: vfs.link(path, other),
        lambda: vfs.symlink(path, other),
        lambda: vfs.stat(path),
        lambda: vfs.readdir(path),
        lambda: vfs.chmod(path, rng.choice((0o644, 0o755))),
        lambda: vfs.truncate(path, rng.randrange(1 << 20)),
        lambda: vfs.setxattr(path, name, bytes(rng.randrange(9))),
        lambda: vfs.getxattr(path, name),
        vfs.statfs,
        vfs.sync,
        lambda: write(vfs, path, rng),
        lambda: write(vfs, path, rng),
        lambda: write(vfs, path, rng),
    ]
    return rng.choice(some)()


def write(vfs: Vfs, path: str, rng: Random) -> Any:
    """Open, write, read, close."""
    file = yield from vfs.open(path, O_RDWR_CREAT)
    try:
        yield from vfs.write(file, Fill(rng.randrange(1, 200_000), seed=7), rng.randrange(1 << 19))
        yield from vfs.read(file, 4096, rng.randrange(1 << 19))
    finally:
        yield from vfs.close(file)


def user(cluster: Cluster, client: int, seed: int, count: int) -> Any:
    """A process that makes random calls and takes what comes."""
    rng = Random(f"{seed}:{client}")
    vfs = Vfs(cluster.client(client).machine.node, Cred(umask=0))
    for _ in range(count):
        try:
            yield from calls(vfs, rng)
            done = 0
        except LustreError as error:
            done = error.errno
        except ProtocolError:
            done = 71
        cluster.trace.emit(f"c{client}", "storm", (done,))
        yield cluster.env.timeout(rng.randrange(NS_PER_S))


def weather(cluster: Cluster, seed: int) -> Any:
    """Lose packets, hit fault points, take the power of an OSS and of the MDS."""
    env = cluster.env
    rng = Random(f"{seed}:weather")
    yield env.timeout(50 * NS_PER_MS)
    yield cluster.net(cluster.rule("loss", rate=0.02, seed=seed))
    mds = cluster.node("mds0")
    yield mds.command("lctl set_param fail_val=20 fail_loc=0x08000119")
    yield env.timeout(20 * NS_PER_S)
    yield cluster.heal()
    yield mds.command("lctl set_param fail_loc=0")
    for name in ("oss1", "mds0"):
        yield cluster.node(name).kill()
        yield env.timeout(NS_PER_S)
        yield cluster.node(name).start()
        yield env.timeout(rng.randrange(60 * NS_PER_S))


def run(seed: int, count: int = 150) -> tuple[str, int, list[str]]:
    """The hash of a storm, how many events it had, and the invariants that do not hold after it."""
    with Cluster(clients=2, oss=2, osts=4, seed=seed, trace_keep=0) as cluster:
        env = cluster.env
        root = Vfs(cluster.client(0).machine.node)
        cluster.run(root.setstripe(".", count=2, size=65536))
        users = [env.process(user(cluster, client, seed, count)) for client in (0, 1)]
        cluster.run(env.all_of([*users, env.process(weather(cluster, seed))]))
        cluster.run(env.timeout(600 * NS_PER_S))
        broken = checkers.check([cluster.run(cluster.snapshots())])
        return cluster.hash, cluster.trace.count, broken


if __name__ == "__main__":
    print(run(int(sys.argv[1]))[0])
