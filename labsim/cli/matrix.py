"""`labsim matrix`: regressions by trees.

Does not know how a run is made.
"""

from __future__ import annotations

from pathlib import Path

import click

from labsim.cli.common import checked_trees, json_option, print_json, run_options, write


@click.command(
    "matrix", epilog="Example: labsim matrix xattr --tree 2.10.8 --tree 2.12.0 --tree staging-4.16"
)
@click.argument("paths", nargs=-1, metavar="[SCENARIO...]")
@run_options
@click.option("-j", "--jobs", type=click.IntRange(1), help="Runs at a time; default: one a core.")
@json_option
def command(
    paths: tuple[str, ...],
    trees: tuple[str, ...],
    seed: int,
    live: bool,
    junit: Path | None,
    pcap: str | None,
    check: bool,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Run scenarios on client trees and print the table.

    Without SCENARIO every packaged regression, without --tree every known tree. A behaviour
    (covers:) must hold on every tree that it is asked of.
    """
    from labsim import trees as known
    from labsim.scenario import load, matrix
    from labsim.scenario.cluster import Runtime

    scenarios = [load.load(path) for path in load.all_or(paths)]
    if not paths:
        scenarios = [scenario for scenario in scenarios if not scenario.covers]
    names = checked_trees(trees) or known.names()
    runtime: Runtime = "live" if live else "sim"
    table = matrix.make(scenarios, names, runtime, seed, jobs, not as_json, pcap, check)
    if as_json:
        print_json(table.plain())
    else:
        table.show()
    if junit is not None:
        from labsim.scenario.junit import junit_xml

        write(junit, junit_xml(table.runs))
    return 0 if table.ok else 1
