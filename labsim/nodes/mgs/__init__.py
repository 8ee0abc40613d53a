"""The management server: what is configured for the whole file system.

Knows no files and no objects. Stands for lustre/mgs.
"""
