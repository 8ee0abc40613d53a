"""SimPy's own tests and examples, on the native kernel.

They come from SimPy's source distribution, fetched with pip when this runs; nothing of it is
kept. Without a package index the tests are skipped, with pip's reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("labsim.runtime.des", reason="the native modules are not built")

ROOT = Path(__file__).resolve().parents[3]
RUNNER = Path(__file__).with_name("as_simpy.py")
DEVIATIONS = {"tests/test_exceptions.py::test_exception_chaining"}
"""These look for the lines of SimPy's own files in a traceback; see docs/kernel.md."""
EXAMPLES = (
    "bank_renege",
    "carwash",
    "gas_station_refuel",
    "latency",
    "machine_shop",
    "movie_renege",
    "process_communication",
)


@pytest.fixture(scope="module")
def distribution(tmp_path_factory) -> Path:
    """SimPy's source distribution, of the installed version, unpacked and without its package."""
    place = tmp_path_factory.mktemp("simpy")
    wanted = f"simpy=={version('simpy')}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    got = subprocess.run(
        [*pip, "--dest", str(place), wanted], capture_output=True, text=True, check=False
    )
    archives = list(place.glob("*.tar.gz"))
    if got.returncode or not archives:
        last = (got.stderr.strip() or "no archive").splitlines()[-1]
        pytest.skip(reason=f"the source distribution of {wanted} cannot be fetched: {last}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(place, filter="data")
    return archives[0].with_suffix("").with_suffix("")


def run(distribution: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", str(RUNNER), *arguments],
        cwd=distribution,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_simpys_own_suite(distribution):
    names = sorted(str(path.relative_to(distribution)) for path in distribution.glob("tests/t*.py"))
    options = ["-q", "-rf", "-W", "ignore", "-p", "no:cacheprovider", "-p", "no:randomly"]
    done = run(distribution, "pytest", *options, *names, "README.rst")
    failed = set(re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE))
    counts = re.search(r"(\d+) failed, (\d+) passed, 10 deselected", done.stdout)
    assert failed == DEVIATIONS, done.stdout + done.stderr
    assert counts, done.stdout
    assert (int(counts[1]), int(counts[2])) == (len(DEVIATIONS), 141)


@pytest.mark.parametrize("name", EXAMPLES)
def test_simpys_examples(distribution, name):
    script = distribution / "docs/examples/code" / f"{name}.py"
    done = run(distribution, str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == script.with_suffix(".out").read_text()
