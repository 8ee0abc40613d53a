"""The object storage server: ofd, its grants, and the node that runs them.

Knows objects, not files. Stands for lustre/ofd and lustre/ost.
"""

from labsim.nodes.oss.oss import Oss

__all__ = ["Oss"]
