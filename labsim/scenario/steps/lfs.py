"""The verbs of lfs.

Stands for lfs (lustre/utils/lfs.c).
"""
