"""ptlrpc: requests, replies and bulk data between imports and exports.

Knows connections, not what the requests do. Stands for lustre/ptlrpc.

A node has one `PtlRpc`; a client's way to a target is an `Import`, a target's view of a client an
`Export`; a `Service` takes requests off a portal and runs the handlers of the export's target.
"""

from labsim.net.ptlrpc.exports import CallbackExport, Export, Exports, Reply
from labsim.net.ptlrpc.handlers import Handlers, handles
from labsim.net.ptlrpc.imports import HISTORY, Import
from labsim.net.ptlrpc.recovery import Recovery
from labsim.net.ptlrpc.request import Request
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.net.ptlrpc.server_request import ServerRequest
from labsim.net.ptlrpc.service import Service
from labsim.net.ptlrpc.service_files import ServiceFiles
from labsim.net.ptlrpc.states import State
from labsim.net.ptlrpc.tags import Tags

__all__ = [
    "HISTORY",
    "CallbackExport",
    "Export",
    "Exports",
    "Handlers",
    "Import",
    "PtlRpc",
    "Recovery",
    "Reply",
    "Request",
    "ServerRequest",
    "Service",
    "ServiceFiles",
    "State",
    "Tags",
    "handles",
]
