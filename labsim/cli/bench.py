"""`labsim bench`: what this machine reaches, measured now.

Does not know what is measured.
"""

from __future__ import annotations

import click

from labsim.cli.common import json_option, print_json


@click.command("bench", epilog="Example: labsim bench --json")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Run the benchmarks: all, some by name, or a group (`wire`) by what the names begin with."""
    from labsim.perf import bench, captures, clusters, contention, kernel, wire

    modules = (captures, clusters, contention, kernel, wire)
    assert all(module.ROUNDS for module in modules), "importing them registers their benchmarks"

    results = {}
    for name in bench.chosen(names):
        measured = results[name] = bench.measure(name)
        if not as_json:
            click.echo(f"{name:28} {measured['value']:>12} {measured['unit']}")
    if as_json:
        print_json(results)
    return 0
