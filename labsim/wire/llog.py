"""Llogs and their records, changelogs too.

Does not know who writes which record. Stands for lustre_idl.h's llog_* structs and
lustre_user.h's changelog records.
"""

from typing import Annotated

from labsim.base.ids import Fid
from labsim.wire.eras import V2_10, At
from labsim.wire.lu import LlFid
from labsim.wire.schema import (
    OstId,
    Wire,
    also,
    array,
    chars,
    i64,
    named,
    octets,
    u16,
    u32,
    u64,
)


class LlogLogid(Wire, struct="llog_logid", prefix="lgl_", size=20):
    """The name of a log."""

    oi: OstId
    ogen: u32


class LlogCatid(Wire, struct="llog_catid", prefix="lci_", size=32):
    """One row of the list of catalogs."""

    logid: LlogLogid
    padding1: u32
    padding2: u32
    padding3: u32


class LlogRecHdr(Wire, struct="llog_rec_hdr", prefix="lrh_", size=16):
    """The head of every record."""

    len: u32
    index: u32
    type: u32
    id: u32


class LlogRecTail(Wire, struct="llog_rec_tail", prefix="lrt_", size=8):
    """The end of every record: its length and index again."""

    len: u32
    index: u32


class LlogLogidRec(Wire, struct="llog_logid_rec", prefix="lid_", size=64):
    """A record of a catalog: one of its logs."""

    hdr: LlogRecHdr
    id: LlogLogid
    padding1: u32
    padding2: u64
    padding3: u64
    tail: LlogRecTail


class LlogUnlink64Rec(Wire, struct="llog_unlink64_rec", prefix="lur_", size=64):
    """Objects to destroy."""

    hdr: LlogRecHdr
    fid: Fid
    count: u32
    padding1: u32
    padding2: u64
    padding3: u64
    tail: LlogRecTail


class LlogUnlinkRec(Wire, struct="llog_unlink_rec", prefix="lur_", size=40):
    """Objects to destroy, from before FIDs."""

    hdr: LlogRecHdr
    oid: u64
    oseq: u32
    count: u32
    tail: LlogRecTail


class LlogSetattr64Rec(Wire, struct="llog_setattr64_rec", prefix="lsr_", size=64):
    """An owner change to bring to OST objects."""

    hdr: LlogRecHdr
    oi: OstId
    uid: u32
    uid_h: u32
    gid: u32
    gid_h: u32
    valid: u64
    tail: LlogRecTail


class LlogSetattr64RecV2(
    Wire,
    struct="llog_setattr64_rec_v2",
    prefix="lsr_",
    size=88,
    differs={V2_10: At(unknown={"layout_version": "lsr_padding1"})},
):
    """An owner, project or layout version change to bring to OST objects."""

    hdr: LlogRecHdr
    oi: OstId
    uid: u32
    uid_h: u32
    gid: u32
    gid_h: u32
    valid: u64
    projid: u32
    layout_version: u32
    padding2: u64
    padding3: u64
    tail: LlogRecTail


class LlogSizeChangeRec(Wire, struct="llog_size_change_rec", prefix="lsc_", size=64):
    """A size that changed, from before FIDs."""

    hdr: LlogRecHdr
    fid: LlFid
    ioepoch: u32
    padding1: u32
    padding2: u64
    padding3: u64
    tail: LlogRecTail


class ChangelogRec(Wire, struct="changelog_rec", prefix="cr_", size=64):
    """One change of the namespace; extensions and a name follow it."""

    namelen: u16
    flags: u16
    type: u32
    index: u64
    prev: u64
    time: u64
    tfid: Annotated[Fid, also("cr_markerflags", 4)]
    pfid: Fid


class ChangelogExtRename(Wire, struct="changelog_ext_rename", prefix="cr_", size=32):
    """Extension of a change: the source of a rename."""

    sfid: Fid
    spfid: Fid


class ChangelogExtJobid(Wire, struct="changelog_ext_jobid", prefix="cr_", size=32):
    """Extension of a change: the job that made it."""

    jobid: Annotated[str, chars(32)]


class ChangelogExtExtraFlags(
    Wire,
    struct="changelog_ext_extra_flags",
    prefix="cr_",
    size=8,
    differs={V2_10: At(absent=True)},
):
    """Extension of a change: which further extensions follow."""

    extra_flags: u64


class ChangelogExtUidgid(
    Wire,
    struct="changelog_ext_uidgid",
    prefix="cr_",
    size=16,
    differs={V2_10: At(absent=True)},
):
    """Extension of a change: who made it."""

    uid: u64
    gid: u64


class ChangelogExtNid(
    Wire,
    struct="changelog_ext_nid",
    size=24,
    differs={V2_10: At(absent=True)},
):
    """Extension of a change: where it came from."""

    cr_nid: u64
    extra: u64
    padding: u32
    end_padding: Annotated[bytes, octets(4), named("")]


class ChangelogExtOpenmode(
    Wire,
    struct="changelog_ext_openmode",
    prefix="cr_",
    size=4,
    differs={V2_10: At(absent=True)},
):
    """Extension of a change: how the file was opened."""

    openflags: u32


class ChangelogExtXattr(
    Wire,
    struct="changelog_ext_xattr",
    prefix="cr_",
    size=256,
    differs={V2_10: At(absent=True)},
):
    """Extension of a change: which attribute it was about."""

    xattr: Annotated[str, chars(256)]


class ChangelogSetinfo(Wire, struct="changelog_setinfo", prefix="cs_", size=12):
    """Says up to which record a changelog user has read."""

    recno: u64
    id: u32


class LlogChangelogRec(Wire, struct="llog_changelog_rec", prefix="cr_", size=88):
    """A changelog record in its log."""

    hdr: LlogRecHdr
    cr: Annotated[ChangelogRec, named("cr")]
    do_not_use: LlogRecTail


class LlogChangelogUserRec(
    Wire,
    struct="llog_changelog_user_rec",
    prefix="cur_",
    size=40,
    differs={V2_10: At(unknown={"time": "cur_padding"})},
):
    """A changelog user, and how far it has read."""

    hdr: LlogRecHdr
    id: u32
    time: u32
    endrec: u64
    tail: LlogRecTail


class LlogGen(Wire, struct="llog_gen", size=16):
    """A generation of a log."""

    mnt_cnt: u64
    conn_cnt: u64


class LlogGenRec(Wire, struct="llog_gen_rec", size=64):
    """A generation of a log, as a record."""

    lgr_hdr: LlogRecHdr
    lgr_gen: LlogGen
    padding1: u64
    padding2: u64
    padding3: u64
    lgr_tail: LlogRecTail


class LlogLogHdr(Wire, struct="llog_log_hdr", prefix="llh_", size=8192):
    """The first block of a log: which records are live."""

    hdr: LlogRecHdr
    timestamp: i64
    count: u32
    bitmap_offset: u32
    size: u32
    flags: u32
    cat_idx: u32
    tgtuuid: Annotated[str, chars(40)]
    reserved: Annotated[tuple[int, ...], array(u32, 1)]
    bitmap: Annotated[bytes, octets(8096)]
    tail: LlogRecTail


class LlogCookie(
    Wire,
    struct="llog_cookie",
    prefix="lgc_",
    size=36,
    differs={
        V2_10: At(
            unknown={"lgc_offset": ""},
            moved={"lgc_subsys": (20, 4), "lgc_index": (24, 4), "lgc_padding": (28, 4)},
            size=32,
        ),
    },
):
    """Names one record of one log."""

    lgl: Annotated[LlogLogid, also("lgc_offset", 8)]
    lgl_padding: Annotated[bytes, octets(4), named("")]
    subsys: u32
    index: u32
    padding: u32


class LlogdBody(Wire, struct="llogd_body", prefix="lgd_", size=48):
    """Asks for a log, its header or a block of it."""

    logid: LlogLogid
    ctxt_idx: u32
    llh_flags: u32
    index: u32
    saved_index: u32
    len: u32
    cur_offset: u64


class LlogdConnBody(Wire, struct="llogd_conn_body", prefix="lgdc_", size=40):
    """Connects to a log of a server."""

    gen: LlogGen
    logid: LlogLogid
    ctxt_idx: u32
