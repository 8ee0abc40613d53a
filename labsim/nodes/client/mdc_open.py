"""Open files as an mdc remembers them: what it takes to open them again on an MDT that restarted.

Knows open and close requests, not files. Stands for struct md_open_data with
mdc_set_open_replay_data, mdc_replay_open and mdc_free_open (mdc/mdc_request.c).

The handle that the first open brought stays a file's name here; a replay brings another one, and
that goes on the wire from then on.
"""

from __future__ import annotations

from functools import partial

from labsim.base.payload import tobytes
from labsim.ldlm.desc import intent_result
from labsim.net.ptlrpc import Import, Request
from labsim.wire.constants import (
    DISP_OPEN_CREATE,
    DISP_OPEN_OPEN,
    DISP_OPEN_STRIPE,
    LDLM_FL_INTENT_ONLY,
    MDS_OPEN_HAS_EA,
    OBD_MD_FLEASIZE,
)
from labsim.wire.mdt import MdtIoepoch
from labsim.wire.message import Message


class OpenData:
    """One open file: its open request, the handle in force, and a close on its way."""

    __slots__ = ("close", "handle", "made", "request")

    def __init__(self, request: Request, handle: int, made: bool) -> None:
        self.request = request
        self.handle = handle
        self.made = made
        """The open created the file, or its objects: something that the MDT has to commit."""
        self.close: Request | None = None

    def replayed(self, reply: Message) -> None:
        """The MDT has opened the file again: take the new handle, for a close that waits too."""
        if reply.status < 0 or not reply.has("mdt_body"):
            return
        if intent_result(reply)[1]:
            return
        self.handle = reply["mdt_body"].open_handle
        if self.close is not None:
            self.close.fields["mdt_epoch"] = MdtIoepoch(open_handle=self.handle)


class OpenTable:
    """The open files of one mdc, by the handle that they got first."""

    def __init__(self, imp: Import) -> None:
        self._imp = imp
        self._files: dict[int, OpenData] = {}

    def __len__(self) -> int:
        return len(self._files)

    def answered(self, request: Request, reply: Message) -> None:
        """An open is answered: make the request what a replay must be.

        It names the file by FID and the handle it had, brings the layout, and asks for no lock.
        """
        disposition, status = intent_result(reply)
        if reply.body.transno:
            dlm_req = request.fields["dlm_req"]
            flags = dlm_req.lock_flags | LDLM_FL_INTENT_ONLY
            request.fields["dlm_req"] = dlm_req.replace(lock_flags=flags)
        if status or not disposition & DISP_OPEN_OPEN:
            return
        body, record = reply["mdt_body"], request.fields["rec_reint"]
        handle: int = body.open_handle
        record = record.replace(fid2=body.fid1, open_handle_old=handle)
        if body.valid & OBD_MD_FLEASIZE and body.eadatasize:
            layout = tobytes(reply.get("mdt_md") or b"")[: body.eadatasize]
            record = record.replace(flags_l=record.flags_l | MDS_OPEN_HAS_EA)
            request.fields["eadata"] = layout
        request.fields["rec_reint"] = record
        data = OpenData(request, handle, bool(disposition & (DISP_OPEN_CREATE | DISP_OPEN_STRIPE)))
        self._files[handle] = data
        request.keep = True
        request.on_replay = data.replayed
        request.on_lost = self._lost

    def _lost(self, request: Request) -> None:
        """The MDT has evicted us: it will not know the handle, nor may the open be replayed."""
        handle = request.fields["rec_reint"].open_handle_old
        self._files.pop(handle, None)

    def handle(self, first: int) -> int:
        """The handle in force of the file that was opened with `first`."""
        data = self._files.get(first)
        return data.handle if data is not None else first

    def closing(self, first: int, request: Request) -> OpenData | None:
        """A close goes out: a replay of the open in between gives it the new handle.

        A committed open is not replayed meanwhile: the MDT may have closed the file already, and
        nobody would close it again.
        """
        data = self._files.get(first)
        if data is not None:
            data.close = request
            data.request.closing = True
        return data

    def closed(self, first: int, request: Request) -> None:
        """The MDT has closed the file: once that cannot be lost, the open needs no replay."""
        data = self._files.pop(first, None)
        if data is None:
            return
        if request.transno > self._imp.committed:
            data.request.closing = False
            request.on_commit.append(partial(self._imp.forget, data.request))
        else:
            self._imp.forget(data.request, unneeded=not data.made)
