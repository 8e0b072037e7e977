# SPDX-License-Identifier: Apache-2.0
"""The virtual X-HEEP: CPU, crossbar, memory, peripherals, accelerator ports, checkers and faults."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_gen.emit.build import BOOT_ADDRESS, BOOT_DIR
from hls.config import Config
from hls.errors import HeepgenError
from sim.build import TESTBENCH_DIR
from sim.elf import section_ranges, symbols
from sim.firmware import compile_firmware, program_bytes
from sim.run import TRAP_EXIT, Faults, Vcd, run_soc
from sim.toolchain import compile_object

DATA = Path(__file__).parent / "sim_data"
CONFIG = Config(irq_line=15)


def build(folder, text, config=CONFIG, **options):
    source = folder / "main.cpp"
    source.write_text('#include "sim_firmware.hpp"\n' + text)
    defines = {"ACCELERATOR": f"{config.slave_base:#x}u", "IRQ_LINE": config.irq_line}
    return compile_firmware([source], [DATA], defines, config, folder / "main.elf", **options)


def run(folder, text, accelerator=None, config=CONFIG, **options):
    return run_soc(build(folder, text, config), accelerator, config, **({"max_cycles": 200_000} | options))


def accelerator(folder, ports=1, broken=0):
    text = (DATA / "heepstor.v").read_text()
    text = text.replace("parameter PORTS = 1", f"parameter PORTS = {ports}")
    (folder / "hw").mkdir()
    (folder / "hw" / "heepstor.v").write_text(text.replace("parameter BROKEN = 0", f"parameter BROKEN = {broken}"))
    return folder / "hw"


def test_hello_world(tmp_path):
    lines = []
    result = run(tmp_path, 'int main() { soc_puts("hello\\nworld\\n"); return -3; }', uart=lines.append)
    assert (result.ended, result.exit_code, result.uart) == ("exit", -3, "hello\nworld\n")
    assert lines == ["hello\n", "world\n"] and not result.ok


def test_floating_point_and_memory_dump(tmp_path):
    elf = build(
        tmp_path,
        """
        extern "C" float results[4];
        float results[4];
        volatile float a = 1.1f, b = 3.0f, zero = 0.0f;
        int main() {
          results[0] = a * b + 1.0f; results[1] = a / b; results[2] = __builtin_sqrtf(b); results[3] = 1.0f / zero;
          return 0;
        }""",
    )
    result = run_soc(elf, None, CONFIG, max_cycles=100_000, dump=[(symbols(elf)["results"], 16)])
    assert result.ok
    a, b = (struct.unpack("<f", struct.pack("<f", x))[0] for x in (1.1, 3.0))

    def single(x):
        return struct.unpack("<f", struct.pack("<f", x))[0]

    assert struct.unpack("<4f", result.dumps[0]) == (
        single(single(a * b) + 1),
        single(a / b),
        single(b**0.5),
        float("inf"),
    )


@pytest.mark.parametrize("optimise", ["-Os", "-O0"])
def test_zeroed_bss_initialised_data_and_byte_accesses(tmp_path, optimise):
    elf = build(
        tmp_path,
        """
        volatile uint8_t cleared[37];
        volatile uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        int main() {
          for (int i = 0; i < 37; ++i) if (cleared[i]) return 1;
          bytes[2] = 0x99;
          volatile uint16_t* halves = reinterpret_cast<volatile uint16_t*>(bytes);
          halves[2] = 0xabcd;
          return bytes[1] == 2 && bytes[2] == 0x99 && bytes[3] == 4 && bytes[4] == 0xcd && bytes[5] == 0xab ? 0 : 2;
        }""",
        optimise=optimise,
    )
    assert run_soc(elf, None, CONFIG, max_cycles=100_000).ok


MEMORY = """
extern "C" {
void* memcpy(void*, const void*, size_t);
void* memmove(void*, const void*, size_t);
void* memset(void*, int, size_t);
int memcmp(const void*, const void*, size_t);
}
volatile int three = 3;
int main() {
  static unsigned char a[80], b[80];
  for (int from = 0; from < 8; from += 4 - (from & 1))
    for (int to = 0; to < 6; ++to)
      for (int size = 0; size < 40; size += 1 + three) {
        for (int i = 0; i < 80; ++i) a[i] = i + 1;
        for (int i = 0; i < 80; ++i) b[i] = 200;
        memcpy(b + to, a + from, size);
        for (int i = 0; i < 80; ++i)
          if (b[i] != (i >= to && i < to + size ? i - to + from + 1 : 200)) return 1;
        memmove(a + to, a + from, size);
        for (int i = 0; i < 80; ++i)
          if (a[i] != (i >= to && i < to + size ? i - to + from + 1 : i + 1)) return 2;
        memset(b + to, 7 + size, size);
        for (int i = 0; i < size; ++i) if (b[to + i] != 7 + size) return 3;
        if (b[to + size] == 7 + size || (to && b[to - 1] == 7 + size)) return 4;
      }
  memcpy(b, a, 80);
  b[70] = a[70] + 1;
  return memcmp(a, b, 70) == 0 && memcmp(a, b, 71) < 0 && memcmp(b, a, 80) > 0 ? 0 : 5;
}
"""


@pytest.mark.parametrize(
    "toolchain", ["zig", pytest.param("gcc", marks=pytest.mark.external("riscv64-unknown-elf-g++"))]
)
@pytest.mark.parametrize("optimise", ["-Os", "-O2"])
def test_memory_functions(tmp_path, toolchain, optimise):
    elf = build(tmp_path, MEMORY, toolchain=toolchain, optimise=optimise)
    result = run_soc(elf, None, CONFIG, max_cycles=2_000_000)
    assert result.ok, result


def test_objects_are_constructed_before_main(tmp_path):
    """Those whose constructors no compiler can run; X-HEEP's start-up code does it too."""
    result = run(
        tmp_path,
        """
        volatile int order = 0;
        struct Object {
          explicit Object(int step) : place(order = 10 * order + step) {}
          int place;
        };
        Object last(3);
        [[gnu::init_priority(2000)]] Object second(2);
        [[gnu::init_priority(1000)]] Object first(1);
        int main() { return first.place == 1 && second.place == 12 && last.place == 123 ? 0 : 1; }""",
    )
    assert result.ok, result


def test_testbench_counter_counts_while_the_cpu_counts(tmp_path):
    result = run(
        tmp_path,
        """
        int main() {
          uint32_t first, last;
          uint64_t from = soc_cycles();
          __asm__ volatile("csrr %0, mcycle" : "=r"(first));
          for (int i = 0; i < 1000; ++i) __asm__ volatile("nop");
          __asm__ volatile("csrr %0, mcycle" : "=r"(last));
          uint64_t elapsed = soc_cycles() - from;
          return elapsed > last - first && elapsed < last - first + 60 && last - first >= 4000 ? 0 : 1;
        }""",
    )
    assert result.ok


def test_exception_ends_the_run(tmp_path):
    result = run(tmp_path, 'int main() { __asm__ volatile(".word 0"); return 0; }')
    assert result.ended == "exit" and result.exit_code == TRAP_EXIT + 2
    assert "mcause 00000002" in result.uart


def test_unmapped_access_names_the_address(tmp_path):
    result = run(tmp_path, "int main() { return int(soc_register(0x0badcafc)); }")
    assert result.ended == "unmapped" and "data port accesses 0x0badcafc" in result.message
    result = run(tmp_path, "int main() { return int(device(0)); }")
    assert result.ended == "unmapped" and "0xf0000000" in result.message


def test_wait_states_and_stalls_change_only_the_time(tmp_path):
    text = "volatile int x; int main() { for (int i = 0; i < 300; ++i) x = x + i; return x == 44850 ? 0 : 1; }"
    plain = run(tmp_path, text)
    waiting = run(tmp_path, text, wait_states=3)
    stalled = run(tmp_path, text, stall_probability=0.5, seed=1)
    again = run(tmp_path, text, stall_probability=0.5, seed=1)
    other = run(tmp_path, text, stall_probability=0.5, seed=2)
    assert plain.ok and waiting.ok and stalled.ok and again.ok and other.ok
    assert waiting.cycles > plain.cycles + 3 * plain.data_port.words
    assert stalled.cycles > 1.5 * plain.cycles
    assert stalled.cycles == again.cycles != other.cycles


def test_max_cycles_says_what_waits(tmp_path):
    result = run(tmp_path, 'int main() { for (;;) __asm__ volatile("wfi"); }', max_cycles=5000)
    assert (result.ended, result.cycles) == ("max_cycles", 5000)
    assert "the CPU is asleep" in result.message and result.asleep_cycles > 4000


COPY = """
alignas(4) __attribute__((section(".heepgen_arena"))) uint32_t source[WORDS] = {SOURCE};
__attribute__((section(".heepgen_arena"))) uint32_t target[WORDS] = {1};
int main() {
  device(kDelay) = 700;
  start(source, target, WORDS / PORTS, kCopy);
  uint64_t from = soc_cycles();
  wait_asleep();
  if (soc_cycles() - from < 700) return 1;
  for (uint32_t i = 0; i < WORDS; ++i) if (target[i] != source[i] || target[i] != 7 * i + 1) return 2;
  return acknowledge() ? 0 : 3;
}
"""


def copy_text(ports, words=60):
    source = ", ".join(str(7 * i + 1) for i in range(words))
    return COPY.replace("SOURCE", source).replace("PORTS", str(ports)).replace("WORDS", str(words))


@pytest.mark.parametrize("ports", [1, 2, 3, 4])
def test_masters_copy_and_interrupt_wakes_the_sleeping_cpu(tmp_path, ports):
    text = copy_text(ports, words=60)
    hw = accelerator(tmp_path, ports)
    result = run(tmp_path, text, hw)
    assert result.ok, result
    assert [p.words for p in result.accelerator_ports] == [2 * 60 // ports] * ports
    assert result.asleep_cycles > 600
    for seed in range(3):
        stalled = run(tmp_path, text, hw, stall_probability=0.6, wait_states=seed, seed=seed)
        assert stalled.ok, stalled
        assert stalled.accelerator_ports[0].refused > 0


def test_interrupt_line_of_the_configuration_is_used(tmp_path):
    config = Config(irq_line=3, slave_base=0xF0004000)
    assert run(tmp_path, copy_text(1), accelerator(tmp_path), config).ok


def test_interrupt_handler_is_entered(tmp_path):
    result = run(
        tmp_path,
        """
        volatile uint32_t cause;
        extern "C" __attribute__((interrupt("machine"))) void heepgen_interrupt() {
          uint32_t value;
          __asm__ volatile("csrr %0, mcause" : "=r"(value));
          cause = value;
          acknowledge();
        }
        int main() {
          __asm__ volatile("csrs mie, %0" ::"r"(1u << (16 + IRQ_LINE)));
          soc_fast_interrupt_enable(IRQ_LINE);
          __asm__ volatile("csrsi mstatus, 8");
          device(kDelay) = 50;
          start(nullptr, nullptr, 0, kCopy);
          while (!cause) {}
          return cause == 0x80000000u + 16 + IRQ_LINE ? 0 : 1;
        }""",
        accelerator(tmp_path),
    )
    assert result.ok, result


SCAN = """
__attribute__((section(".heepgen_arena"))) uint32_t words[4096] = {3, 5};
int main() {
  for (int i = 0; i < 4096; ++i) words[i] = i;
  device(kDelay) = 0;
  uint32_t before = device(kCycles);
  start(words, words, 4096 / PORTS, kScan);
  wait_asleep();
  uint32_t cycles = device(kCycles) - before;
  uint32_t sum = 0;
  for (uint32_t p = 0; p < PORTS; ++p) sum += device(kSum + 4 * p);
  if (sum != 4095u * 2048) return -1;
  return int(cycles);
}
"""


def scan_cycles(folder, ports, config, **options):
    folder.mkdir()
    result = run(folder, SCAN.replace("PORTS", str(ports)), accelerator(folder, ports), config, **options)
    assert result.ended == "exit" and result.exit_code > 0, result
    return result.exit_code


def test_bandwidth_of_banks(tmp_path):
    interleaved = Config(irq_line=15)
    one_bank = Config(irq_line=15, memory_banks_interleaved=(), memory_banks=4)
    one_port = scan_cycles(tmp_path / "a", 1, interleaved)
    assert 4096 <= one_port < 4096 + 100
    assert 2048 <= scan_cycles(tmp_path / "b", 2, interleaved) < 2048 + 100
    assert 4096 <= scan_cycles(tmp_path / "c", 2, one_bank) < 4096 + 200
    assert 3 * 4096 <= scan_cycles(tmp_path / "d", 1, interleaved, wait_states=2) < 3 * 4096 + 500


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (1, "master port 0 withdrew its request"),
        (2, "master port 0 changed its request"),
        (3, "request of the accelerator's master port 0 depends on its grant"),
        (4, "slave port responds without a request"),
        (5, "requests unaligned"),
        (6, "without a byte enable"),
        (7, "requests during reset"),
    ],
)
def test_checkers_catch_a_broken_accelerator(tmp_path, broken, message):
    result = run(tmp_path, copy_text(1), accelerator(tmp_path, 1, broken), stall_probability=0.5)
    assert result.ended == "assertion" and message in result.message, result


@pytest.mark.parametrize("fault", ["never_grant", "never_answer"])
def test_faults_hold_the_masters_up(tmp_path, fault):
    hw = accelerator(tmp_path)

    def faulty(last, ports=None):
        return run(tmp_path, copy_text(1), hw, faults=Faults(**{fault: (middle, last)}, ports=ports), max_cycles=20_000)

    timed = copy_text(1).replace("return acknowledge() ? 0 : 3", "return int(from)")
    middle = run(tmp_path, timed, hw).exit_code + 120  # the copy takes 240 cycles
    forever = faulty(10**9)
    assert forever.ended == "max_cycles" and 0 < forever.accelerator_ports[0].words < 120
    assert ("waits for a grant" if fault == "never_grant" else "waits for a response") in forever.message
    until = faulty(5000)
    assert until.ok and until.cycles > 5000
    assert faulty(10**9, ports=(1,)).ok


def test_firmware_can_inject_faults(tmp_path):
    result = run(
        tmp_path,
        """
        uint32_t a[2] = {11, 12}, b[2];
        int main() {
          soc_register(SOC_TESTBENCH_BASE + SOC_TESTBENCH_FAULT) = SOC_TESTBENCH_FAULT_NEVER_GRANT;
          device(kDelay) = 0;
          start(a, b, 2, kCopy);
          for (int i = 0; i < 200; ++i) if (!(device(kStart) & 1)) return 1;
          soc_register(SOC_TESTBENCH_BASE + SOC_TESTBENCH_FAULT) = 0;
          while (device(kStart) & 1) {}
          volatile uint32_t* result = b;
          return result[0] == 11 && result[1] == 12 ? 0 : 2;
        }""",
        accelerator(tmp_path),
    )
    assert result.ok, result


def test_vcd_window_of_the_accelerator(tmp_path):
    hw = accelerator(tmp_path)
    wave = tmp_path / "soc.vcd"
    plain = run(tmp_path, copy_text(1), hw)
    traced = run(tmp_path, copy_text(1), hw, vcd=Vcd(wave, ((100, 1100),)))
    assert traced.cycles == plain.cycles
    text = wave.read_text()
    times = [int(line[1:]) for line in text.splitlines() if line.startswith("#")]
    assert min(times) >= 1000 and max(times) <= 11_000
    assert "m_addr" in text and "instr_addr_o" not in text


@pytest.mark.slow
def test_vcd_of_the_cpu(tmp_path):
    wave = tmp_path / "soc.vcd"
    assert run(tmp_path, "int main() { return 0; }", vcd=Vcd(wave, cpu=True)).ok
    text = wave.read_text()
    code = re.search(r"\$var wire\s+32 (\S+) instr_addr_o", text)[1]
    addresses = {int(a, 2) for a in re.findall(rf"^b([01]+) {re.escape(code)}$", text, re.MULTILINE)}
    assert {BOOT_ADDRESS, BOOT_ADDRESS + 4} <= addresses


@pytest.mark.parametrize("compiler", [pytest.param("g++", marks=pytest.mark.external("g++")), "zig"])
def test_testbench_compiles_without_a_warning(tmp_path, monkeypatch, compiler):
    monkeypatch.setenv("HEEPGEN_CXX", compiler)
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{TESTBENCH_DIR}", f"-I{BOOT_DIR}"]
    for source in ("soc.cpp", "no_accelerator.cpp"):
        compile_object(TESTBENCH_DIR / source, tmp_path / "none.o", flags)


def test_processes_share_one_build(tmp_path):
    elf = build(tmp_path, copy_text(1))
    hw = accelerator(tmp_path)
    script = tmp_path / "job.py"
    script.write_text(f"""
import sys
from sim.run import run_soc
from hls.config import Config
messages = []
result = run_soc({str(elf)!r}, {str(hw)!r}, Config(irq_line=15), max_cycles=100_000, progress=messages.append)
assert result.ok, result
print(sum("verilating" in m for m in messages))
""")
    (hw / "heepstor.v").write_text((hw / "heepstor.v").read_text() + f"// {tmp_path}\n")
    jobs = [
        subprocess.Popen(
            [sys.executable, script],
            cwd=Path(__file__).parent.parent,
            text=True,
            env=os.environ | {"PYTHONPATH": "."},
            stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    assert sorted(job.communicate()[0].strip() for job in jobs) == ["0", "0", "1"]
    assert all(job.returncode == 0 for job in jobs)


def test_sections_lie_where_they_are_placed(tmp_path):
    text = """
        __attribute__((section(".heepgen_weights"))) extern const uint32_t weights[4] = {1, 2, 3, 4};
        __attribute__((section(".heepgen_arena"))) uint32_t arena[1000] = {9};
        int main() { return weights[3] == 4 && arena[0] == 9 ? 0 : 1; }"""
    elf = build(tmp_path, text, placements={".heepgen_weights": 0x8000, ".heepgen_arena": 0x30000})
    assert section_ranges(elf)[".heepgen_weights"] == (0x8000, 16)
    assert section_ranges(elf)[".heepgen_arena"] == (0x30000, 4000)
    assert program_bytes(elf) < 0x8000
    assert run_soc(elf, None, CONFIG, max_cycles=100_000).ok
    elf = build(tmp_path, text)
    assert section_ranges(elf)[".heepgen_weights"][0] == 4 * 32768
    assert run_soc(elf, None, CONFIG, max_cycles=100_000).ok


def test_too_big_firmware_is_refused_with_the_numbers(tmp_path):
    big = "volatile char big[BIG]; int main() { return big[0]; }"
    with pytest.raises(HeepgenError, match=r"needs \d{6} bytes of contiguous RAM.*the 131072 there are.*memory.banks"):
        build(tmp_path, big.replace("BIG", "200000"))
    arena = '__attribute__((section(".heepgen_arena"))) char big[500000] = {1}; int main() { return big[0]; }'
    with pytest.raises(HeepgenError, match="interleaved RAM.*memory.banks_interleaved"):
        build(tmp_path, arena)


def test_a_warning_is_an_error(tmp_path):
    with pytest.raises(HeepgenError, match="unused"):
        build(tmp_path, "int main() { int unused_value = 3; return 0; }")


def test_bad_programs_are_refused(tmp_path):
    with pytest.raises(HeepgenError, match="not a 32-bit RISC-V program"):
        run_soc(Path(__file__), None, CONFIG)
    with pytest.raises(HeepgenError, match="cannot be read"):
        run_soc(tmp_path / "none.elf", None, CONFIG)
    elf = build(tmp_path, "int main() { return 0; }")
    with pytest.raises(HeepgenError, match="dump of 8 bytes at 0x7fffc"):
        run_soc(elf, None, CONFIG, dump=[(0x7FFFC, 8)])
    cut = tmp_path / "cut.elf"
    cut.write_bytes(elf.read_bytes()[:400])
    with pytest.raises(HeepgenError, match="truncated"):
        run_soc(cut, None, CONFIG)
