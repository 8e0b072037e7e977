// SPDX-License-Identifier: Apache-2.0
// Bus accesses on the streaming accelerator, one after the other: from a file of {address, kind, data, pause}, the words
// that were read to another one. kind: 0 read, 1 write, 2 reset (for `data` cycles).
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "Vheepstor.h"
#include "verilated.h"

namespace {

struct Access {
  uint32_t address, kind, data, pause;
};

constexpr int kPatience = 10000;

void fail(const char* what, size_t number) {
  std::fprintf(stderr, "access %zu: %s\n", number, what);
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  std::vector<Access> accesses;
  std::FILE* in = std::fopen(argv[1], "rb");
  for (Access a; std::fread(&a, sizeof a, 1, in) == 1;) accesses.push_back(a);
  std::fclose(in);
  VerilatedContext context;
  context.randReset(2);
  context.randSeed(std::atoi(argv[3]));
  Vheepstor dut(&context);
  std::vector<uint32_t> read;
  uint32_t cycles = 0;
  const auto rise = [&] {
    dut.clk = 1;
    dut.eval();
    dut.clk = 0;
    dut.eval();
    ++cycles;
  };
  const auto reset = [&](uint32_t count) {
    dut.rst_n = 0;
    dut.s_req = 0;
    while (count--) rise();
    dut.rst_n = 1;
    dut.eval();
  };
  dut.clk = 0;
  dut.s_be = 15;
  dut.eval();
  reset(1);
  bool due = false, is_read = false;
  const auto answer = [&](size_t number) {
    if (bool(dut.s_rvalid) != due) fail(due ? "no answer" : "an answer that nobody waits for", number);
    if (due && is_read) read.push_back(dut.s_rdata);
    due = false;
  };
  for (size_t i = 0; i < accesses.size(); ++i) {
    const Access& a = accesses[i];
    for (uint32_t p = 0; p < a.pause; ++p) {
      answer(i);
      rise();
    }
    if (a.kind == 2) {
      answer(i);
      reset(a.data);
      continue;
    }
    dut.s_req = 1;
    dut.s_we = a.kind;
    dut.s_addr = 0xf0000000u | a.address;
    dut.s_wdata = a.data;
    for (int waited = 0;; ++waited) {
      if (waited == kPatience) fail("no grant", i);
      dut.eval();
      answer(i);
      const bool granted = dut.s_gnt;
      rise();
      if (granted) break;
    }
    due = true;
    is_read = a.kind == 0;
    dut.s_req = 0;
    dut.eval();
  }
  answer(accesses.size());
  for (int waited = 0; !dut.idle; ++waited) {
    if (waited == kPatience) fail("never idle", accesses.size());
    rise();
  }
  std::FILE* out = std::fopen(argv[2], "wb");
  std::fwrite(read.data(), 4, read.size(), out);
  std::fclose(out);
  std::printf("%u\n", cycles);
}
