"""`labsim verbs`: the words that a step may use.

Does not know what a verb does; shows its manual.
"""

from __future__ import annotations

import click

from labsim.base.errors import InputError
from labsim.cli.common import json_option, print_json


@click.command("verbs", epilog="Example: labsim verbs setfattr")
@click.argument("names", nargs=-1, metavar="[VERB...]")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> int:
    """List the verbs of scenario steps, or show the manual of some."""
    from labsim.scenario.steps import VERBS
    from labsim.scenario.suggest import nearest

    for name in names:
        if name not in VERBS:
            raise InputError(f"no verb '{name}'{nearest(name, VERBS)}")
    if as_json:
        chosen = names or tuple(sorted(VERBS))
        print_json([{"name": n, "on": VERBS[n].on, "manual": VERBS[n].manual} for n in chosen])
        return 0
    if names:
        click.echo("\n\n".join(VERBS[name].manual for name in names))
        return 0
    width = max(map(len, VERBS))
    for name in sorted(VERBS):
        click.echo(f"{name:{width}}  {VERBS[name].manual.splitlines()[0]}")
    return 0
