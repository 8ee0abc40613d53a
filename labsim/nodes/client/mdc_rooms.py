"""What an MDC makes room for in replies: layouts, ACLs, extended attributes.

Knows sizes, not requests. Stands for the calls of req_capsule_set_size in mdc_locks.c and
mdc_request.c, and for cl_max_mds_easize and cl_default_mds_easize.

A client guesses. Where a reply does not fit it is cut, and asked for again (`Sender`); and each
reply with OBD_MD_FLMODEASIZE tells the largest layout that the MDT has come across.
"""

from __future__ import annotations

from collections.abc import Mapping

from labsim.base.overlay import Traits
from labsim.net.ptlrpc import Import
from labsim.wire.constants import OBD_MD_FLMODEASIZE
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.reply_room import MIN_MD_SIZE

OBD_MAX_DEFAULT_EA_SIZE = 4096
XATTR_SIZE_MAX = 65536
ACL_SIZE_OLD = 4 + 32 * 8
"""LUSTRE_POSIX_ACL_MAX_SIZE_OLD: 32 entries."""
FIRST_EASIZE = 128
"""Room for layouts by default: what an MDT has come across at least (MAX_MD_SIZE_OLD)."""
GA_EA_NAMES, GA_EA_VALUES, GA_EA_LENGTHS = 20 * 10, 250 * 10, 4 * 10
"""GA_DEFAULT_EA_*: ten attributes, each with a name of 20 bytes and a value of 250."""
ROOMY_SINCE = 0x020A0100
"""ocd_version of MDTs that may be asked with little room."""
NO_ACL = {"acl": 0}
"""Of a setattr: the server sends none."""


class Rooms:
    """The sizes of one MDT."""

    imp: Import
    traits: Traits
    max_easize: int
    default_easize: int

    def start_rooms(self) -> None:
        """As long as the MDT has told nothing."""
        self.max_easize = MIN_MD_SIZE
        self.default_easize = FIRST_EASIZE

    def learn_easize(self, reply: Message) -> None:
        """An MDT tells how large layouts are (mdc_update_max_ea_from_body)."""
        body: MdtBody | None = reply.get("mdt_body")
        if body is not None and body.valid & OBD_MD_FLMODEASIZE:
            largest = body.max_mdsize
            self.max_easize = max(self.max_easize, largest)
            self.default_easize = min(largest, OBD_MAX_DEFAULT_EA_SIZE)

    def _most(self) -> int:
        """The longest value that the MDT stores (ocd_max_easize)."""
        return min(self.imp.connect_data.max_easize or XATTR_SIZE_MAX, XATTR_SIZE_MAX)

    def getattr_sizes(self, easize: int) -> Mapping[str, int]:
        """Of attributes: long ACLs are rare."""
        return {"mdt_md": easize, "acl": ACL_SIZE_OLD}

    def open_sizes(self) -> Mapping[str, int]:
        """Of an open, which had better not be repeated."""
        return {"mdt_md": self.max_easize, "acl": self._most()}

    def xattr_room(self) -> int:
        """Bytes of values that a getxattr intent has room for; -ERANGE where there are more."""
        few = self.traits.few_xattrs and self.imp.connect_data.version >= ROOMY_SINCE
        return (GA_EA_VALUES if few else max(self._most(), GA_EA_VALUES)) & ~3

    def xattr_sizes(self) -> Mapping[str, int]:
        """Of a getxattr intent."""
        values = self.xattr_room()
        if values == GA_EA_VALUES:
            return {"acl": 0, "eadata": GA_EA_NAMES, "eavals": values, "eavals_lens": GA_EA_LENGTHS}
        return {"acl": 0, "eadata": values, "eavals": values, "eavals_lens": values}
