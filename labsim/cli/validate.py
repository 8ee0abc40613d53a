"""`labsim validate`: scenario files, checked without running them.

Does not know what a scenario does.
"""

from __future__ import annotations

from typing import Any

import click

from labsim.base.errors import InputError
from labsim.cli.common import json_option, print_json


@click.command("validate", epilog="Example: labsim validate scenarios/xattr/lu_10787.yaml")
@click.argument("paths", nargs=-1, required=True, metavar="SCENARIO...")
@json_option
def command(paths: tuple[str, ...], as_json: bool) -> int:
    """Check scenario files: keys, verbs, options, trees, histories, units, overlays.

    Every mistake is told as FILE:LINE:COLUMN. The exit status is 2 where there is one.
    """
    from labsim.scenario import load

    found: list[dict[str, Any]] = []
    for path in load.find(paths):
        problem = ""
        try:
            scenario = load.load(path)
            load.overlays(load.overlay_file(scenario))
        except InputError as error:
            problem = str(error)
        found.append({"path": str(path), "ok": not problem, "problems": problem.splitlines()})
        if not as_json:
            click.echo(problem or f"{path}: ok", err=bool(problem))
    ok = all(row["ok"] for row in found)
    if as_json:
        print_json({"ok": ok, "files": found})
    return 0 if ok else 2
