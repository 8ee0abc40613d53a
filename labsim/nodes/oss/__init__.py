"""The object storage server: ofd and its grants.

Knows objects, not files. Stands for lustre/ofd and lustre/ost.
"""
