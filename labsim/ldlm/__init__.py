"""The distributed lock manager, client and server side.

Knows locks and resources, not what they protect. Stands for lustre/ldlm.
"""
