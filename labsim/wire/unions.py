"""Unions of structs that no one field chooses from.

Their users know from elsewhere which member they hold. Stands for the unions of lustre_idl.h.
"""

from labsim.base.ids import Fid
from labsim.wire.dirs import LuDirpage, LuIdxpage
from labsim.wire.ldlm import LdlmGlBarrierDesc, LdlmGlLquotaDesc
from labsim.wire.lov import LmvMdsMdV1, LmvUserMdV1
from labsim.wire.mgs import NodemapClusterRec, NodemapGlobalRec, NodemapIdRec, NodemapRangeRec
from labsim.wire.schema import Union, u32, u64

LMV_MDS_MD = Union(
    "lmv_mds_md", 56, lmv_magic=u32, lmv_md_v1=LmvMdsMdV1, lmv_user_md_v1=LmvUserMdV1
)
"""The layout of a striped directory; its magic says which."""

LQUOTA_ID = Union("lquota_id", 16, qid_fid=Fid, qid_uid=u64, qid_gid=u64, qid_projid=u64)
"""Whom a quota is about: a user, group or project id, or a FID. Fields of it are FIDs here."""

LDLM_GL_DESC = Union(
    "ldlm_gl_desc", 64, lquota_desc=LdlmGlLquotaDesc, barrier_desc=LdlmGlBarrierDesc
)
"""What a glimpse callback says beyond the lock; the resource says which."""

NODEMAP_REC = Union(
    "nodemap_rec",
    32,
    ncr=NodemapClusterRec,
    nrr=NodemapRangeRec,
    nir=NodemapIdRec,
    ngr=NodemapGlobalRec,
)
"""A record of the node map index; its key says which."""

LU_PAGE = Union("lu_page", 4096, lp_dir=LuDirpage, lp_idx=LuIdxpage, lp_array=4096)
"""A page of a directory or of an index."""
