"""The runtimes under the nodes: virtual time, or the wall clock and real processes.

Knows no Lustre. A node sees only `ports.Host`.
"""
