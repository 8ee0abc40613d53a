"""The nodes of a cluster: one code, whatever runtime is under it.

Knows its Host and nothing else. Stands for llite, mdc, lov, osc, mdt, mdd, lod, osp, ofd, mgs.
"""
