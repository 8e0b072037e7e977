"""Options of the test suite: waves on failure, and how many of the slow tests to run."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import engine

# Before torch is loaded: the workers of a run share the cores, and small tensors are faster on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HEEPGEN_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
WAVES = ROOT / "waves"

# Simulations take as long as they take, and the fixtures below are safe to share between examples.
settings.register_profile("heepgen", deadline=None, print_blob=True, suppress_health_check=[
    HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large])
settings.load_profile("heepgen")
# A failing simulation is made smaller for a minute, not for five.
engine.MAX_SHRINKING_SECONDS = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("heepgen")
    group.addoption("--waves", choices=("off", "fail", "all"), default="fail",
                    help="VCD files in waves/: of no test, of failing tests (default), of all tests")
    group.addoption("--slow", choices=("off", "part", "all"), default="part",
                    help="slow tests: none, the first of every file (default), all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _skip_slow(config.getoption("--slow"), items)
    if not os.environ.get("XHEEP_DIR"):
        skip = pytest.mark.skip(reason="needs X-HEEP: set XHEEP_DIR to a checkout of it")
        for item in items:
            if item.get_closest_marker("xheep"):
                item.add_marker(skip)


def _skip_slow(mode: str, items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="slow: --slow=all runs it")
    seen: set[Path] = set()
    for item in items:
        if mode == "all" or not item.get_closest_marker("slow"):
            continue
        if mode == "off" or item.path in seen:
            item.add_marker(skip)
        seen.add(item.path)


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
    for old in (path, path.with_suffix(".gtkw")):
        old.unlink(missing_ok=True)
    return path


def _save_file(path: Path) -> None:
    """A GTKWave save file beside the waves of a simulation, if it wrote any."""
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
