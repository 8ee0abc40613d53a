"""What fault points make of a request that was answered: it is looked at late, or fails after all.

Does not know imports. Stands for the OBD_FAIL_CHECKs in ptlrpc/client.c and events.c.
"""

from __future__ import annotations

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import points
from labsim.net.ptlrpc.request import Request
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.runtime.ports import Steps
from labsim.wire.opcodes import OBD_PING

EIO = 5


def slowly(rpc: PtlRpc, request: Request) -> Steps[None]:
    """A reply that came is looked at late, its buffers are in use for long, its bulk is lost."""
    faults, opcode = rpc.faults, request.opcode
    if opcode != OBD_PING:
        yield from faults.visit(points.PTLRPC_PAUSE_REP)
    any_opcode = faults.hit(points.PTLRPC_LONG_REPL_UNLINK, 0)
    if any_opcode or any(faults.hit(point, opcode) for point in points.UNLINKS):
        yield rpc.env.timeout(points.LONG_UNLINK_NS)
    if request.exposed and faults.hit(points.PTLRPC_CLIENT_BULK_CB):
        raise LustreError(EIO, f"the bulk of opcode {opcode} failed")
