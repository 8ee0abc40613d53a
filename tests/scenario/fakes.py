"""A tiny node and a tiny shell, so that clusters can be tested without a file system."""

from __future__ import annotations

from labsim.base.component import Component
from labsim.base.errors import InputError, LustreError
from labsim.base.ids import Nid
from labsim.base.overlay import Kit
from labsim.base.params import Param
from labsim.base.payload import tobytes
from labsim.scenario.steps.context import Result
from labsim.scenario.topology import address

REQUEST, REPLY = 12, 10


class Knobs(Component, tree="fake"):
    level = Param.count(1, unit="things", help="a number to set")


class FakeNode:
    """Echoes what it gets; a server counts in its first OSD, so that a restart can remember."""

    def __init__(self, host, config):
        self.host = host
        self.config = config
        self.echoed = 0
        self.knobs = Knobs()
        host.params.mount(self.knobs)

    def start(self):
        for pattern, text in self.config.fs.params:
            self.host.params.set(pattern, text)
        self.host.lnet.serve(REQUEST, self._echo)
        self.host.trace.emit("fake.start", self.config.incarnation)
        yield self.host.env.timeout(1000)

    def stop(self):
        yield self.host.env.timeout(1000)

    def _echo(self, packet):
        self.echoed += 1
        self.host.lnet.put(packet.src, REPLY, packet.match, b"echo " + tobytes(packet.payload))

    def call(self, nid, payload):
        done = self.host.env.event()
        match = self.host.rng.getrandbits(64)
        entry = self.host.lnet.post(REPLY, match, done.succeed, once=True)
        self.host.lnet.put(nid, REQUEST, match, payload)
        yield self.host.env.any_of([done, self.host.env.timeout(300_000_000)])
        entry.unlink()
        if not done.triggered:
            raise LustreError(110, "no echo")
        return tobytes(done.value.payload)

    def snapshot(self):
        return {"echoed": self.echoed, "level": self.knobs.level}


def kit(spec):
    return Kit()


def execute(node, host, role, text, values=None, user=""):
    """echo NODE TEXT | sleep NS | boom | bug | crash | level"""
    verb, *words = text.split()
    out, status, errno = "", 0, 0
    if verb == "echo":
        kind, index = ("mds", 0) if words[0].startswith("MDT") else ("oss", int(words[0][3:], 16))
        nid = Nid.parse(address(kind, index))
        try:
            reply = yield from node.call(nid, words[1].encode())
            out = reply.decode()
        except LustreError as error:
            status, errno = 1, error.errno
    elif verb == "sleep":
        yield host.env.timeout(int(words[0]))
    elif verb == "boom":
        raise InputError(f"boom of {values}")
    elif verb == "bug":
        raise AssertionError("a bug")
    elif verb == "background-bug":
        host.env.process(_bug(host))
    elif verb == "crash":
        node.on_crash()
        yield host.env.timeout(10**9)
    elif verb == "level":
        out = str(node.knobs.level)
    elif verb == "disk":
        out = yield from _disk(host, words)
    return Result(status, errno, None, [(1, out.encode())])


def _bug(host):
    yield host.env.timeout(1000)
    raise AssertionError("a bug in the background")


def _disk(host, words):
    """disk put KEY [sync] | disk get KEY"""
    from labsim.base.ids import Fid
    from labsim.storage.osd import Attrs

    osd = next(iter(host.osd.values()))
    fid = Fid(0x200000400, 1, 0)
    key = words[1].encode()
    if words[0] == "get":
        found = osd.lookup(fid, key) if osd.exists(fid) else None
        return "none" if found is None else found.decode()
    tx = osd.transaction()
    if not osd.exists(fid):
        tx.create(fid, Attrs(mode=0o40755))
    tx.insert(fid, key, b"here")
    yield from tx.stop(sync="sync" in words)
    return "put"


def disk(env, path, offload, **size):
    from labsim.storage.osd_mem import OsdMem

    return OsdMem(env, **size)


NAMES = dict.fromkeys(("client", "mds", "oss", "mgs"), "tests.scenario.fakes:FakeNode")
FAKE = {
    "made_of": NAMES,
    "kits": "tests.scenario.fakes:kit",
    "disk": "tests.scenario.fakes:disk",
    "shell": "tests.scenario.fakes:execute",
}
