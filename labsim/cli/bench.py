"""`labsim bench`: what this machine reaches, measured now.

Does not know what is measured.
"""

from __future__ import annotations

from typing import Any

import click

from labsim.cli.common import json_option, print_json

KEYS = {"value", "unit", "aim", "reached", "command"}
"""What all results have; the rest are the parts that a value was made of."""


@click.command("bench", epilog="Example: labsim bench sim live --json")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--list", "only_list", is_flag=True, help="Say what they measure; measure nothing.")
@json_option
def command(names: tuple[str, ...], only_list: bool, as_json: bool) -> int:
    """Run the benchmarks: all, some by name, or a group by what the names begin with.

    Groups are startup, sim, live, wire and kernel. Each is measured anew and stands beside what
    labsim is to reach. Live rates are those of an idle machine.
    """
    from labsim.perf import bench, captures, clusters, contention, kernel, waiting, wire

    modules = (captures, clusters, contention, kernel, waiting, wire)
    assert all(module.ROUNDS for module in modules), "importing them registers their benchmarks"

    chosen = bench.chosen(names)
    if only_list:
        for name in chosen:
            click.echo(f"{name:28} {bench.BENCHES[name].what}")
        return 0
    if not as_json:
        click.echo(bench.machine())
    results = {}
    for name in chosen:
        measured = results[name] = bench.measure(name)
        if not as_json:
            click.echo(_row(name, measured))
    if as_json:
        print_json(results)
    return 0


def _row(name: str, measured: dict[str, Any]) -> str:
    """A line: the value, whether that is what it should be, and what it was made of."""
    value, unit, aim = measured["value"], measured["unit"], ""
    if "aim" in measured:
        aim = f"{measured['aim']}: {'reached' if measured['reached'] else 'MISSED'}"
    parts = ", ".join(f"{key} {part}" for key, part in measured.items() if key not in KEYS)
    return f"{name:28} {value:>10} {unit:28} {aim:24} {parts}".rstrip()
