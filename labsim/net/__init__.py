"""LNet and ptlrpc: how nodes reach one another.

Knows no file system. Stands for lnet/ and lustre/ptlrpc.
"""
