"""`labsim run`: scenarios on trees, step by step.

Does not know how a step is carried out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from labsim.cli.common import checked_trees, json_option, print_json, run_options, write


@click.command("run", epilog="Example: labsim run xattr/lu_10787 --tree 2.10.5 --tree 2.12.0 -v")
@click.argument("paths", nargs=-1, required=True, metavar="SCENARIO...")
@run_options
@click.option("-v", "--verbose", is_flag=True, help="Show every step.")
@json_option
def command(
    paths: tuple[str, ...],
    trees: tuple[str, ...],
    seed: int,
    live: bool,
    junit: Path | None,
    pcap: str | None,
    check: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Run scenarios: files, folders, or packaged names.

    Without --tree each runs on the trees around its change: one with the bug, one without.
    The exit status is 0 when every verdict is as the tree's history demands, 1 otherwise.
    """
    from labsim.scenario import kits, load, runner
    from labsim.scenario.cluster import Runtime

    chosen = checked_trees(trees)
    scenarios = [load.load(path) for path in load.find(paths)]
    runtime: Runtime = "live" if live else "sim"
    output = runner.Listener() if as_json else _told(verbose)
    plan = [(scenario, chosen or kits.around(scenario)) for scenario in scenarios]
    count = sum(len(names) for _, names in plan)
    runs = []
    for scenario, names in plan:
        output.scenario(scenario)
        for tree in names:
            capture = runner.capture_file(pcap, scenario, tree, count)
            made = runner.run(scenario, tree, runtime, seed, output, capture, check)
            runs.append(made)
    ok = all(made.ok for made in runs)
    if as_json:
        print_json({"ok": ok, "runs": [made.plain() for made in runs]})
    else:
        output.summary(runs)
    if junit is not None:
        from labsim.scenario.junit import junit_xml

        write(junit, junit_xml(runs))
    return 0 if ok else 1


def _told(verbose: bool) -> Any:
    """Runs for a person."""
    from labsim.scenario.report import Told

    return Told(verbose)
