"""Measuring labsim itself, and the clusters it models.

Knows no node internals; drives clusters as a user would.
"""
