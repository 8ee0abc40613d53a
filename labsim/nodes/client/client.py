"""The client: one mount of one file system.

Knows the order in which a mount puts its parts together, not what they do. Stands for
mount.lustre and the client's part of obd_mount.c: the MGS's log says which devices there are.
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import uuid_text
from labsim.net.ptlrpc import State
from labsim.nodes.client.cred import Cred
from labsim.nodes.client.fileio import FileData
from labsim.nodes.client.llite import Llite
from labsim.nodes.client.lov_files import LovFiles
from labsim.nodes.client.mdc import Mdc
from labsim.nodes.client.osc import Osc
from labsim.nodes.client.readahead import ReadAhead
from labsim.nodes.client.vfs import Vfs
from labsim.nodes.config import NodeConfig, TargetInfo
from labsim.nodes.config_reader import PARAMS
from labsim.nodes.globals import Device
from labsim.nodes.mgc import Mgc
from labsim.nodes.node import Node
from labsim.nodes.setup import Setup
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import LDLM_CB_REPLY_PORTAL, LDLM_CB_REQUEST_PORTAL

LAYOUT_HEAD, LAYOUT_STRIPE = 48, 24
"""Bytes of a lov_mds_md_v3 and of each stripe in it."""

CALLBACK_THREADS = 16

PLACES = {"osc": "osc.{device}-*", "mdc": "mdc.{device}-*", "llite": "llite.{device}-*"}
"""Where the parameters of a device in the log are on a client."""


class Client(Node):
    """One client with the file system mounted on /mnt/lustre."""

    kind = "client"

    def __init__(self, host: Host, config: NodeConfig) -> None:
        super().__init__(host, config)
        rng = host.rng
        self.instance = f"ffff88{rng.getrandbits(28) << 12:010x}"
        self.uuid = uuid_text(rng.getrandbits(128))
        self.mdcs: list[Mdc] = []
        self.oscs: dict[int, Osc] = {}
        """MDTs and OSTs that the log has named so far, by index."""
        requeue_min_s = config.fs.mgc_requeue_timeout_min
        self.mgc: Mgc = self.make(Mgc, self, config.fs.mgs, requeue_min_s)
        self._mounted = False
        name = f"{config.fs.fsname}-{self.instance}"
        self.llite: Llite = self.make(Llite, self, name, self.uuid, self.mdcs)
        self.llite.data = self.data = self.make(FileData, self, self.oscs)
        self.data.readahead = self.make(
            ReadAhead, self.llite, self.llite.read_ahead_stats, self._rpc_pages
        )
        host.params.mount(self.llite, name=name)
        self.lov_files: LovFiles = self.make(LovFiles, self.oscs)
        host.params.mount(self.lov_files, name=f"{config.fs.fsname}-clilov-{self.instance}")

    def _device(self, kind: str, target: TargetInfo) -> Any:
        """Set up one device, and mount its parameters; connect it where the mount is done."""
        name = f"{target.name}-{kind}-{self.instance}"
        device: Any = self.make(Mdc if kind == "mdc" else Osc, self, target, name, self.uuid)
        self.host.params.mount(device, name=name)
        if kind == "mdc":
            device.blocking = self.llite.lost
            self.mdcs.append(device)
            self.mdcs.sort(key=_index)
        else:
            known = sorted([*self.oscs.values(), device], key=_index)
            self.oscs.clear()
            self.oscs.update((osc.info.index, osc) for osc in known)
        self._size_layouts()
        if self._mounted:
            self.host.env.process(self._join(device))
        return device

    def _join(self, device: Any) -> Steps[None]:
        """Connect to a target that was added to a mounted file system."""
        try:
            yield from device.imp.connect()
        except LustreError as error:
            self.host.trace.emit("mount.refused", device.name, error.errno)

    def _moved(self, kind: str, index: int, nids: tuple[int, ...], instance: int) -> None:
        """A target has come up somewhere: go there at once (mgc_apply_recover_logs)."""
        devices: list[Any] = [*(self.mdcs if kind == "mdt" else self.oscs.values())]
        for device in devices:
            if device.info.index == index:
                any(device.imp.recover(nid, instance) for nid in nids)

    def _rpc_pages(self) -> int:
        """Pages in a BRW that every OST takes (cra_rpc_size)."""
        return min((osc.max_pages_per_rpc for osc in self.oscs.values()), default=1)

    def _size_layouts(self) -> None:
        """The largest layout is one with a stripe on every OST (lov_mds_md_size)."""
        largest = LAYOUT_HEAD + LAYOUT_STRIPE * len(self.oscs)
        for mdc in self.mdcs:
            mdc.max_easize = max(mdc.max_easize, largest)

    def devices(self) -> list[Device]:
        """What `lctl dl` lists."""
        mount = f"{self.config.fs.fsname}-%s-{self.instance}"
        return [
            self.mgc.device,
            Device("lov", mount % "clilov", self.uuid, 3),
            Device("lmv", mount % "clilmv", self.uuid),
            *(Device("mdc", mdc.name, self.uuid) for mdc in self.mdcs),
            *(Device("osc", osc.name, self.uuid) for osc in self.oscs.values()),
        ]

    def client_devices(self) -> list[Any]:
        """The ways to its targets."""
        return [*self.mdcs, *self.oscs.values()]

    # ---- mount, umount

    def start(self) -> Steps[None]:
        """Mount -t lustre: what the MGS's logs say, then connections, then the root.

        ENOENT where the MGS knows no such file system, EIO where there is no MGS.
        """
        yield from super().start()
        self.serve("ldlm_cbd", LDLM_CB_REQUEST_PORTAL, LDLM_CB_REPLY_PORTAL, CALLBACK_THREADS)
        fsname = self.config.fs.fsname
        self.mgc.start()
        setup = self.make(Setup, self.host, PLACES, self._device)
        yield from self.mgc.follow(f"{fsname}-client", setup)
        yield from self.mgc.follow(PARAMS, setup)
        yield from self.mgc.follow_recover(fsname, f"{fsname}-client", self._moved)
        if not self.mdcs:
            raise LustreError(errno.ENOENT, f"{fsname} has no MDT yet")
        self._mounted = True
        for mdc in self.mdcs:
            yield from mdc.imp.connect()
        yield from self._connect_osts()
        yield from self.llite.fill_super()
        self.host.trace.emit("mount", self.llite.name)

    def _connect_osts(self) -> Steps[None]:
        """All at once; a mount does not wait for an OST that does not answer."""
        env = self.host.env
        waited = env.event()
        left = [len(self.oscs)]

        def done() -> None:
            if not waited.triggered:
                waited.succeed()

        def connect(osc: Osc) -> Steps[None]:
            yield from osc.imp.connect()
            left[0] -= 1
            if not left[0]:
                done()

        for osc in self.oscs.values():
            env.process(connect(osc))
        if self.oscs:
            limit = self.rpc.deadlines.add(env.now + self.rpc.connect_timeout_ns, done)
            yield waited
            limit.cancel()

    def stop(self) -> Steps[None]:
        """umount: close what is open, disconnect, forget the locks.

        A server that does not answer keeps nobody from leaving.
        """
        if all(mdc.imp.state is State.FULL for mdc in self.mdcs):
            for file in list(self.llite.open_files):
                try:
                    yield from self.vfs.close(file)
                except LustreError as error:
                    self.host.trace.emit("umount.close", file.inode.fid, error.errno)
        yield from self._write_back()
        devices: list[Any] = [*self.mdcs, *self.oscs.values()]
        for device in devices:
            yield from device.imp.disconnect()
            device.ldlm.close()
            self.host.params.unmount(device)
        self.host.params.unmount(self.llite)
        self.host.params.unmount(self.lov_files)
        yield from self.mgc.stop()
        yield from super().stop()

    def _write_back(self) -> Steps[None]:
        """Dirty pages go to the OSTs; one that does not answer is waited for as in any call."""
        env = self.host.env
        over = env.event()

        def done() -> None:
            if not over.triggered:
                over.succeed()

        def write_back() -> Steps[None]:
            yield from self.data.write_back()
            done()

        env.process(write_back())
        limit = self.rpc.deadlines.add(env.now + self.rpc.timeout_ns, done)
        yield over
        limit.cancel()
        for osc in self.oscs.values():
            osc.close()

    # ---- processes

    def process(
        self, uid: int = 0, gid: int = 0, groups: tuple[int, ...] = (), umask: int = 0o022
    ) -> Vfs:
        """A new process on this client, in the mount point."""
        return self.make(Vfs, self, Cred(uid, gid, groups, umask))

    @property
    def vfs(self) -> Vfs:
        """A process of root."""
        return self.process()

    def drop_caches(self, level: int) -> Steps[None]:
        """What writing to /proc/sys/vm/drop_caches does."""
        yield from self.llite.drop_caches(level)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants: imports, locks, caches, open files."""
        llite = self.llite
        return super().snapshot() | {
            "instance": self.instance,
            "uuid": self.uuid,
            "mgc": self.mgc.snapshot(),
            "mdcs": [mdc.snapshot() for mdc in self.mdcs],
            "oscs": [osc.snapshot() for osc in self.oscs.values()],
            "open_files": [
                {"path": file.dentry.path(), "fid": str(file.inode.fid), "flags": file.flags}
                for file in llite.open_files
            ],
            "llite": llite.snapshot(),
        }


def _index(device: Any) -> int:
    index: int = device.info.index
    return index
