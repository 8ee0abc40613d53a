"""labsim: a Lustre cluster in a Python package, simulated or live.

    import labsim

    with labsim.Cluster(clients=2, oss=2, osts=4) as cluster:
        cluster.client(0).run("touch f")

`runtime="live"` makes the nodes real processes.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["Cluster", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the cluster only when it is used, so that small commands start fast."""
    if name == "Cluster":
        from labsim.scenario.cluster import Cluster

        return Cluster
    raise AttributeError(f"module 'labsim' has no attribute '{name}'")
