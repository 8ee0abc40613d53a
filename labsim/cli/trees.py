"""`labsim trees`: the source trees that nodes may run.

Does not know any bug.
"""

from __future__ import annotations

import click

from labsim.cli.common import json_option, print_json


@click.command("trees", epilog="Example: labsim trees --json")
@json_option
def command(as_json: bool) -> int:
    """List the trees: releases, the staging client, vendors' trees."""
    from labsim import trees

    rows = [
        {
            "name": tree.name,
            "family": tree.family,
            "version": ".".join(map(str, tree.version)),
            "branch": tree.branch,
            "base": tree.base,
            "approximated_by": tree.approximated_by,
            "note": tree.note,
        }
        for tree in trees.all_trees()
    ]
    if as_json:
        print_json({"trees": rows})
        return 0
    from labsim.scenario.tables import print_table

    shown = [[row["name"], row["family"], row["branch"], _remark(row)] for row in rows]
    print_table(["tree", "family", "branch", "remark"], shown)
    return 0


def _remark(row: dict[str, str]) -> str:
    about = row["approximated_by"]
    return f"approximated by {about}" if about else row["note"]
