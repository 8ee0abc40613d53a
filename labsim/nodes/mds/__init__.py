"""The MDS: names, attributes, extended attributes, layouts, and the MDT that serves them.

Knows the namespace; file data is elsewhere. Stands for lustre/mdt, mdd, lod and osp.
"""
