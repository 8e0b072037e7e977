# SPDX-License-Identifier: Apache-2.0
"""The generated application: its files, and its software kernels compiled for the host against their NumPy twins."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import firmware_gen
from firmware_gen import CodeGenerator
from firmware_gen.emit import literals
from gen.flows.measure.run import hardware
from hls.bus.head import VERSION, name_words
from hls.config import Config
from hls.errors import HeepgenError
from sim.firmware import compile_firmware
from sim.run import run_soc
from sim.toolchain import host_compiler, run_tool
from tests import bounds, networks
from tests.applications import everything, generated

HERE = Path(__file__).parent

MODELS = {
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(1, 6, 4), nn.ReLU(), nn.Conv2d(6, 5, 3, 2, 1), nn.ReLU6(), nn.Flatten(), nn.Linear(180, 10)
        ),
        (1, 1, 14, 14),
    ),
    "batch": (
        nn.Sequential(
            nn.Conv2d(3, 7, (2, 5), padding=(1, 3), dilation=(2, 1)), nn.MaxPool2d(3, 2, 1), nn.Conv2d(7, 4, 1)
        ),
        (2, 3, 9, 11),
    ),
    "groups": (
        nn.Sequential(nn.Conv2d(8, 16, 3, groups=8, padding=1), nn.Conv2d(16, 12, 3, groups=4, dilation=2)),
        (1, 8, 9, 11),
    ),
    "pools": (
        nn.Sequential(
            nn.AvgPool2d(3, 2, 1, count_include_pad=False),
            nn.ZeroPad2d((1, 2, 3, 0)),
            nn.MaxPool2d(2),
            nn.AvgPool2d(2, 1, ceil_mode=True),
        ),
        (1, 5, 17, 14),
    ),
    "linear": (nn.Sequential(nn.Linear(19, 10), nn.Hardtanh(-0.5, 0.5), nn.Linear(10, 3)), (5, 19)),
    "transposed": (
        nn.Sequential(
            nn.Conv2d(2, 6, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 5, 3, 2, 1, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(5, 10, (1, 4), (2, 3), groups=5),
        ),
        (2, 2, 5, 6),
    ),
    "shuffles": (
        nn.Sequential(nn.ChannelShuffle(2), nn.Conv2d(4, 12, 1), nn.ChannelShuffle(3), nn.PixelShuffle(2)),
        (2, 4, 3, 5),
    ),
    "gates": (networks.Gates(), (2, 3, 6, 5)),
    "products": (networks.Products(), (2, 3, 6, 5)),
    "log softmax": (nn.Sequential(nn.Conv2d(2, 5, 3), nn.LogSoftmax(1), nn.Flatten(), nn.LogSoftmax(1)), (2, 2, 5, 6)),
    "copy": (nn.Flatten(), (1, 3, 4, 5)),
    "residual": (networks.Residual(), (2, 3, 8, 8)),
    "branches": (networks.Branches(), (2, 3, 8, 8)),
    "cpu in between": (networks.CpuInBetween(), (2, 3, 8, 8)),
    "activation first": (nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)), (1, 3, 6, 6)),
}


def generate(folder, name, softmax=False, sample=None, **options):
    model, shape = MODELS[name]
    torch.manual_seed(2)
    sample = torch.randn(shape) if sample is None else sample
    generator = CodeGenerator(model, sample, folder, name=name.replace(" ", "_"), **options)
    generator.generate_code(append_final_softmax=softmax)
    return generator, generated(folder).manifest


def run_on_host(folder, *flags):
    """Output of the application compiled for the host; every warning is an error."""
    sources, folders = everything(generated(folder))
    shutil.copyfile(HERE / "host_soc.hpp", folder / "soc.hpp")
    run_tool(
        [
            *host_compiler(),
            "-std=c++17",
            "-O1",
            "-mfma",
            "-ffp-contract=off",
            "-Wall",
            "-Wextra",
            "-Werror",
            *flags,
            *[f"-I{d}" for d in folders],
            *sources,
            "-o",
            folder / "app",
        ],
        "compiling the application",
    )
    return run_tool([folder / "app"], "the application")


@pytest.mark.parametrize("name", MODELS)
def test_software_kernels_give_the_bits_of_their_twins(tmp_path, name):
    softmax = len(MODELS[name][1]) == 2
    generator, manifest = generate(tmp_path, name, softmax)
    said = run_on_host(tmp_path, "-DUSE_SOFTWARE_DNN_LAYER_OPERATORS=1", "-DENABLE_DEBUG_HEEPSTOR_ASSERTIONS=1")
    expected = np.array(manifest["software"]["expected_bits"], np.uint32).view(np.float32)
    want = generator.reference(append_final_softmax=softmax).output.reshape(-1)
    bound = 1e-5 + 2 * bounds.of_tables(generator.lowered)  # on two sides of a border between segments
    np.testing.assert_allclose(expected, want, atol=bound * max(1, np.abs(want).max()))
    assert said == f"HG ok cycles=0 mismatches=0 argmax={np.argmax(expected[: manifest['outputs'][0]['shape'][-1]])}\n"


TWO_MODELS = """\
#include "groups/gen/model.hpp"
#include "groups/gen/sample.hpp"
#include "linear/gen/model.hpp"
#include "linear/gen/sample.hpp"
#include "soc.hpp"
int main() {
  uint32_t wrong = 0;
  for (int round = 0; round < 2; ++round) {
    if (net_linear::model_run() != heepstor::Status::ok || net_groups::model_run() != heepstor::Status::ok) return 1;
    for (uint32_t i = 0; i < net_linear::kModelOutputs; ++i) {
      uint32_t bits;
      __builtin_memcpy(&bits, net_linear::model_output() + i, sizeof bits);
      wrong += bits != net_linear::kExpectedOutput[i];
    }
    for (uint32_t i = 0; i < net_groups::kModelOutputs; ++i) {
      uint32_t bits;
      __builtin_memcpy(&bits, net_groups::model_output() + i, sizeof bits);
      wrong += bits != net_groups::kExpectedOutput[i];
    }
  }
  soc_puts("wrong ");
  heepstor::print_decimal(wrong);
  soc_puts("\\n");
  return wrong ? 2 : 0;
}
"""


def two_models(folder, config=None):
    """Two applications and a program that runs both, twice; returns its sources and include directories."""
    manifests = [generate(folder / name, name, config=config or Config())[1] for name in ("linear", "groups")]
    (folder / "two.cpp").write_text(TWO_MODELS)
    own = [
        folder / name / "gen" / source
        for name in ("linear", "groups")
        for source in manifests[0]["sources"]
        if "/" not in source
    ]
    shared = [folder / "linear" / "gen" / source for source in manifests[0]["sources"] if "/" in source]
    assert all(own["kept"] for manifest in manifests for own in manifest["inputs"])
    return [folder / "two.cpp", *own, *shared], [folder, folder / "linear" / "gen" / "runtime"]


def test_two_models_in_one_program(tmp_path):
    sources, headers = two_models(tmp_path)
    shutil.copyfile(HERE / "host_soc.hpp", tmp_path / "soc.hpp")
    run_tool(
        [
            *host_compiler(),
            "-std=c++17",
            "-O1",
            "-mfma",
            "-ffp-contract=off",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-DUSE_SOFTWARE_DNN_LAYER_OPERATORS=1",
            *[f"-I{h}" for h in headers],
            *sources,
            "-o",
            tmp_path / "two",
        ],
        "compiling two models",
    )
    assert run_tool([tmp_path / "two"], "two models") == "wrong 0\n"


@pytest.mark.slow
def test_two_models_share_the_accelerator(tmp_path):
    config = Config(rows=4, cols=4, ports=2)
    sources, headers = two_models(tmp_path, config)
    elf = compile_firmware(sources, headers, {}, config, tmp_path / "two.elf")
    result = run_soc(elf, hardware(config), config)
    assert result.ok and result.uart == "wrong 0\n"


@pytest.mark.parametrize("name", ["pools", "residual"])
def test_software_kernels_with_special_values(tmp_path, name):
    """On the device's CPU, since the host's NaNs have several patterns."""
    sample = torch.randn(MODELS[name][1])
    sample.view(-1)[::37] = float("nan")
    sample.view(-1)[5::41] = float("inf")
    sample.view(-1)[7::43] = -1e-41
    sample.view(-1)[11::47] = -float("inf")
    config = Config()
    _, manifest = generate(tmp_path, name, sample=sample)
    bits = np.array(manifest["software"]["expected_bits"], np.uint32)
    assert np.isnan(bits.view(np.float32)).any() and set(bits[np.isnan(bits.view(np.float32))]) == {0x7FC00000}
    application, mode = generated(tmp_path), manifest["software"]
    elf = compile_firmware(
        *everything(application), mode["defines"], config, tmp_path / "app.elf", placements=mode["placements"]
    )
    result = run_soc(elf, None, config)
    assert result.ok and "mismatches=0" in result.uart


def test_a_wrong_bit_is_noticed(tmp_path):
    _, manifest = generate(tmp_path, "linear")
    sample = tmp_path / "gen" / "sample.cpp"
    text = sample.read_text()
    first = f"0x{manifest['software']['expected_bits'][0]:08x}"
    assert first in text
    sample.write_text(text.replace(first, f"0x{int(first, 16) ^ 1:08x}"))
    with pytest.raises(HeepgenError, match="mismatches=1"):
        run_on_host(tmp_path, "-DUSE_SOFTWARE_DNN_LAYER_OPERATORS=1")


@pytest.mark.parametrize("mode", ["accelerator", "software"])
@pytest.mark.parametrize(
    "toolchain", ["zig", pytest.param("gcc", marks=pytest.mark.external("riscv64-unknown-elf-g++"))]
)
def test_builds_for_the_device_without_a_warning(tmp_path, toolchain, mode):
    generator, manifest = generate(tmp_path, "convolutions", softmax=True)
    application = generated(tmp_path)
    elf = compile_firmware(
        *everything(application),
        manifest[mode]["defines"] | {"ENABLE_DEBUG_HEEPSTOR_ASSERTIONS": 1},
        generator.config,
        tmp_path / "app.elf",
        toolchain=toolchain,
        placements=manifest[mode]["placements"],
    )
    assert elf.stat().st_size > 1000


def test_hardware_mismatch_names_both_geometries(tmp_path):
    generator, _ = generate(tmp_path, "linear", config=Config(rows=4, cols=6))
    other = Config(rows=8, cols=8, arithmetic="fma")
    names = "".join(
        f"  fake_registers[HEEPSTOR_ARCHITECTURE{i}_REG / 4] = {word}u;\n"
        for i, word in enumerate(name_words("descriptor"))
    )
    main = tmp_path / "main.cpp"
    main.write_text(
        main.read_text().replace(
            "int main() {",
            f"""int main() {{
{names}  fake_registers[HEEPSTOR_MAGIC_REG / 4] = HEEPSTOR_MAGIC;
  fake_registers[HEEPSTOR_VERSION_REG / 4] = HEEPSTOR_VERSION;
  fake_registers[HEEPSTOR_GEOMETRY_REG / 4] = 8 | 8 << HEEPSTOR_GEOMETRY_COLS_LSB |
      2 << HEEPSTOR_GEOMETRY_PORTS_LSB | HEEPSTOR_GEOMETRY_FMA_BIT;
  fake_registers[HEEPSTOR_CONFIG_HASH_REG / 4] = {other.hash}u;""",
        )
    )
    with pytest.raises(HeepgenError) as caught:
        run_on_host(tmp_path)
    assert (
        "HG failed: the accelerator is 8x8 fma, 2 ports, configuration "
        f"{other.hash:08x}; this program was generated for 4x6 aligned, 2 ports, configuration "
        f"{generator.config.hash:08x}"
    ) in str(caught.value)


def test_no_accelerator_and_wrong_version_are_said(tmp_path):
    generate(tmp_path, "linear")
    with pytest.raises(HeepgenError, match="HG failed: no heepgen accelerator"):
        run_on_host(tmp_path)
    main = tmp_path / "main.cpp"
    main.write_text(
        main.read_text().replace(
            "int main() {",
            "int main() {\n  fake_registers[HEEPSTOR_MAGIC_REG / 4] = HEEPSTOR_MAGIC;\n"
            "  fake_registers[HEEPSTOR_VERSION_REG / 4] = 77;",
        )
    )
    with pytest.raises(HeepgenError, match=f"has version 77, this program needs {VERSION}"):
        run_on_host(tmp_path)


def test_existing_files_are_kept_when_asked(tmp_path):
    generator, _ = generate(tmp_path, "linear")
    model = tmp_path / "gen" / "model.cpp"
    with pytest.raises(HeepgenError, match="gen already holds a generated application"):
        generator.generate_code(overwrite_existing_generated_files=False)
    model.write_text("mine")
    with pytest.raises(HeepgenError, match="gen holds model.cpp, which was changed"):
        generator.generate_code(overwrite_existing_generated_files=True)
    assert model.read_text() == "mine"
    model.unlink()
    generator.generate_code(overwrite_existing_generated_files=True)
    assert "model_run" in model.read_text()


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_program_of_the_user_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "main.cpp").write_text("int main() { return mine(); }")
    (tmp_path / "notes").mkdir()
    model, shape = MODELS["linear"]
    generator = CodeGenerator(model, torch.zeros(shape), tmp_path)
    generator.generate_code(overwrite_existing_generated_files=overwrite)
    generator.generate_code()
    assert (tmp_path / "main.cpp").read_text() == "int main() { return mine(); }"
    assert (tmp_path / "notes").is_dir() and "model_run" in (tmp_path / "gen" / "model.cpp").read_text()
    shutil.rmtree(tmp_path / "gen")
    (tmp_path / "gen").mkdir()
    (tmp_path / "gen" / "mine.cpp").write_text("mine")
    with pytest.raises(HeepgenError, match="gen was not written by heepgen"):
        generator.generate_code()
    assert [p.name for p in (tmp_path / "gen").iterdir()] == ["mine.cpp"]


def test_nothing_is_written_when_the_sample_is_wrong(tmp_path):
    generator, _ = generate(tmp_path, "linear")
    generator.inputs = (np.zeros((1, 2), np.float32),)
    generator.out_dir = tmp_path / "other"
    with pytest.raises(HeepgenError, match=r"shape \(1, 2\).*takes \(5, 19\)"):
        generator.generate_code()
    assert not generator.out_dir.exists()


def test_manifest_describes_layers_and_memory(tmp_path):
    generator, manifest = generate(tmp_path, "convolutions")
    first = manifest["layers"][0]
    assert (first["macs"], first["shape"]) == (11 * 11 * 6 * 16, [1, 6, 11, 11])
    assert first["bound_cycles"] == max(11 * 11 * 4, -(-(196 + 726 + 24) // 2))
    descriptors = [index for layer in manifest["layers"] for index in layer["descriptors"]]
    assert descriptors and sorted(descriptors) == list(range(manifest["profile"]["records"]))
    assert manifest["config"]["hash"] == generator.config.hash
    assert len(manifest["accelerator"]["expected_bits"]) == 10


def test_every_activation_can_be_kept(tmp_path):
    _, manifest = generate(tmp_path, "convolutions", keep_activations=True)
    spans = sorted((b["address"], b["address"] + b["size"]) for b in manifest["memory"]["buffers"])
    assert all(last <= first for (_, last), (first, _) in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize("value", [1.0, -0.0, 0.1, 1e-45, 3.4028235e38, float("inf"), float("-inf")])
def test_float_literals_are_exact(value):
    text = literals.float_literal(value)
    want = np.float32(value)
    got = {"__builtin_inff()": np.inf, "-__builtin_inff()": -np.inf}.get(text)
    got = np.float32(text.removesuffix("f") if got is None else got)
    assert got.view(np.uint32) == want.view(np.uint32)


@pytest.mark.parametrize("name", ["0", "features.3", "conv-1", "a b"])
def test_identifiers(name):
    assert literals.identifier(name).isidentifier()


def test_names_that_clash_get_their_own_identifiers():
    assert len(set(literals.identifiers(["a.b", "a_b", "a-b"]).values())) == 3


def test_the_package_imports_torch_only_for_the_generator():
    assert firmware_gen.CodeGenerator is CodeGenerator
    with pytest.raises(AttributeError):
        firmware_gen.nonsense  # noqa: B018
