# SPDX-License-Identifier: Apache-2.0
"""`heepgen run` of a program of the user's: what is compiled, compared, printed, and said when it is wrong."""

import json
import re
import shutil

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen.frontend.exported.prepare import export
from gen.cli import main
from gen.flows.measure.run import run
from gen.flows.network.application import Application
from gen.flows.network.program import Own
from gen.flows.network.sw import ImportOptions, generate_application
from hls.config import Config
from hls.errors import HeepgenError
from tests.house import ROOT

TOOLCHAINS = ["zig", pytest.param("gcc", marks=pytest.mark.external("riscv64-unknown-elf-g++"))]


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "app"
    torch.manual_seed(4)
    x = torch.randn(1, 6)
    generate_application(export(nn.Linear(6, 3).eval(), x), x.numpy(), Config(), folder, ImportOptions(), name="linear")
    return folder


@pytest.fixture
def app(generated, tmp_path):
    shutil.copytree(generated, tmp_path / "app")
    return tmp_path / "app"


def heepgen(*arguments):
    return CliRunner().invoke(main, ["run", *map(str, arguments), "--software"])


SENSOR = """\
#include "model.hpp"
#include "scale.hpp"
extern "C" int twice(int);
int main() {
  for (int sample = 0; sample < SAMPLES; ++sample) {
    for (uint32_t i = 0; i < kModelInputs; ++i) model_input()[i] = scaled(twice(sample));
    if (model_run() != heepstor::Status::ok) return 1;
    heepstor::print_hex(__builtin_bit_cast(uint32_t, model_output()[0]));
    soc_puts("\\n");
  }
  return RETURNED;
}
"""


def sensor(app):
    """A program of several files, which compares nothing."""
    (app / "main.cpp").write_text(SENSOR)
    (app / "src").mkdir()
    (app / "src" / "scale.hpp").write_text("#pragma once\nfloat scaled(int value);\n")
    (app / "src" / "scale.cpp").write_text('#include "scale.hpp"\nfloat scaled(int value) { return 0.25f * value; }\n')
    (app / "src" / "twice.c").write_text("int twice(int value) { int class = value; return 2 * class; }\n")


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_a_program_of_several_files_runs_and_nothing_is_compared(app, toolchain):
    sensor(app)
    arguments = (app, "--toolchain", toolchain, "--define", "SAMPLES=3", "--define")
    done = heepgen(*arguments, "RETURNED=0", "--json", app / "out.json")
    assert done.exit_code == 0, done.output
    document = json.loads((app / "out.json").read_text())
    weights = torch.export.load(app / "gen" / "model.pt2").state_dict
    values = torch.tensor([int(line, 16) for line in document["uart"].split()]).to(torch.int32).view(torch.float32)
    with torch.no_grad():
        exact = [
            nn.functional.linear(torch.full((6,), 0.5 * s), weights["weight"], weights["bias"])[0] for s in range(3)
        ]
    assert torch.allclose(values, torch.stack(exact), atol=0.05) and len(set(values.tolist())) == 3
    assert document["schema"] == "heepgen.program/1" and document["exit_code"] == 0
    assert "no output was compared" in done.stdout and document["uart"] in done.stdout
    failed = heepgen(*arguments, "RETURNED=3")
    assert failed.exit_code == 1 and "ended with exit status 3" in failed.stderr
    with pytest.raises(HeepgenError, match="did not call model_check"):
        run(app, Config(), software=True, toolchain=toolchain, own=Own(defines=("SAMPLES=1", "RETURNED=0")))


def test_a_program_that_calls_model_check_is_compared(app):
    """In another file, in place of main.cpp, whose own exit status still counts."""
    text = (app / "main.cpp").read_text()
    (app / "main.cpp").write_text("#error not this one\n")
    elsewhere = app / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "value.h").write_text("#define VALUE 7\n")
    source = app.parent / "mine.cpp"
    source.write_text(
        text.replace("return model_check(status, cycles);", "model_check(status, cycles);\n  return VALUE;")
    )
    source.write_text('#include "value.h"\n' + source.read_text())
    done = heepgen(app, "--source", source, "--include", elsewhere, "--json", app / "out.json")
    document = json.loads((app / "out.json").read_text())
    assert document["bit_exact"] and document["exit_code"] == 7
    assert done.exit_code == 1 and "ended with exit status 7" in done.stderr and "mismatches=0" in done.stdout


def test_a_wrong_output_of_a_users_program_is_found(app):
    text = (app / "main.cpp").read_text()
    (app / "main.cpp").write_text(
        text.replace("status = model_run();", "model_input()[0] += 1;\n    status = model_run();")
    )
    done = heepgen(app)
    assert done.exit_code == 1 and "differs from the bit-exact model" in done.stderr and "HG ok" in done.stdout


def test_warnings_are_shown_and_no_error(app):
    text = (app / "main.cpp").read_text()
    (app / "main.cpp").write_text(text.replace("int main() {", "int main() {\n  int forgotten;"))
    for _ in range(2):
        done = heepgen(app)
        assert done.exit_code == 0 and "unused variable 'forgotten'" in done.stderr


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize(
    "text, sentence, words",
    [
        ("int f(int); int main() { return f(1); }", "cannot be linked: nothing defines f(int)", "undefined"),
        ("int helper() { return 1; }", "cannot be linked: nothing defines main", "undefined"),
        ("int main() { return g(); }", "main.cpp does not compile", "'g'"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_our_words_and_the_tools(app, toolchain, text, sentence, words):
    (app / "main.cpp").write_text(text)
    done = heepgen(app, "--toolchain", toolchain)
    first, *rest = done.stderr.splitlines()
    assert done.exit_code == 1 and first.startswith("heepgen: error: ") and sentence in first
    assert any(words in line for line in rest)


def test_two_mains_are_said(app):
    (app / "again.cpp").write_text("int main() {}")
    assert "cannot be linked: main is defined twice" in heepgen(app).stderr


def test_what_cannot_be_is_said(app):
    (app / "main.cpp").unlink()
    for arguments, words in (
        ((), "has no main.cpp, and no other C or C++"),
        (("--source", "absent.cpp"), "--source absent.cpp: there is no such file"),
        (("--include", "absent"), "--include absent: there is no such folder"),
        (("--define", "1=2"), "--define 1=2: write NAME or NAME=VALUE"),
        (("--define", "USE_SOFTWARE_DNN_LAYER_OPERATORS=1"), "--software says that"),
        (("--define", "A", "--elf", "x.elf"), "leave out --source, --include, --define and --print"),
    ):
        done = heepgen(app, *arguments)
        assert done.exit_code == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_program_prints_its_layers_memory_and_outputs_when_asked(app):
    done = heepgen(app, "--print", "--define", "HEEPGEN_MHZ=50", "--json", app / "out.json")
    assert done.exit_code == 0, done.output
    document = json.loads((app / "out.json").read_text())
    manifest = json.loads((app / "gen" / "manifest.json").read_text())
    text = document["uart"]
    assert "---- heepgen: linear, architecture descriptor\nat 50 MHz" in text
    layers = {name: int(cycles) for name, cycles in re.findall(r"^  (.+) \(\w+\): (\d+) cycles", text, re.M)}
    assert list(layers.values()) == [layer["cycles"] for layer in document["layers"]] and list(layers) == ["linear_0"]
    cycles, time = re.search(r"^total: (\d+) cycles, ([0-9.]+) us", text, re.M).groups()
    assert int(cycles) == document["total_cycles"] and float(time) == pytest.approx(int(cycles) / 50, abs=0.1)
    ram, weights, activations, program, free = map(int, re.findall(r"\d+", re.search(r"^memory: .*", text, re.M)[0]))
    assert ram == Config().ram_bytes and ram - weights - activations - program == free > 0
    mode = manifest["software"]
    expected = torch.tensor(mode["expected_bits"]).to(torch.int32).view(torch.float32).tolist()
    rows = re.findall(r"^  \d+: (\S+) (\S+)$", text, re.M)
    assert [float(a) for a, _ in rows] == pytest.approx(expected, rel=1e-6)
    assert [a for a, _ in rows] == [b for _, b in rows]
    best = max(range(3), key=expected.__getitem__)
    assert f"prediction {best}, expected {best}\n" in text
    assert "----" not in heepgen(app).stdout


@pytest.mark.parametrize("standard", ["c++14", "c++17"])
@pytest.mark.parametrize("switch", ["HEEPGEN_REPORT", "PRINT_LAYER_CYCLES", "ENABLE_DEBUG_HEEPSTOR_ASSERTIONS"])
def test_what_switches_add_compiles_without_a_warning(generated, standard, switch):
    from firmware_gen.emit.build import BOOT_DIR
    from sim.toolchain import host_compiler, run_tool

    includes = [f"-I{generated / 'gen'}", f"-I{generated / 'gen' / 'runtime'}", f"-I{BOOT_DIR}"]
    for software in (0, 1):
        flags = [f"-D{switch}=1", f"-DUSE_SOFTWARE_DNN_LAYER_OPERATORS={software}", "-Wall", "-Wextra", "-Werror"]
        source = generated / "gen" / "check.cpp"
        run_tool(
            [*host_compiler(), f"-std={standard}", *flags, *includes, "-fsyntax-only", source], f"compiling {switch}"
        )


SENSOR_EXAMPLE = ROOT / "examples" / "firmware" / "sensor.cpp"


def test_the_sensor_loop_of_the_documents_classifies_as_pytorch_does(app):
    code = SENSOR_EXAMPLE.read_text().partition("\n")[2]
    assert f"```cpp\n{code}```" in (ROOT / "docs" / "firmware.md").read_text()
    done = heepgen(app, "--source", SENSOR_EXAMPLE, "--define", "SAMPLES=6", "--json", app / "out.json")
    assert done.exit_code == 0, done.output
    model = torch.export.load(app / "gen" / "model.pt2").module()
    inputs = [torch.tensor([[float((time * time + i) % 7 - 3) for i in range(6)]]) for time in range(6)]
    with torch.no_grad():
        classes = [int(model(x).argmax()) for x in inputs]
    assert json.loads((app / "out.json").read_text())["uart"] == "".join(f"class {n}\n" for n in classes)
    assert len(set(classes)) > 1


SMALL = Config(rows=4, cols=4, ports=2)
TASKS_EXAMPLE = ROOT / "examples" / "firmware" / "tasks.cpp"
POLLING = """\
#include "check.hpp"
#include "model.hpp"
static uint32_t calls;
extern "C" void poll() { ++calls; }
int main() {
  __asm__ volatile("csrsi mstatus, 8");
  const uint64_t start = model_cycles();
  const heepstor::Status status = model_run();
  const uint64_t cycles = model_cycles() - start;
  uint32_t mstatus;
  __asm__ volatile("csrr %0, mstatus" : "=r"(mstatus));
  soc_puts(mstatus & 8 ? "interrupts on, calls " : "interrupts off, calls ");
  heepstor::print_decimal(calls);
  soc_puts("\\n");
  return model_check(status, cycles);
}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks") / "app"
    torch.manual_seed(5)
    x = torch.randn(1, 2, 8, 8)
    layers = (nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 6), nn.Softmax(dim=-1), nn.Linear(6, 3))
    net = nn.Sequential(*layers).eval()
    generate_application(export(net, x), x.numpy(), SMALL, folder, ImportOptions(), name="tasks")
    return folder


def test_the_tasks_of_the_documents_work_while_the_accelerator_does(small):
    code = TASKS_EXAMPLE.read_text().partition("\n")[2]
    assert f"```cpp\n{code}```" in (ROOT / "docs" / "firmware.md").read_text()
    own = Own(sources=[TASKS_EXAMPLE], defines=["HEEPGEN_WAIT=wait_for_accelerator"])
    done = run(small, SMALL, own=own)
    assert done.bit_exact
    lists = (small / "gen" / "model.cpp").read_text().count("device.run(")
    interrupts, turns = map(int, re.match(r"interrupts (\d+)\nturns of the other task (\d+)\n", done.uart).groups())
    assert interrupts == lists == 2 and turns > 20


def test_a_hook_may_return_at_once_and_interrupts_stay_as_the_program_has_them(small, tmp_path):
    """No handler: the accelerator's interrupt, if it were taken, would end the program."""
    source = tmp_path / "polling.cpp"
    source.write_text(POLLING)
    done = run(small, SMALL, own=Own(sources=[source], defines=["HEEPGEN_WAIT=poll"]))
    assert done.bit_exact
    assert int(re.match(r"interrupts on, calls (\d+)\n", done.uart)[1]) > 20


def test_a_hook_that_is_missing_is_said(small):
    with pytest.raises(HeepgenError, match="nothing defines absent"):
        run(small, SMALL, own=Own(defines=["HEEPGEN_WAIT=absent"]))


OTHER_SOC = ROOT / "examples" / "firmware" / "other_soc"
PAGES = """\
#include <stdio.h>
#include <sys/mman.h>
#include "soc.hpp"
static void map(uintptr_t address, size_t bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  void* const there = mmap(reinterpret_cast<void*>(address), bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (there == MAP_FAILED) __builtin_trap();
}
[[gnu::constructor]] static void before() {
  map(kAccelerator, 4096);
  map(kUart, 4096);
  map(kTimerLow & ~4095u, 4096);
  map(kPlic, 0x201000);
  reinterpret_cast<volatile uint8_t*>(uintptr_t{kUart})[kUartLineStatus] = kUartEmpty;
}
[[gnu::destructor]] static void after() {
  soc_fast_interrupt_enable(15);
  const bool enabled = device(kPlic + 4 * 37) == 1 && device(kPlicEnable + 4) == 1u << 5;
  soc_register(0xf0000004) = 1;
  const bool there = device(kAccelerator + 4) == 1;
  const bool said = *reinterpret_cast<volatile char*>(uintptr_t{kUart}) == '\\n';
  printf("%d %d %d\\n", enabled, there, said);
}
"""


@pytest.mark.parametrize("standard", ["c++14", "c++17"])
def test_the_soc_of_the_documents_is_all_that_generated_code_asks_for(generated, tmp_path, standard):
    """On the host: pages in place of its registers, and no header or source of the virtual X-HEEP."""
    from sim.toolchain import host_compiler, run_tool

    application = Application.open(generated)
    folders = [OTHER_SOC, *application.include_dirs]
    (tmp_path / "pages.cpp").write_text(PAGES)
    flags = [f"-std={standard}", "-O0", "-mfma", "-ffp-contract=off", "-no-pie", "-Wall", "-Wextra", "-Werror"]
    for mode in ("software", "accelerator"):
        defines = [f"-D{name}={value}" for name, value in application.manifest[mode]["defines"].items()]
        defines += ["-DENABLE_DEBUG_HEEPSTOR_ASSERTIONS=1", "-DPRINT_LAYER_CYCLES=1"]
        sources = [generated / "main.cpp", tmp_path / "pages.cpp", *application.sources]
        command = [*host_compiler(), *flags, *defines, *(f"-I{f}" for f in folders), *sources, "-o", tmp_path / mode]
        run_tool(command, "compiling for another SoC")
    assert run_tool([tmp_path / "software"], "running the network") == "1 1 1\n"


def test_the_documents_name_everything_that_generated_code_asks_of_a_soc():
    text = (ROOT / "docs" / "firmware.md").read_text().partition("## Another SoC\n")[2]
    code = (OTHER_SOC / "soc.hpp").read_text().partition("\n")[2]
    assert f"```cpp\n{code}```" in text
    files = [p for p in (ROOT / "firmware_gen").rglob("*") if p.suffix in {".hpp", ".cpp", ".j2"}]
    asked = {n for p in files if p.parent.name != "boot" for n in re.findall(r"\b(soc_\w+)\(", p.read_text())}
    table = "".join(line for line in text.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(soc_\w+)\(", table)) == asked
    assert set(re.findall(r"^(?:\[\[noreturn\]\] )?inline [^(]*\b(soc_\w+)\(", code, re.M)) == asked
