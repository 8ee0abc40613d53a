"""Magics, xattr names, keys and limits that belong to no one subsystem.

Stands for what is left of lustre_idl.h, lustre_user.h and lustre_net.h.
"""

# Magics, xattr names, limits
LUSTRE_EOF = 0xFFFFFFFFFFFFFFFF
OBD_OBJECT_EOF = 0xFFFFFFFFFFFFFFFF
DEAD_HANDLE_MAGIC = 0xDEADBEEFCAFEBABE
IDX_INFO_MAGIC = 0x3D37CC37
LIP_MAGIC = 0x8A6D6B6C
LINK_EA_MAGIC = 0x11EAF1DF
PTLRPC_NUM_VERSIONS = 4
LUSTRE_JOBID_SIZE = 32
OBD_MAX_GRANT = 0x7FFFFFFF
LL_SUPER_MAGIC = 0xBD00BD0
MDS_STATUS_CONN = 1
MDS_STATUS_LOV = 2
XATTR_NAME_LOV = "trusted.lov"
XATTR_NAME_LMV = "trusted.lmv"
XATTR_NAME_DEFAULT_LMV = "trusted.dmv"
XATTR_NAME_LMA = "trusted.lma"
XATTR_NAME_LINK = "trusted.link"
XATTR_NAME_FID = "trusted.fid"
XATTR_NAME_HSM = "trusted.hsm"
XATTR_NAME_SOM = "trusted.som"
XATTR_NAME_VERSION = "trusted.version"
XATTR_NAME_ACL_ACCESS = "system.posix_acl_access"
XATTR_NAME_ACL_DEFAULT = "system.posix_acl_default"
CHANGELOG_CATALOG = "changelog_catalog"

# Keys of OST_GET_INFO, OST_SET_INFO and their MDS kin
KEY_ASYNC = "async"
KEY_CHANGELOG_CLEAR = "changelog_clear"
KEY_FID2PATH = "fid2path"
KEY_CHECKSUM = "checksum"
KEY_CLEAR_FS = "clear_fs"
KEY_CONN_DATA = "conn_data"
KEY_EVICT_BY_NID = "evict_by_nid"
KEY_FIEMAP = "fiemap"
KEY_FLUSH_CTX = "flush_ctx"
KEY_GRANT_SHRINK = "grant_shrink"
KEY_HSM_COPYTOOL_SEND = "hsm_send"
KEY_INIT_RECOV_BACKUP = "init_recov_bk"
KEY_INTERMDS = "inter_mds"
KEY_LAST_ID = "last_id"
KEY_LAST_FID = "last_fid"
KEY_MAX_EASIZE = "max_easize"
KEY_DEFAULT_EASIZE = "default_easize"
KEY_MGSSEC = "mgssec"
KEY_READ_ONLY = "read-only"
KEY_REGISTER_TARGET = "register_target"
KEY_SET_FS = "set_fs"
KEY_TGT_COUNT = "tgt_count"
KEY_SPTLRPC_CONF = "sptlrpc_conf"
KEY_CACHE_SET = "cache_set"
KEY_CACHE_LRU_SHRINK = "cache_lru_shrink"
KEY_OSP_CONNECTED = "osp_connected"
