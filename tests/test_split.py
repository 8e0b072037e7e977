# SPDX-License-Identifier: Apache-2.0
"""Splitting the accelerator's model: the parts may be parted, and nothing changes when they are."""

import dataclasses
import re
import shutil

import pytest
import torch

from firmware_gen.application.options import ImportOptions
from gen.flows.measure.run import Application, compiled, hardware, run
from gen.flows.network.sw import generate_application
from hls.config import Config
from hls.errors import HeepgenError
from sim.build import TESTBENCH_DIR, accelerator_files, build_accelerator, build_part
from sim.rtl import simulate_module
from sim.run import run_soc
from sim.split import SPLIT, find_parts, hollow, parts_header
from sim.toolchain import compile_object, host_compiler, lint, run_tool

CONFIGS = [Config(3, 5, "aligned", 3), Config(4, 2, "fma", 1), Config(1, 1, "aligned", 1)]


def parts_of(config):
    return find_parts(accelerator_files(hardware(config)), "heepstor")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.rows}x{c.cols}-{c.arithmetic}")
def test_parts_have_the_ports_of_their_modules(config, tmp_path):
    parts = parts_of(config)
    assert tuple(p.instance for p in parts) == SPLIT
    for part in parts:
        source = next(f for f in part.files if f.stem == part.module).read_text()
        header = re.search(rf"module {part.module} \((.*?)\);", source, re.DOTALL)[1]
        assert {"clk", *part.inputs, *part.outputs} == {port.split()[-1] for port in header.split(",")}
        file = tmp_path / f"{part.module}.v"
        file.write_text("/* verilator lint_off UNUSED */\n/* verilator lint_off UNDRIVEN */\n" + hollow(part))
        lint([file], part.module)
        lint(part.files, part.module)  # complete without the rest of the accelerator


RANDOM_INPUTS = """
#include "V{module}.h"
#include <cstdio>
#include <cstring>
#include <random>
template <class Pin> void draw(Pin& pin, std::mt19937& random) {{
  unsigned char bytes[sizeof pin];
  for (auto& byte : bytes) byte = static_cast<unsigned char>(random());
  std::memcpy(&pin, bytes, sizeof pin);
}}
int main() {{
  V{module} dut;
  std::mt19937 random(1);
  int changes = 0;
  for (int cycle = 0; cycle < 2000; ++cycle) {{
    {draw}
    {mask}
    if (cycle) dut.rst = random() % 64 == 0;
    else dut.rst = 1;
    {keep}
    dut.clk = 0;
    dut.eval();
    if (cycle && !({same})) return std::printf("an output follows an input, cycle %d\\n", cycle), 1;
    dut.clk = 1;
    dut.eval();
    changes += !({same});
  }}
  std::printf("%d\\n", changes);
}}
"""


def bits(part):
    """Width of every input."""
    source = next(f for f in part.files if f.stem == part.module).read_text()
    width = {name: high for high, name in re.findall(r"^    input wire \[(\d+):0\] (\w+),?$", source, re.MULTILINE)}
    return {name: int(width.get(name, 0)) + 1 for name in part.inputs}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.rows}x{c.cols}-{c.arithmetic}")
def test_outputs_depend_on_registers_alone(config):
    for part in parts_of(config):
        width = bits(part)
        top = {name: n % 32 or 32 for name, n in width.items()}
        mask = [
            f"dut.{n} &= {(1 << w) - 1}ull;" if w <= 64 else f"dut.{n}[{(w - 1) // 32}] &= {(1 << top[n]) - 1}u;"
            for n, w in width.items()
        ]
        text = RANDOM_INPUTS.format(
            module=part.module,
            draw=" ".join(f"draw(dut.{n}, random);" for n in part.inputs),
            mask=" ".join(mask),
            keep=" ".join(f"const auto before_{n} = dut.{n};" for n in part.outputs),
            same=" && ".join(f"!std::memcmp(&before_{n}, &dut.{n}, sizeof before_{n})" for n in part.outputs),
        )
        assert int(simulate_module(part.files, part.module, text)) > 500


def test_options_that_a_part_does_not_depend_on_leave_its_model():
    one = parts_of(Config(3, 5, "aligned", 3))
    other = parts_of(Config(3, 5, "aligned", 3, activation_words=1024, weight_bytes=512, scratchpad_words=0))
    assert [p.content() for p in one] == [p.content() for p in other]
    assert one[0].content() != parts_of(Config(3, 4))[0].content()


def small_network(config, folder):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 6, 3, groups=6),
        torch.nn.Flatten(),
        torch.nn.Linear(54, 5),
    ).eval()
    x = torch.randn(1, 3, 10, 10)
    generate_application(torch.export.export(model, (x,)), x.numpy(), config, folder, ImportOptions(), name="small")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS[:2], ids=lambda c: f"{c.rows}x{c.cols}-{c.arithmetic}")
def test_threads_and_splitting_change_nothing(config, tmp_path, monkeypatch):
    torch.manual_seed(1)
    folder = small_network(config, tmp_path / "app")

    def report(threads, **options):
        monkeypatch.setenv("HEEPGEN_THREADS", threads)
        return dataclasses.replace(run(folder, config, **options), seconds=0.0)

    whole = report("1", vcd=tmp_path / "run.vcd", withheld=0.3)  # a model that writes waves is not split
    assert whole.bit_exact
    assert report("1", withheld=0.3) == whole
    for _ in range(5):
        assert report("2", withheld=0.3) == whole


@pytest.mark.parametrize(
    "module, old, new",
    [
        ("heepstor_systolic_array", r"(assign col_data =) ([^;]+);", r"\1 \2 ^ vec[0];"),
        ("heepstor", r"\.vec_max\(vec_max\)", ".vec_max(vec_max ^ m_rvalid[0])"),
    ],
)
def test_parts_that_hang_together_are_refused(module, old, new, tmp_path):
    config = CONFIGS[0]
    folder = shutil.copytree(hardware(config), tmp_path / "hw")
    text, changed = re.subn(old, new, (folder / f"{module}.v").read_text())
    assert changed == 1
    (folder / f"{module}.v").write_text(text)
    application = Application.open(small_network(config, tmp_path / "app"))
    result = run_soc(compiled(application, False, "zig", tmp_path, lambda message: None), folder, config)
    assert (result.ended, result.message.split(":")[0]) == ("error", "the accelerator cannot be simulated in parts")


def test_bad_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("HEEPGEN_THREADS", "many")
    with pytest.raises(HeepgenError, match="^HEEPGEN_THREADS = many: must be 1 or 2.$"):
        run(small_network(CONFIGS[2], tmp_path / "app"), CONFIGS[2])


TEAM = """
#include "team.hpp"
#include <cstdio>
#include <vector>
int main() {
  const int jobs = 3;
  for (int threads : {1, 2}) {
    std::vector<int> done(jobs);  // not atomic: a job done twice, or after finish(), is lost or seen
    Team team(threads, jobs, [&](int i) { ++done[i]; });
    team.finish();  // nothing was started
    for (int round = 1; round <= 200000; ++round) {
      team.start();
      for (volatile int k = 0; k < round % 97; k = k + 1) {}
      team.finish();
      for (int i = 0; i < jobs; ++i)
        if (done[i] != round) return std::printf("job %d: done %d times in %d rounds\\n", i, done[i], round), 0;
    }
    team.start();  // ends with work left
  }
  std::printf("ok\\n");
}
"""


def test_every_job_of_a_round_is_done_once(tmp_path):
    source = tmp_path / "team.cpp"
    source.write_text(TEAM)
    program = tmp_path / "team"
    run_tool(
        [
            *host_compiler(),
            "-O2",
            "-std=gnu++17",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{TESTBENCH_DIR}",
            "-pthread",
            source,
            "-o",
            program,
        ],
        "compiling",
    )
    assert run_tool([program], "running") == "ok\n"


@pytest.mark.parametrize("split", [True, False])
def test_adapter_compiles_without_a_warning(split, tmp_path):
    folder = hardware(CONFIGS[0])
    parts = parts_of(CONFIGS[0]) if split else []
    models = [f"-isystem{build_part(part)}" for part in parts]
    (tmp_path / "parts.hpp").write_text(parts_header(parts, "heepstor"))
    compile_object(
        TESTBENCH_DIR / "accelerator.cpp",
        tmp_path / "accelerator.o",
        [
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{TESTBENCH_DIR}",
            f"-I{tmp_path}",
            f"-isystem{build_accelerator(folder)}",
            *models,
            "-DHEEPGEN_TRACE=0",
        ],
    )
