"""Where each parameter file lives, by generation of the source tree.

Data only; rules of their text are in `param_rules`. Stands for the attribute tables of each
release: lprocfs_vars (procfs), LUSTRE_*_ATTR (sysfs) and ldebugfs variables (debugfs).

A code has one letter for each column of GENERATIONS:
p /proc/fs/lustre, y /proc/sys/lustre, n /proc/sys/lnet, s /sys/fs/lustre,
d /sys/kernel/debug/lustre, e /sys/kernel/debug/lnet, m there too, as a link
to a parameter of the module libcfs,
- absent, ? not verified: as in the column before it.
Files that a row lists stand for themselves; a star stands for any one word.
"""

from __future__ import annotations

GENERATIONS = ("2.7", "2.8", "2.9", "2.10", "2.12", "2.15", "2.17", "staging")
"""The columns: each holds until the next; staging is the client of drivers/staging."""

PLACES: dict[str, dict[str, str]] = {
    "llite.*": {
        "ppppdsss": "max_read_ahead_mb max_read_ahead_per_file_mb max_read_ahead_whole_mb",
        "ppppdddd": (
            "max_cached_mb statahead_stats nosquash_nids sbi_flags stats read_ahead_stats "
            "extents_stats extents_stats_per_process offset_stats dump_page_cache"
        ),
        "ppppssss": (
            "statahead_max statahead_agl lazystatfs xattr_cache default_easize max_easize "
            "checksum_pages uuid kbytestotal kbytesfree kbytesavail filestotal filesfree"
        ),
        "----sss-": "statahead_running_max checksums",
        "------s-": "statahead_batch_max hybrid_io",
        "--ppsss-": "fast_read",
        "---psss-": "stat_blocksize",
        "ppppddds": "root_squash unstable_stats",
    },
    "osc.*": {
        "ppppssss": (
            "max_rpcs_in_flight max_dirty_mb active checksums cur_dirty_bytes "
            "cur_lost_grant_bytes grant_shrink_interval resend_count destroys_in_flight"
        ),
        "ppppppss": "max_pages_per_rpc cur_grant_bytes",
        "ppppppsd": "checksum_type pinger_recov",
        "---psss-": "checksum_dump",
        "--ppsss-": "cur_dirty_grant_bytes",
        "----sss-": "grant_shrink short_io_bytes idle_timeout idle_connect",
        "ppppppdd": "osc_cached_mb import state timeouts connect_flags rpc_stats osc_stats",
        "ppppsssd": "ping ost_conn_uuid mds_conn_uuid",
        "ppppdddd": "stats",
    },
    "mdc.*": {
        "ppppsssd": "ost_conn_uuid mds_conn_uuid ping",
        "ppppssss": "max_rpcs_in_flight",
        "-pppssss": "max_mod_rpcs_in_flight active",
        "-pppppdd": "rpc_stats",
        "ppppppdd": "import state timeouts connect_flags",
        "ppppppsd": "pinger_recov",
        "------d-": "batch_stats",
        "ppppdddd": "stats",
    },
    "lov.*": {
        "pppppss?": "stripesize stripecount stripeoffset stripetype",
        "ppppppd?": "target_obd",
        "ppppsss?": "numobd activeobd",
    },
    "lmv.*": {
        "-----ss?": "qos_threshold_rr qos_maxage",
    },
    "ldlm.namespaces.*": {
        "pppsssss": (
            "lru_size lru_max_age lock_count lock_unused_count resource_count early_lock_cancel"
        ),
        "----sss-": "dirty_age_limit",
        "pppssss-": (
            "ctime_age_limit contended_locks contention_seconds max_parallel_ast lock_timeouts"
        ),
        "pppsss--": "max_nolock_bytes",
        "ppppdddd": "pool.state",
        "pppps???": (
            "pool.recalc_period pool.lock_volume_factor pool.limit pool.server_lock_volume "
            "pool.granted pool.grant_rate pool.cancel_rate pool.grant_speed pool.grant_plan"
        ),
    },
    "ldlm.services.*": {
        "ppppdddd": "stats",
    },
    "ldlm": {
        "pppssss-": "cancel_unused_locks_before_replay",
        "ppppdddd": "dump_namespaces",
    },
    "": {
        "yyyssss?": (
            "timeout at_min at_max at_history at_early_margin at_extra max_dirty_mb memused "
            "memused_max dump_on_eviction"
        ),
        "yyyssss-": "ldlm_timeout bulk_timeout",
        "nnneeeee": (
            "lnet_memused fail_loc fail_val fail_err debug subsystem_debug printk debug_path "
            "peers nis stats"
        ),
        "pppsssss": "health_check version pinger jobid_var",
        "-ppsssss": "jobid_name",
        "-----ss-": "jobid_this_session",
        "pppddddd": "devices",
        "nnnemmmm": "debug_mb panic_on_lbug",
    },
    "mgc.*": {
        "ppppddd-": "ir_state import state connect_flags",
        "ppppsss-": "ping",
    },
    "mdt.*": {
        "ppppppp-": "md_stats job_stats",
        "pppppss-": (
            "job_cleanup_interval ir_factor num_exports identity_upcall identity_flush "
            "commit_on_sharing enable_remote_dir hsm_control hsm.loop_period hsm.grace_delay "
            "hsm.max_requests hsm.active_request_timeout"
        ),
        "ppppppd-": "recovery_status root_squash nosquash_nids rename_stats",
        "-ppppss-": "recovery_time_hard recovery_time_soft sync_count",
        "pppppps-": "evict_client",
        "----pss-": "enable_striped_dir dom_lock",
        "pppppdd-": "hsm.actions",
        "ppppp?d-": "exports.clear",
    },
    "obdfilter.*": {
        "ppppppd-": "recovery_status stats last_id",
        "-ppppss-": "recovery_time_hard recovery_time_soft",
        "pppppss-": (
            "ir_factor num_exports tot_granted tot_dirty tot_pending grant_compat_disable"
        ),
        "pppppps-": "evict_client",
        "pppppdd-": "brw_stats",
        "ppppp?d-": "exports.clear",
        "---ppp?-": "checksum_dump",
        "ppppppp-": "job_stats",
        "ppppsss-": (
            "kbytesavail kbytesfree kbytestotal filesfree filestotal degraded sync_journal "
            "sync_on_lock_cancel precreate_batch soft_sync_limit seqs_allocated "
            "lfsck_speed_limit"
        ),
        "--pppps-": "brw_size",
        "----sss-": "sync_lock_cancel",
        "pppps---": "client_cache_count client_cache_seconds",
    },
    "mdt.*.exports.*": {
        "ppppppd-": "uuid stats",
        "ppppp?d-": "ldlm_stats open_files",
        "-pppp?d-": "reply_data",
    },
    "obdfilter.*.exports.*": {
        "ppppppd-": "uuid stats",
        "ppppp?d-": "ldlm_stats",
        "-pppp?d-": "reply_data",
    },
    "mdd.*": {
        "pppppdd-": "changelog_mask changelog_users lfsck_namespace lfsck_layout",
        "--pppss-": "changelog_size",
        "----pss-": "changelog_gc",
        "pppppss-": "atime_diff sync_permission",
    },
    "lod.*": {
        "pppps??-": "numobd activeobd",
        "pppppss-": "stripesize stripecount stripeoffset qos_threshold_rr",
        "ppppsss-": "qos_prio_free qos_maxage",
        "----pss-": "dom_stripesize",
    },
    "lod.*.pools": {
        "ppppppp-": "*",
    },
    "osp.*": {
        "ppppsss-": (
            "active max_create_count create_count prealloc_next_id prealloc_last_id "
            "prealloc_next_seq prealloc_status prealloc_reserved sync_changes sync_in_flight "
            "sync_in_progress destroys_in_flight max_rpcs_in_flight"
        ),
        "--pppds-": "reserved_mb_high reserved_mb_low",
    },
    "mds.MDS.*": {
        "ppppddd-": "stats nrs_policies nrs_tbf_rule req_history",
        "ppppsss-": "threads_min threads_max threads_started",
        "---pddd-": "nrs_delay_min nrs_delay_max nrs_delay_pct",
    },
    "ost.OSS.*": {
        "ppppsss-": "threads_min threads_max threads_started",
        "ppppddd-": "nrs_policies nrs_tbf_rule req_history stats",
        "---pddd-": "nrs_delay_min nrs_delay_max nrs_delay_pct",
    },
    "osd-*.*": {
        "pppppdd-": "brw_stats",
        "ppppp?d-": "exports.clear",
        "pppppss-": (
            "kbytesavail kbytesfree kbytestotal filesfree filestotal fstype mntdev "
            "read_cache_enable writethrough_cache_enable force_sync"
        ),
        "pppppps-": "readcache_max_filesize",
        "ppppppd-": "oi_scrub",
        "ppppppp-": "quota_slave.acct_user quota_slave.acct_group quota_slave.info",
        "---pppp-": "quota_slave.acct_project",
    },
    "qmt.*.dt-*": {
        "ppppppp-": "glb-usr glb-grp glb-prj",
    },
    "qmt.*.md-*": {
        "ppppppp-": "glb-usr glb-grp glb-prj",
    },
    "mgs.MGS.live": {
        "ppppppd-": "*",
    },
    "mgs.MGS.mgs": {
        "ppppddd-": "stats threads_min threads_max threads_started",
    },
    "mgs.MGS": {
        "pppppps-": "ir_timeout",
    },
    "nodemap": {
        "ppppppd-": "active",
    },
    "nodemap.*": {
        "ppppppd-": (
            "admin_nodemap trusted_nodemap squash_uid squash_gid deny_unknown map_mode "
            "fileset ranges idmap"
        ),
    },
}
"""directory -> code -> the names of its files."""
