"""The object storage device under every server target.

Knows no RPC and no lock. Stands for osd-ldiskfs and osd-zfs.
"""
