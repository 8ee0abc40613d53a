"""The vocabulary every other layer shares: errors, ids, payloads, parameters, faults, trace.

Knows no time, no I/O and no Lustre protocol. Stands for libcfs and the small headers of Lustre.
"""
