// The accelerator alone on an ideal memory: a script of register accesses, random stalls, OBI checks.
//
// usage: bench IMAGE SCRIPT DUMP STALL_PROBABILITY SEED OUTSTANDING [VCD]
// Script lines: "w OFFSET VALUE", "r OFFSET" (prints the value), "irq LIMIT" (prints the cycles until the
// interrupt, or -1), "cycles N", "dead PORTS" (mask of ports that neither grant nor answer from now on).
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <random>
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
  std::string name = port == kSlave ? "slave port" : "master port " + std::to_string(port);
  std::fprintf(stderr, "OBI: %s, cycle %llu: %s\n", name.c_str(), static_cast<unsigned long long>(cycle), what);
  std::exit(2);
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

  void reset() {
    for (int i = 0; i < 4; ++i) step(false);
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

  void kill(uint32_t ports) { dead_ = ports; }
  const std::vector<char>& memory() const { return memory_; }

 private:
  bool stalled(size_t port) {
    return (dead_ >> port & 1) || (stall_ > 0 && std::uniform_real_distribution<>(0, 1)(random_) < stall_);
  }

  void await(bool Response::*flag, const char* complaint) {
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
    if (!reset_n) return;
    bool dead = dead_ >> p & 1;
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
  bool irq_ = false, slave_due_ = false;
  uint32_t dead_ = 0;
  uint64_t cycle_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) return 1;
  std::ifstream image(argv[1], std::ios::binary);
  std::ifstream script(argv[2]);
  uint64_t seed = std::strtoull(argv[5], nullptr, 0);
  Bench bench({std::istreambuf_iterator<char>(image), {}}, std::atof(argv[4]), seed, std::strtoul(argv[6], nullptr, 0));
  if (argc > 7) bench.trace(argv[7]);
  bench.reset();
  std::string word;
  while (script >> word) {
    uint32_t a = 0, b = 0;
    script >> std::hex >> a;
    if (word == "w") {
      script >> b;
      bench.access(true, a, b);
    } else if (word == "r") {
      std::printf("%u\n", bench.access(false, a, 0));
    } else if (word == "irq") {
      std::printf("%lld\n", bench.wait_irq(a));
    } else if (word == "cycles") {
      for (uint32_t i = 0; i < a; ++i) bench.step();
    } else if (word == "dead") {
      bench.kill(a);
    } else {
      std::fprintf(stderr, "script: %s\n", word.c_str());
      return 1;
    }
  }
  std::ofstream dump(argv[3], std::ios::binary);
  dump.write(bench.memory().data(), long(bench.memory().size()));
  return 0;
}
