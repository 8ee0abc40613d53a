"""Every number of the protocol under one roof, for those who need names from several groups.

Declares nothing itself; the groups do. Stands for lustre_idl.h as a whole.
"""

from labsim.wire.connect import *  # noqa: F403
from labsim.wire.errno_wire import *  # noqa: F403
from labsim.wire.fid_seq import *  # noqa: F403
from labsim.wire.hsm_flags import *  # noqa: F403
from labsim.wire.ldlm_flags import *  # noqa: F403
from labsim.wire.llog_flags import *  # noqa: F403
from labsim.wire.lnet_flags import *  # noqa: F403
from labsim.wire.lov_flags import *  # noqa: F403
from labsim.wire.mds_flags import *  # noqa: F403
from labsim.wire.misc import *  # noqa: F403
from labsim.wire.msg_flags import *  # noqa: F403
from labsim.wire.obd_md import *  # noqa: F403
from labsim.wire.opcodes import *  # noqa: F403
from labsim.wire.server_flags import *  # noqa: F403


def flag_names(prefix: str, value: int) -> list[str]:
    """The one-bit numbers with that prefix that are set: `flag_names("OBD_MD_", 3)`.

    Bits without a name come last, as one hexadecimal number.
    """
    found = []
    for name, bit in globals().items():
        single = isinstance(bit, int) and bit > 0 and bit & bit - 1 == 0
        if single and value & bit and name.startswith(prefix):
            found.append(name)
    known = sum({globals()[name] for name in found})
    return found if value == known else [*found, hex(value & ~known)]
