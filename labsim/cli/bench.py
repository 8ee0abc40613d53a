"""`labsim bench`: what this machine reaches, measured now.

Does not know what is measured.
"""

from __future__ import annotations

import click

from labsim.base.errors import InputError
from labsim.cli.common import json_option, print_json


@click.command("bench", epilog="Example: labsim bench --json")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Run the benchmarks, all or some by name."""
    from labsim.perf import bench, clusters
    from labsim.scenario.suggest import nearest

    assert clusters.ROUNDS, "importing it registers its benchmarks"

    for name in names:
        if name not in bench.BENCHES:
            raise InputError(f"no benchmark '{name}'{nearest(name, bench.BENCHES)}")
    results = {}
    for name in names or tuple(bench.BENCHES):
        measured = results[name] = bench.measure(name)
        if not as_json:
            click.echo(f"{name:28} {measured['value']:>12} {measured['unit']}")
    if as_json:
        print_json(results)
    return 0
