// SPDX-License-Identifier: Apache-2.0
// Runs a program on the simulated SoC: +firmware=FILE.hex [+max_cycles=N] [+trace=FILE.fst]
// Ends with "cycles N, exit value V"; the UART's text is in uart0.log.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "Vtestharness.h"
#include "Vtestharness__Dpi.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

namespace {

std::string plusarg(const char* name) {
  const std::string found = Verilated::commandArgsPlusMatch(name);
  const std::string prefix = std::string("+") + name;
  return found.compare(0, prefix.size(), prefix) == 0 ? found.substr(prefix.size()) : "";
}

constexpr uint64_t kUartCycles = 140000;  // what its FIFO holds is still sent

class Simulation {
 public:
  explicit Simulation(const std::string& trace) {
#if VM_TRACE
    if (!trace.empty()) {
      Verilated::traceEverOn(true);
      top.trace(&waves, 99);
      waves.open(trace.c_str());
      tracing = true;
    }
#else
    if (!trace.empty()) std::fprintf(stderr, "built without waves: make verilator-sim TRACE=1\n");
#endif
  }
  ~Simulation() {
    top.final();
#if VM_TRACE
    if (tracing) waves.close();
#endif
  }

  void run(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      edge(1);
      edge(0);
      ++cycles;
    }
  }

  Vtestharness top;
  uint64_t cycles = 0;

 private:
  void edge(int level) {
    top.clk_i = level;
    top.eval();
#if VM_TRACE
    if (tracing) waves.dump(time += 5000);
#endif
  }

#if VM_TRACE
  VerilatedFstC waves;
  uint64_t time = 0;
  bool tracing = false;
#endif
};

}  // namespace

int main(int argc, char** argv) {
  Verilated::commandArgs(argc, argv);
  const std::string firmware = plusarg("firmware=");
  const std::string limit = plusarg("max_cycles=");
  const uint64_t max_cycles = limit.empty() ? UINT64_MAX : std::strtoull(limit.c_str(), nullptr, 0);
  std::FILE* file = firmware.empty() ? nullptr : std::fopen(firmware.c_str(), "r");
  if (!file) {
    std::fprintf(stderr, "no program: give +firmware=FILE.hex (\"%s\" cannot be read)\n", firmware.c_str());
    return 2;
  }
  std::fclose(file);

  Simulation simulation(plusarg("trace="));
  Vtestharness& top = simulation.top;
  svSetScope(svGetScopeFromName("TOP.testharness"));
  top.clk_i = 0;
  top.rst_ni = 1;
  simulation.run(20);
  top.rst_ni = 0;
  simulation.run(40);
  top.rst_ni = 1;
  simulation.run(40);
  tb_loadHEX(firmware.c_str());
  simulation.run(1);
  tb_set_exit_loop();

  while (!top.exit_valid_o && simulation.cycles < max_cycles) simulation.run(100);
  const bool ended = top.exit_valid_o;
  const uint32_t value = top.exit_value_o;
  simulation.run(kUartCycles);
  if (ended) std::printf("cycles %" PRIu64 ", exit value %" PRIu32 "\n", simulation.cycles - kUartCycles, value);
  else std::printf("stopped after %" PRIu64 " cycles\n", simulation.cycles - kUartCycles);
  return ended ? value != 0 : 2;
}
