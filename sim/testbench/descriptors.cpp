// SPDX-License-Identifier: Apache-2.0
// The accelerator alone on an ideal memory: a script of register accesses, random stalls, OBI checks.
//
// usage: bench IMAGE SCRIPT DUMP STALL_PROBABILITY SEED OUTSTANDING [VCD]
// Script lines: "w OFFSET VALUE", "r OFFSET" (prints the value), "irq LIMIT" (prints the cycles until the
// interrupt, or -1), "cycles N", "dead PORTS" (mask of ports that neither grant nor answer from now on),
// "reset N" (rst_n is low for N cycles; the bus goes on answering).
// Of campaigns, all of whose lines follow a "case": "case STALL_PERCENT SEED OUTSTANDING" (a new accelerator and bus;
// what breaks a rule ends the case, and prints the rule), "image FILE" (a new memory), "poke ADDRESS VALUE",
// "guard BASE LIMIT" (accesses must lie in one of these windows), "forgive 0|1" (whether requests may be withdrawn),
// "until OFFSET MASK LIMIT" (reads until no bit of MASK is set; prints the last value), "compare FILE" (prints how
// many words of the memory differ), "say WORD" (prints it), "unless VALUE N" and "when VALUE N" (leave the next N lines
// out if the last value printed is VALUE, or is not).
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "models.hpp"
#include "verilated.h"
#if HEEPGEN_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

constexpr int kSlave = -1;
constexpr int kSlaveLimit = 1000;  // cycles a register access may take

[[noreturn]] void fail(const char* what, int port, uint64_t cycle) {
  const std::string name = port == kSlave ? "slave port" : "master port " + std::to_string(port);
  throw std::runtime_error("OBI: " + name + ", cycle " + std::to_string(cycle) + ": " + what);
}

std::vector<char> contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Port {
  Request last;
  bool pending = false;  // requested and not granted in the previous cycle
  std::deque<uint32_t> answers;
  Response response;
};

class Bench {
 public:
  Bench(std::vector<char> image, double stall, uint64_t seed, size_t outstanding)
      : memory_(std::move(image)), stall_(stall), random_(seed), outstanding_(outstanding),
        ports_(size_t(Accelerator::ports())), accelerator_(&context_, 1) {}

  void trace([[maybe_unused]] const char* path) {
#if HEEPGEN_TRACE
    context_.traceEverOn(true);
    accelerator_.trace(&vcd_);
    vcd_.open(path);
    tracing_ = true;
#endif
  }

  void reset(int cycles = 4) {
    for (int i = 0; i < cycles; ++i) step(false);
    slave_due_ = false;
    for (size_t p = 0; p < ports_.size(); ++p)
      if (accelerator_.master(int(p)).req) fail("requests during reset", int(p), cycle_);
  }

  void step(bool reset_n = true) {
    accelerator_.set_slave(slave_);
    for (size_t p = 0; p < ports_.size(); ++p) {
      Port& port = ports_[p];
      port.response = {};
      if (!port.answers.empty() && !stalled(p)) {
        port.response.rvalid = true;
        port.response.rdata = port.answers.front();
      }
      accelerator_.set_master(int(p), port.response);
    }
    accelerator_.eval(false, reset_n);
    for (size_t p = 0; p < ports_.size(); ++p) grant(p, reset_n);
    accelerator_.eval(false, reset_n);
    if (reset_n) check_settled();
    dump(2 * cycle_);
    accelerator_.eval(true, reset_n);
    dump(2 * cycle_ + 1);
    ++cycle_;
    irq_ = accelerator_.irq();
  }

  uint32_t access(bool write, uint32_t offset, uint32_t value) {
    slave_ = {true, write, 0xf, offset, value};
    await(&Response::gnt, "does not grant");
    slave_ = {};
    await(&Response::rvalid, "does not answer");
    return answered_.rdata;
  }

  long long wait_irq(uint64_t limit) {
    for (uint64_t i = 0; i < limit; ++i) {
      if (irq_) return static_cast<long long>(i);
      step();
    }
    return -1;
  }

  long long until(uint32_t offset, uint32_t mask, uint32_t limit) {
    uint32_t value = access(false, offset, 0);
    while (value & mask && limit--) value = access(false, offset, 0);
    return value;
  }

  void poke(uint32_t address, uint32_t value) { std::memcpy(&memory_.at(address), &value, 4); }

  long long differing(const std::vector<char>& other) const {
    if (other.size() != memory_.size()) return -1;
    long long words = 0;
    for (size_t i = 0; i + 4 <= other.size(); i += 4) words += std::memcmp(&other[i], &memory_[i], 4) != 0;
    return words;
  }

  void kill(uint32_t ports) { dead_ = ports; }
  void forgive(bool withdrawals) { forgiving_ = withdrawals; }
  void guard(uint32_t base, uint32_t limit) { windows_.emplace_back(base, limit); }
  void replace(std::vector<char> image) { memory_ = std::move(image); }
  const std::vector<char>& memory() const { return memory_; }

 private:
  bool stalled(size_t port) {
    return (dead_ >> port & 1) || (stall_ > 0 && std::uniform_real_distribution<>(0, 1)(random_) < stall_);
  }

  void await(bool Response::* flag, const char* complaint) {
    for (int i = 0; i < kSlaveLimit; ++i) {
      step();
      if (answered_.*flag) return;
    }
    fail(complaint, kSlave, cycle_);
  }

  // Grants are given: no request may have moved, and an answer needs a request that was granted before.
  void check_settled() {
    for (size_t p = 0; p < ports_.size(); ++p) {
      Request now = accelerator_.master(int(p));
      if (now.req != ports_[p].last.req || (now.req && !now.same_payload(ports_[p].last)))
        fail("the request depends on its grant", int(p), cycle_);
    }
    answered_ = accelerator_.slave();
    if (answered_.rvalid && !slave_due_) fail("responds without a request", kSlave, cycle_);
    slave_due_ = (slave_due_ && !answered_.rvalid) || (slave_.req && answered_.gnt);
  }

  // Only a port that is dead may take a request back: that is how a forced reset ends it.
  void grant(size_t p, bool reset_n) {
    Port& port = ports_[p];
    Request request = accelerator_.master(int(p));
    if (!reset_n) {
      if (port.response.rvalid) port.answers.pop_front();
      port.pending = false;
      return;
    }
    bool dead = dead_ >> p & 1 || forgiving_;
    if (port.pending && !request.req && !dead) fail("request withdrawn before its grant", int(p), cycle_);
    if (port.pending && request.req && !dead && !request.same_payload(port.last))
      fail("request changed before its grant", int(p), cycle_);
    if (port.response.rvalid) port.answers.pop_front();
    bool granted = request.req && port.answers.size() < outstanding_ && !stalled(p);
    if (granted) port.answers.push_back(serve(request, int(p)));
    port.pending = request.req && !granted;
    port.last = request;
    port.response.gnt = granted;
    accelerator_.set_master(int(p), port.response);
  }

  uint32_t serve(const Request& request, int port) {
    uint32_t value;
    if (request.addr % 4) fail("unaligned address", port, cycle_);
    if (request.addr + 4ull > memory_.size()) fail("address outside the memory", port, cycle_);
    bool inside = windows_.empty();
    for (const auto& [base, limit] : windows_) inside |= request.addr >= base && request.addr + 4ull <= limit;
    if (!inside) fail("address outside the windows", port, cycle_);
    if (!request.be) fail("no byte enable", port, cycle_);
    char* word = &memory_[request.addr];
    std::memcpy(&value, word, 4);
    if (request.we && request.be != 0xf) fail("partial write", port, cycle_);
    if (request.we) std::memcpy(word, &request.wdata, 4);
    return value;
  }

  void dump([[maybe_unused]] uint64_t time) {
#if HEEPGEN_TRACE
    if (tracing_) vcd_.dump(time);
#endif
  }

  std::vector<char> memory_;
  double stall_;
  std::mt19937_64 random_;
  size_t outstanding_;
  std::vector<Port> ports_;
  VerilatedContext context_;
  Accelerator accelerator_;
#if HEEPGEN_TRACE
  VerilatedVcdC vcd_;
  bool tracing_ = false;
#endif
  Request slave_;
  Response answered_;
  bool irq_ = false, slave_due_ = false, forgiving_ = false;
  std::vector<std::pair<uint32_t, uint32_t>> windows_;
  uint32_t dead_ = 0;
  uint64_t cycle_ = 0;
};

class Script {
 public:
  Script(std::istream& in, std::unique_ptr<Bench> bench) : in_(in), bench_(std::move(bench)) {}

  int run() {
    std::string word;
    while (in_ >> word) {
      try {
        if (!line(word)) {
          std::fprintf(stderr, "script: %s\n", word.c_str());
          return 1;
        }
      } catch (const std::runtime_error& error) {
        if (!cases_) {
          std::fprintf(stderr, "%s\n", error.what());
          return 2;
        }
        std::printf("broken %s\n", error.what());
        broken_ = true;
      }
    }
    return 0;
  }

  const Bench& bench() const { return *bench_; }

 private:
  uint32_t number() {
    uint32_t value = 0;
    in_ >> std::hex >> value;
    return value;
  }

  std::string text() {
    std::string value;
    in_ >> value;
    return value;
  }

  void print(long long value) {
    last_ = value;
    std::printf("%lld\n", value);
  }

  void skip_line() {
    std::string rest;
    std::getline(in_, rest);
  }

  bool line(const std::string& word) {
    if (word == "case") {
      const double stall = number() / 100.0;
      const uint32_t seed = number(), outstanding = number();
      std::printf("case\n");
      bench_ = std::make_unique<Bench>(bench_->memory(), stall, seed, outstanding);
      cases_ = true;
      broken_ = false;
      bench_->reset();
    } else if (broken_) {
      skip_line();
    } else if (word == "w") {
      const uint32_t offset = number();
      bench_->access(true, offset, number());
    } else if (word == "r") {
      print(bench_->access(false, number(), 0));
    } else if (word == "irq") {
      print(bench_->wait_irq(number()));
    } else if (word == "cycles") {
      for (uint32_t i = number(); i; --i) bench_->step();
    } else if (word == "dead") {
      bench_->kill(number());
    } else if (word == "reset") {
      bench_->reset(int(number()));
    } else if (word == "image") {
      bench_->replace(contents(text()));
    } else if (word == "poke") {
      const uint32_t address = number();
      bench_->poke(address, number());
    } else if (word == "guard") {
      const uint32_t base = number();
      bench_->guard(base, number());
    } else if (word == "forgive") {
      bench_->forgive(number());
    } else if (word == "until") {
      const uint32_t offset = number(), mask = number();
      print(bench_->until(offset, mask, number()));
    } else if (word == "compare") {
      print(bench_->differing(contents(text())));
    } else if (word == "say") {
      std::printf("%s\n", text().c_str());
    } else if (word == "unless" || word == "when") {
      const bool same = uint32_t(last_) == number();
      uint32_t lines = number();
      skip_line();
      for (; same == (word == "unless") && lines; --lines) skip_line();
    } else {
      return false;
    }
    return true;
  }

  std::istream& in_;
  std::unique_ptr<Bench> bench_;
  long long last_ = 0;
  bool cases_ = false, broken_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) return 1;
  std::ifstream file(argv[2]);
  const uint64_t seed = std::strtoull(argv[5], nullptr, 0);
  auto bench = std::make_unique<Bench>(contents(argv[1]), std::atof(argv[4]), seed, std::strtoul(argv[6], nullptr, 0));
  if (argc > 7) bench->trace(argv[7]);
  bench->reset();
  Script script(file, std::move(bench));
  if (const int failed = script.run()) return failed;
  const std::vector<char>& memory = script.bench().memory();
  std::ofstream(argv[3], std::ios::binary).write(memory.data(), long(memory.size()));
  return 0;
}
