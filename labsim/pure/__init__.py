"""Reference twins of the native modules, in plain Python.

Knows no time and no I/O; `labsim.fast` chooses between a twin and its native module.
"""
