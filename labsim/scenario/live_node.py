"""The process of one live node: an environment, a machine on it, a line to the controller.

Does not know the rest of the cluster. Stands for one computer; started by `live_cluster`.
"""

from __future__ import annotations

import errno
import gc
import os
import traceback
from typing import Any

from labsim.base.errors import InputError, LabsimError, LustreError, ProtocolError
from labsim.base.faults import Crash
from labsim.base.trace import Trace
from labsim.net.capture import NoCapture
from labsim.net.lnd_zmq import ZmqLnd
from labsim.net.lnet import Lnet
from labsim.net.wire_log import Log
from labsim.nodes.config import TargetInfo
from labsim.runtime.live import Extension, LiveEnvironment
from labsim.runtime.memory import GC_INTERVAL, keep_freed_memory
from labsim.runtime.ports import Steps
from labsim.runtime.processes import stay_on
from labsim.scenario import control
from labsim.scenario.machine import Machine, carry_out, load

CONTROL = "control"
"""The controller's socket, in the cluster's directory."""
TRACE_KEEP = 10_000


def main(argument: bytes) -> None:
    """What a node's process runs, from its Birth to its end."""
    keep_freed_memory()
    gc.freeze()
    gc.set_threshold(GC_INTERVAL)
    birth = control.decode_birth(argument)
    stay_on(birth.cpus)
    LiveNode(birth).run()


class LiveNode:
    """A machine that obeys a controller over a socket."""

    def __init__(self, birth: control.Birth) -> None:
        self.birth = birth
        self.env = LiveEnvironment(birth.origin_ns)
        self._quit = self.env.event()
        self._log = Log(birth.log, lambda: self.env.now) if birth.log else NoCapture()
        name = birth.spec.name
        self.machine = Machine(
            birth.spec,
            self.env,
            self._attach,
            self._disks(),
            Trace(lambda: self.env.now, TRACE_KEEP),
            self._crash,
            self._new_disk,
            birth.incarnation,
        )
        path = os.path.join(birth.directory, CONTROL)
        self._line = Extension(self.env, path, name, self._heard)
        self._say(control.Hello(os.getpid()))

    def _disks(self) -> dict[str, Any]:
        return {info.name: self._new_disk(info) for info in self.birth.spec.targets}

    def _new_disk(self, info: TargetInfo) -> Any:
        spec = self.birth.spec
        path = os.path.join(self.birth.directory, "disks", info.name)
        size = {} if spec.capacity is None else {"nbytes": spec.capacity}
        try:
            return load(spec.disk)(self.env, path, self.env.offload, **size)
        except InputError as error:
            if isinstance(error.__cause__, BlockingIOError):
                raise LustreError(errno.EBUSY, f"{info.name}: {error}") from None
            raise

    def _attach(self, lnet: Lnet) -> None:
        log = self._log
        ZmqLnd(self.env, lnet, self.birth.endpoints, self._refused, log.encode)
        log.watch(lnet)
        self.env.before_sleep(log.flush)

    def _refused(self, what: str) -> None:
        print(f"refused: {what}", flush=True)
        self.machine.refuse(what)

    def _crash(self) -> None:
        self._log.flush()
        os._exit(control.POWER_LOSS_STATUS)

    def _say(self, word: control.Word) -> None:
        self._line.send(control.encode(word))

    def _heard(self, data: bytes) -> None:
        try:
            ask = control.decode_ask(data)
        except ProtocolError as error:
            self._refused(str(error))
            return
        if isinstance(ask.order, control.Quit):
            self._quit.succeed()
            return
        self.env.process(self._carry_out(ask))

    def _carry_out(self, ask: control.Ask) -> Steps[None]:
        try:
            value = yield from carry_out(self.machine, ask.order)
        except Crash:
            self._crash()
        except LabsimError as error:
            self._say(control.failed(ask.number, error))
        except Exception as error:
            traceback.print_exc()
            self._say(control.failed(ask.number, error))
        else:
            self._say(control.answer(ask.number, value))

    def run(self) -> None:
        """Obey until told to quit."""
        try:
            self.env.run(self._quit)
        except Crash:
            self._crash()
        self.machine.lnet.close()
        self._log.close()
        for disk in self.machine.disks.values():
            self.env.run(self.env.process(disk.close()))
        self._line.close()
        self.env.close()
