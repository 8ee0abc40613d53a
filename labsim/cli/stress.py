"""`labsim stress`: random calls and troubles, checked by all oracles.

Does not know how a run is made, nor what is right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from labsim.base.errors import InputError
from labsim.cli.common import write

SEEDS = 12
LIVE_MINUTES = 2.0


@click.command("stress", epilog="Example: labsim stress --seeds 200 --seed 1")
@click.option("--seeds", type=click.IntRange(1), help="Runs; default: 12, or 1 with --live.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the first run.")
@click.option("--clients", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--mds", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--oss", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--osts", type=click.IntRange(0), default=0, help="OSTs in all; default: one an OSS.")
@click.option("--calls", type=click.IntRange(1), default=60, show_default=True, help="Of a client.")
@click.option("--troubles", type=click.IntRange(0), default=4, show_default=True, help="In a run.")
@click.option("--faults", default="", metavar="KIND,KIND", help="Kinds of trouble; default: all; "
              "with --live: power and client; the others may be named.")  # fmt: skip
@click.option("--live", is_flag=True, help="Run on real processes, not simulated.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="With --live: how long "
              "things break; default: 2. The rest takes a minute or two.")  # fmt: skip
@click.option("--check", is_flag=True, help="Look at the invariants all the time.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Runs at a time; default: one a core.")
@click.option("--keep", type=click.Path(path_type=Path), help="Write what fails to FILE, as small "
              "as it gets, as a scenario.")  # fmt: skip
def command(
    seeds: int | None,
    seed: int,
    clients: int,
    mds: int,
    oss: int,
    osts: int,
    calls: int,
    troubles: int,
    faults: str,
    live: bool,
    minutes: float | None,
    check: bool,
    jobs: int | None,
    keep: Path | None,
) -> int:
    """Run random calls of several clients while things break.

    A run is a seed: the same seed is the same run. The first that fails is made as small as it
    gets and told. What breaks: power (a server's), both (two servers'), client (a client's),
    failover (targets move to a partner), partition, drop, answers (lost replies), duplicate,
    reorder, delay, disk (slow, full, failing). On real processes a seed is the same calls and
    troubles, not the same run. The exit status is 0 when all runs were clean.
    """
    from labsim.scenario import stress
    from labsim.scenario.nemesis import TROUBLES

    kinds = tuple(filter(None, faults.split(","))) or (stress.LIVE if live else stress.ALL)
    _known(kinds, tuple(TROUBLES))
    plan = stress.Plan(
        clients=clients,
        mds=mds,
        oss=oss,
        osts=osts,
        calls=calls,
        troubles=troubles,
        faults=kinds,
        live=live,
    )
    if minutes is not None and not live:
        raise InputError("--minutes is for --live; without it, --calls says how much is done")
    if live:
        from labsim.cli.stress_live import live as follow

        plan = stress.for_minutes(plan, minutes or LIVE_MINUTES)
        return follow(plan, range(seed, seed + (seeds or 1)), check)
    chosen = range(seed, seed + (seeds or SEEDS))
    made = _run(plan, chosen, jobs, check)
    bad = [run for run in made if not run.ok]
    open_ones = sum(run.undecided for run in made)
    if open_ones:
        click.echo(f"{open_ones} random runs: too much in doubt to check all calls")
    if not bad:
        click.echo(click.style(f"{len(chosen)} random runs: clean", "green"))
        return 0
    for one in bad:
        click.echo(click.style(f"seed {one.seed}: {one.wrong[0].splitlines()[0]}", "red"))
    _tell(plan, bad[0].seed, keep)
    return 1


def _known(kinds: tuple[str, ...], known: tuple[str, ...]) -> None:
    from labsim.scenario.suggest import nearest

    for kind in kinds:
        if kind not in known:
            raise InputError(f"no trouble is called '{kind}'{nearest(kind, known)}")


def _run(plan: Any, seeds: range, jobs: int | None, check: bool) -> list[Any]:
    """Make the runs, by seed."""
    from labsim.scenario.batch import Task, cores, in_parallel, one_by_one
    from labsim.scenario.matrix import progress
    from labsim.scenario.model import REFERENCE_TREE

    tasks = [Task("", REFERENCE_TREE, "sim", seed, plan=plan, check=check) for seed in seeds]
    made: list[Any] = []
    with progress(len(tasks), True) as advance:

        def note(run: Any) -> None:
            made.append(run)
            advance()

        workers = min(jobs or cores(), len(tasks))
        if workers > 1:
            in_parallel(tasks, workers, note)
        else:
            for run in one_by_one(tasks):
                note(run)
    return sorted(made, key=lambda run: run.seed)


def _tell(plan: Any, seed: int, keep: Path | None) -> None:
    """Make a failing run small, and show what broke and how to see it again."""
    from labsim.scenario import stress
    from labsim.scenario.shrink import Shrinker
    from labsim.scenario.write_yaml import text_of

    def attempt(script: Any) -> Any:
        from labsim.scenario.model import REFERENCE_TREE
        from labsim.scenario.runner import run

        return run(stress.assembled(script, f"seed {seed}"), REFERENCE_TREE, seed=seed)

    def fails(script: Any) -> str:
        made = attempt(script)
        return made.wrong[0].partition(":")[0] if made.wrong else ""

    small = Shrinker(fails).shrink(stress.script(plan, seed))
    click.echo(f"seed {seed}, as small as it gets:")
    for what in attempt(small).wrong:
        click.echo(f"  {what}")
    text = text_of(stress.assembled(small, f"random run, seed {seed}"))
    if keep is None:
        click.echo(text)
        return
    write(keep, text)
    click.echo(f"again: labsim run {keep} --seed {seed}")
