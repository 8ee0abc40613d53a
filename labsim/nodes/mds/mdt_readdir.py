"""mdt: directory pages.

Knows the request; pages are made by `directory`. Stands for mdt_readpage (mdt/mdt_handler.c) and
mdd_readpage.
"""

from __future__ import annotations

import errno
import stat

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import ServerRequest, handles
from labsim.nodes.mds.cred import MAY_READ
from labsim.nodes.mds.directory import LUDA_FID, LUDA_TYPE, PAGE_SIZE, Pages
from labsim.nodes.mds.mdt_close import MdtClose
from labsim.nodes.mds.points import MDS_READPAGE_NET, MDS_READPAGE_PACK, MDS_SENDPAGE
from labsim.runtime.ports import Steps
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.opcodes import MDS_READPAGE


class MdtReaddir(MdtClose):
    """MDS_READPAGE."""

    max_readpage_bytes = 1 << 20
    """MD_MAX_BRW_SIZE: the most that one transfer carries."""

    @handles(MDS_READPAGE)
    def readpage(self, req: ServerRequest) -> Steps[Message]:
        """Send the entries of a directory from a hash on, as many whole pages as are wanted.

        The request's mdt_body holds the hash in `size`, the bytes wanted in `nlink`, LUDA_* in
        `mode`.
        """
        yield from self.at(MDS_READPAGE_NET)
        yield from self.at(MDS_READPAGE_PACK)
        body = req["mdt_body"]
        self.check_exists(body.fid1)
        if not stat.S_ISDIR(self.osd.attrs(body.fid1).mode):
            raise LustreError(errno.ENOTDIR, f"{body.fid1}")
        if body.nlink < PAGE_SIZE:
            raise LustreError(errno.EINVAL, f"{body.nlink} bytes are no page")
        self.mdd.require(body.fid1, self.cred_of_body(req, body), MAY_READ)
        count = min(body.nlink, self.max_readpage_bytes) // PAGE_SIZE
        pages = Pages(body.size, count, body.mode & (LUDA_FID | LUDA_TYPE))
        data = pages.fill(self.mdd.entries(body.fid1, body.size))
        yield from self.at(MDS_SENDPAGE)
        yield from req.push(data)
        return req.reply(mdt_body=MdtBody())
