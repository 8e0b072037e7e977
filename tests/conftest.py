# SPDX-License-Identifier: Apache-2.0
"""Options of the test suite: waves on failure, which slow tests to run, tests that need more than Python packages."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import engine

# Before torch is loaded: the workers of a run share the cores, and small tensors are faster on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HEEPGEN_THREADS", "1")

from gen import console  # noqa: E402
from tests import slices  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
WAVES = ROOT / "waves"

# What tests find on standard error does not depend on how busy the machine is.
console.PATIENCE = 3600.0

# Simulations take as long as they take, and the fixtures below are safe to share between examples.
settings.register_profile(
    "heepgen",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
settings.load_profile("heepgen")
# A failing simulation is made smaller for a minute, not for five.
engine.MAX_SHRINKING_SECONDS = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("heepgen")
    group.addoption(
        "--waves",
        choices=("off", "fail", "all"),
        default="fail",
        help="VCD files in waves/: of no test, of failing tests (default), of all tests",
    )
    group.addoption(
        "--slow",
        choices=("off", "slice", "all"),
        default="slice",
        help=f"slow tests: none, the {slices.COUNT}th part whose turn it is (default), all; tests named "
        "one by one always run",
    )
    group.addoption(
        "--store-durations",
        action="store_true",
        help=f"write the durations of the slow tests of this run to {slices.TABLE.name}",
    )


NEEDS = {
    "XHEEP_DIR": "a checkout of X-HEEP, named by XHEEP_DIR (docs/xheep.md)",
    "HEEPGEN_TINY": "the trained reference weights of MLPerf Tiny, in a folder named by HEEPGEN_TINY",
    "chromium": "the browser Chromium",
    "cmake": "CMake",
    "g++": "GNU C++ for this machine",
    "gtkwave": "GTKWave",
    "iverilog": "Icarus Verilog",
    "riscv64-unknown-elf-g++": "GNU C++ for RISC-V",
}
"""What the marker `external` may ask for, a program on PATH or a variable of the environment."""


def _needs(item: pytest.Item) -> list[str]:
    return [need for mark in item.iter_markers("external") for need in mark.args]


def _is_missing(need: str) -> bool:
    return not (os.environ.get(need) if need.isupper() else shutil.which(need))


def pytest_configure(config: pytest.Config) -> None:
    config.external = Counter()
    if config.getoption("--slow") == "slice":  # workers inherit the number
        number, reason = slices.current(ROOT)
        os.environ["HEEPGEN_SLICE"] = str(number)
        config.slice_words = (
            f"slow tests: slice {number} of {slices.COUNT}, {reason}; HEEPGEN_SLICE={number} repeats it"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = []
    for item in items:
        needs = _needs(item)
        if needs and not _is_named(config, "external", "xheep"):
            config.external[item.path.name, *needs] += 1
        elif _is_chosen(config, item):
            chosen.append(item)
            if missing := [NEEDS[need] for need in needs if _is_missing(need)]:
                item.add_marker(pytest.mark.skip(reason=f"needs {' and '.join(missing)}"))
    dropped = set(items) - set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item in dropped])
    items[:] = chosen


def _is_named(config: pytest.Config, *markers: str) -> bool:
    """Whether the command line asks for tests one by one, or with -m for one of the markers."""
    return any("::" in argument for argument in config.args) or any(m in config.option.markexpr for m in markers)


def _is_chosen(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether the turn is a test's: quick ones always, slow ones by --slow, unless named."""
    mode = config.getoption("--slow")
    if not item.get_closest_marker("slow") or mode == "all" or _is_named(config):
        return True
    return mode == "slice" and slices.of(item.nodeid) == int(os.environ["HEEPGEN_SLICE"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if hasattr(config, "slice_words"):
        terminalreporter.write_line(config.slice_words)
    if config.getoption("--store-durations"):
        slices.store(
            report
            for reports in terminalreporter.stats.values()
            for report in reports
            if isinstance(report, pytest.TestReport) and "slow" in report.keywords
        )
    external = getattr(config, "external_of_workers", config.external)
    if external:
        terminalreporter.write_line("external tests, not run here (make test-external runs them):")
    for (file, *needs), count in sorted(external.items()):
        terminalreporter.write_line(f"  {count:3} of {file}: needs {' and '.join(NEEDS[n] for n in needs)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["external"] = [[*key, n] for key, n in session.config.external.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    rows = getattr(node, "workeroutput", {}).get("external", [])
    node.config.external_of_workers = {tuple(key): count for *key, count in rows}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.when == "call":
        item.failed = report.failed
    return report


def _wave_path(request: pytest.FixtureRequest) -> Path:
    """Where this test's waves go; those of an earlier run are removed."""
    test = re.sub(r"[^A-Za-z0-9.=-]+", "_", request.node.nodeid.removeprefix("tests/")).strip("_")
    path = WAVES / f"{test[:180]}.vcd"
    for old in (path, path.with_suffix(".gtkw"), path.with_suffix(".sucl")):
        old.unlink(missing_ok=True)
    return path


def _save_file(path: Path) -> None:
    """Save files of viewers beside the waves of a simulation, if it wrote any."""
    from sim.waves import write_save_file

    if path.exists():
        write_save_file(path)


@pytest.fixture
def vcd(request: pytest.FixtureRequest):
    """Path for this test's VCD, or None with --waves=off. With --waves=fail it is removed when the test passes.

    Writing waves costs simulation time: where that hurts, use `with_waves`.
    """
    mode = request.config.getoption("--waves")
    if mode == "off":
        yield None
        return
    path = _wave_path(request)
    path.parent.mkdir(exist_ok=True)
    yield path
    if mode == "fail" and not getattr(request.node, "failed", True):
        path.unlink(missing_ok=True)
    _save_file(path)


@pytest.fixture
def gallery(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    """Path by name of waves that stay where the test passes too; with --waves=off they do not."""
    if request.config.getoption("--waves") == "off":
        return lambda name: tmp_path / f"{name}.vcd"
    WAVES.mkdir(exist_ok=True)
    return lambda name: WAVES / f"{name}.vcd"


@pytest.fixture
def with_waves(request: pytest.FixtureRequest) -> Callable:
    """`with_waves(simulate)` returns `simulate(vcd=None)`; when that raises, it runs once more with a path.

    So passing tests simulate at full speed, and the smallest failing example of a property test leaves its
    waves. With --waves=all the first run already writes them.
    """
    mode = request.config.getoption("--waves")
    path = _wave_path(request)

    def run(simulate: Callable):
        WAVES.mkdir(exist_ok=True)
        try:
            return simulate(vcd=path if mode == "all" else None)
        except Exception:
            if mode == "fail":
                simulate(vcd=path)
            raise
        finally:
            _save_file(path)

    return run
