"""The client node: from the system call down to the requests it sends.

Knows the servers only by what they answer. Stands for llite, lmv, lov, mdc and osc.
"""
