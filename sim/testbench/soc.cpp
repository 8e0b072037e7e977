// SPDX-License-Identifier: Apache-2.0
// The virtual X-HEEP: CV32E40P and accelerator around a crossbar, banked RAM and peripherals.
//
// One cycle: the clock falls while the responses of this cycle are driven, requests settle, the crossbar
// grants, the clock rises. Every port is checked against the OBI rules; a violation ends the run.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "devices.hpp"
#include "models.hpp"
#include "options.hpp"
#include "recorder.hpp"
#include "soc_map.h"
#include "verilated.h"
#include "verilated_vcd_c.h"

namespace {

constexpr uint32_t kSlaveBytes = 0x1000;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du) {}
  bool happens(double probability) { return probability > 0 && uniform() < probability; }

 private:
  double uniform() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return double(state_ >> 11) * 0x1p-53;
  }
  uint64_t state_;
};

// One master of the crossbar: at most one transaction is outstanding.
struct Master {
  Request request, previous;
  Response response;
  bool ungranted = false;    // `previous` was not granted and must be repeated
  bool outstanding = false;  // granted, response not yet given
  bool answered = false;     // the target has answered with `rdata`
  uint64_t due = 0;          // first cycle in which the response may be given
  uint32_t rdata = 0;
  int target = -1;
  uint64_t waiting_since = 0, words = 0, refused = 0;
};

class Soc {
 public:
  Soc(const Options& options, VerilatedContext* context)
      : o_(options), ram_(options), random_(options.seed), cpu_(context, SOC_BOOT_ADDRESS),
        accelerator_(context, options.threads), ports_(Accelerator::ports()), masters_(kFirstPort + ports_),
        recorder_(options.recording, options.most_recorded, 1 + Accelerator::probe_words()),
        slave_target_(ram_.banks()), peripheral_target_(ram_.banks() + 1), targets_(std::size_t(ram_.banks()) + 2),
        stalls_(options.stall_probability),
        answer_stalls_(options.answer_stall_probability < 0 ? stalls_ : options.answer_stall_probability) {}

  void load();
  void run();
  void report(const End& end);

 private:
  static constexpr int kInstr = 0, kData = 1, kFirstPort = 2;
  static constexpr int kResetCycles = 4;
  // In X-HEEP's crossbar debug and two DMA channels, of three masters each, come before the accelerator.
  static constexpr int kBetween = 7;

  struct Target {
    uint32_t wanted = 0;  // masters asking in this cycle
    Arbiter arbiter;
    uint64_t free = 0;  // first cycle in which a request is taken again
  };

  void reset();
  void cycle();
  void drive_responses();
  void settle_cpu();
  void settle_accelerator();
  void hold_in_reset();
  void check_request(int m);
  void choose_target(int m);
  void arbitrate();
  void grant(int m, int target);
  void apply_grants();
  void check_unchanged(int m, const Request& now);
  void rise();
  void trace(uint64_t time);
  void record();
  int decode(int m, uint32_t address) const;
  uint32_t faulty_ports(const Window& window, uint32_t bit) const;
  std::string name(int m) const;
  void describe_waiting(std::string& message) const;

  const Options& o_;
  Ram ram_;
  Peripherals peripherals_;
  Random random_;
  Cpu cpu_;
  Accelerator accelerator_;
  int ports_;
  std::vector<Master> masters_;
  Recorder recorder_;
  int slave_target_, peripheral_target_;
  std::vector<Target> targets_;
  std::vector<int> wanted_targets_;
  double stalls_, answer_stalls_;
  VerilatedVcdC vcd_;
  bool tracing_ = false, cpu_frozen_ = false, slave_asked_ = false;
  int held_ = 0;  // cycles for which the accelerator has been held in reset
  bool regrant_cpu_ = false, regrant_accelerator_ = false;
  uint32_t never_grant_ = 0, never_answer_ = 0;  // by bit m: masters that have the fault in this cycle
  Response slave_;
  int slave_owner_ = -1;  // master whose request the accelerator's slave has granted and not answered
  int asleep_for_ = 0;
  uint64_t cycle_ = 0, asleep_cycles_ = 0;
};

std::string Soc::name(int m) const {
  if (m == kInstr) return "the CPU's instruction port";
  if (m == kData) return "the CPU's data port";
  return "the accelerator's master port " + std::to_string(m - kFirstPort);
}

void Soc::load() {
  FILE* file = std::fopen(o_.image.c_str(), "rb");
  if (!file) end("error", "the memory image cannot be read");
  const std::size_t length = std::fread(ram_.at(0), 1, ram_.bytes(), file);
  std::fclose(file);
  if (length == 0) end("error", "the memory image is empty");
}

void Soc::reset() {
  for (int i = 0; i <= kResetCycles; ++i) {
    const bool reset_n = i == 0;
    for (bool clock : {false, true}) {
      cpu_.eval(clock, reset_n);
      accelerator_.eval(clock, reset_n);
    }
  }
  for (int p = 0; p < ports_; ++p)
    if (accelerator_.master(p).req) end("assertion", "OBI: %s requests during reset", name(kFirstPort + p).c_str());
}

void Soc::trace(uint64_t time) {
  const auto& windows = o_.vcd_windows;
  if (o_.vcd.empty() ||
      std::none_of(windows.begin(), windows.end(), [&](const Window& w) { return w.contains(cycle_); }))
    return;
  if (!tracing_) {
    tracing_ = true;
    vcd_.open(o_.vcd.c_str());
  }
  vcd_.dump(time);
}

// The first word: the CPU's sleep, then granted, refused and written of every master port (sim/recording.py).
void Soc::record() {
  uint32_t& word = recorder_.values[0];
  word = asleep_for_ > 0;
  for (int p = 0; p < ports_; ++p) {
    const Master& port = masters_[kFirstPort + p];
    if (!port.request.req) continue;
    word |= ((port.response.gnt ? 1u : 2u) | (port.request.we ? 4u : 0u)) << (1 + 3 * p);
  }
  accelerator_.probe(&recorder_.values[1]);
  recorder_.sample(cycle_);
  const Master &instr = masters_[kInstr], &data = masters_[kData];
  recorder_.count(cycle_, {instr.request.req && instr.response.gnt, instr.ungranted,
                           data.request.req && data.response.gnt, data.ungranted});
}

void Soc::run() {
  if (!o_.vcd.empty()) {
    if (Cpu::traceable()) cpu_.trace(&vcd_);
    if (Accelerator::traceable()) accelerator_.trace(&vcd_);
  }
  reset();
  while (cycle_ < o_.max_cycles) {
    cycle();
    if (peripherals_.exited) end("exit", "%s", "");
    ++cycle_;
  }
  std::string message = "no exit within " + std::to_string(o_.max_cycles) + " cycles";
  describe_waiting(message);
  end("max_cycles", "%s", message.c_str());
}

void Soc::describe_waiting(std::string& message) const {
  for (int m = 0; m < int(masters_.size()); ++m) {
    const Master& master = masters_[m];
    char text[160];
    if (master.ungranted)
      std::snprintf(text, sizeof text, "; %s waits for a grant at 0x%08x since cycle %llu", name(m).c_str(),
                    master.previous.addr, (unsigned long long)master.waiting_since);
    else if (master.outstanding && cycle_ > master.waiting_since + 1000)
      std::snprintf(text, sizeof text, "; %s waits for a response from 0x%08x since cycle %llu", name(m).c_str(),
                    master.previous.addr, (unsigned long long)master.waiting_since);
    else continue;
    message += text;
  }
  if (asleep_for_ > 1000) message += "; the CPU is asleep";
}

// Bit m: master m, a port of the accelerator, has the fault in this cycle.
uint32_t Soc::faulty_ports(const Window& window, uint32_t bit) const {
  return window.contains(cycle_) || (peripherals_.fault & bit) ? o_.fault_ports << kFirstPort : 0;
}

void Soc::cycle() {
  if (cycle_ >= peripherals_.alarm_at) {
    std::string message = "no step forward in " + std::to_string(peripherals_.alarm) + " cycles";
    describe_waiting(message);
    end("alarm", "%s", message.c_str());
  }
  held_ = cycle_ >= peripherals_.reset_at ? held_ + 1 : 0;
  never_grant_ = faulty_ports(o_.never_grant, SOC_TESTBENCH_FAULT_NEVER_GRANT);
  never_answer_ = faulty_ports(o_.never_answer, SOC_TESTBENCH_FAULT_NEVER_ANSWER);
  if (held_) hold_in_reset();
  drive_responses();
  settle_cpu();
  settle_accelerator();
  wanted_targets_.clear();
  for (int m = 0; m < int(masters_.size()); ++m)
    if (masters_[m].request.req) choose_target(m);
  arbitrate();
  apply_grants();
  for (Master& master : masters_) {
    if (master.request.req) {
      if (!master.ungranted && !master.response.gnt) master.waiting_since = cycle_;
      master.refused += !master.response.gnt;
    }
    master.ungranted = master.request.req && !master.response.gnt;
    if (master.request.req) master.previous = master.request;
  }
  trace(10 * cycle_ + 5);
  if (recorder_.on()) record();
  rise();
}

void Soc::drive_responses() {
  if (Accelerator::present() && !held_) {
    slave_ = accelerator_.slave();
    if (slave_.rvalid) {
      if (slave_owner_ < 0) end("assertion", "OBI: the accelerator's slave port responds without a request");
      Master& owner = masters_[slave_owner_];
      owner.answered = true;
      owner.due = cycle_;
      owner.rdata = slave_.rdata;
      slave_owner_ = -1;
    }
  }
  for (int m = 0; m < int(masters_.size()); ++m) {
    Master& master = masters_[m];
    const bool give = master.outstanding && master.answered && cycle_ >= master.due &&
                      !random_.happens(answer_stalls_) && !(never_answer_ >> m & 1);
    master.response.rvalid = give;
    // Data is only defined while rvalid.
    master.response.rdata = give ? master.rdata : 0x5a5a5a5a;
    if (give) master.outstanding = master.answered = false;
  }
}

// Requests do not depend on grants (checked in apply_grants), so grants are guessed, and evaluated again
// only where the guess was wrong: for the CPU that every request is granted (a grant without a request means
// nothing in OBI), for the accelerator that grants stay as they were.
void Soc::settle_cpu() {
  const uint32_t irq = peripherals_.irq(held_);
  asleep_for_ = cpu_.asleep() ? asleep_for_ + 1 : 0;
  asleep_cycles_ += asleep_for_ > 0;
  // Asleep, the clock is gated: with the same inputs nothing can change.
  const bool busy = masters_[kInstr].outstanding || masters_[kInstr].request.req || masters_[kData].outstanding ||
                    masters_[kData].request.req;
  cpu_frozen_ = asleep_for_ > 2 && irq == 0 && !busy && !tracing_;
  if (cpu_frozen_) return;
  cpu_.set_irq(irq);
  masters_[kInstr].response.gnt = masters_[kData].response.gnt = true;
  cpu_.set_instr(masters_[kInstr].response);
  cpu_.set_data(masters_[kData].response);
  cpu_.eval(false, true);
  masters_[kInstr].request = cpu_.instr();
  masters_[kData].request = cpu_.data();
  check_request(kInstr);
  check_request(kData);
}

// Its ports are cut off: what they asked for, or owe, is forgotten, and the bus answers the CPU in its place.
void Soc::hold_in_reset() {
  if (slave_owner_ >= 0) {
    masters_[slave_owner_].answered = true;
    masters_[slave_owner_].due = cycle_;
    masters_[slave_owner_].rdata = 0;
    slave_owner_ = -1;
  }
  for (int p = 0; p < ports_; ++p) {
    const uint64_t words = masters_[kFirstPort + p].words, refused = masters_[kFirstPort + p].refused;
    masters_[kFirstPort + p] = Master{};
    masters_[kFirstPort + p].words = words;
    masters_[kFirstPort + p].refused = refused;
  }
}

void Soc::settle_accelerator() {
  if (!Accelerator::present()) return;
  if (held_) {
    slave_asked_ = false;
    slave_.gnt = true;
    accelerator_.set_slave({});
    for (int p = 0; p < ports_; ++p) accelerator_.set_master(p, {});
    accelerator_.eval(false, false);
    for (int p = 0; p < ports_; ++p)
      if (held_ > kResetCycles && accelerator_.master(p).req)
        end("assertion", "OBI: %s requests during reset", name(kFirstPort + p).c_str());
    return;
  }
  Request slave = masters_[kData].request;
  const bool wanted = slave.req && !masters_[kData].outstanding && decode(kData, slave.addr) == slave_target_;
  const bool must_repeat = slave_asked_ && masters_[kData].ungranted;
  slave_asked_ = slave.req = wanted && (must_repeat || !random_.happens(stalls_));
  accelerator_.set_slave(slave);
  for (int p = 0; p < ports_; ++p) accelerator_.set_master(p, masters_[kFirstPort + p].response);
  accelerator_.eval(false, true);
  slave_.gnt = accelerator_.slave().gnt;
  for (int p = 0; p < ports_; ++p) {
    masters_[kFirstPort + p].request = accelerator_.master(p);
    check_request(kFirstPort + p);
  }
}

void Soc::check_request(int m) {
  const Master& master = masters_[m];
  const Request& now = master.request;
  // A forced reset takes back what a dead bus does not grant.
  const bool dead = (never_grant_ | never_answer_) >> m & 1;
  if (master.ungranted && (now.req || !dead)) {
    if (!now.req)
      end("assertion", "OBI: %s withdrew its request for 0x%08x before the grant", name(m).c_str(),
          master.previous.addr);
    if (!now.same_payload(master.previous))
      end("assertion", "OBI: %s changed its request for 0x%08x (to 0x%08x) before the grant", name(m).c_str(),
          master.previous.addr, now.addr);
  }
  if (now.req && m >= kFirstPort) {
    if (now.addr & 3) end("assertion", "OBI: %s requests unaligned 0x%08x", name(m).c_str(), now.addr);
    if (!now.be) end("assertion", "OBI: %s requests 0x%08x without a byte enable", name(m).c_str(), now.addr);
  }
}

int Soc::decode(int m, uint32_t address) const {
  if (address < ram_.bytes()) return ram_.bank(address);
  if (m == kInstr) return -1;
  if (Peripherals::contains(address)) return peripheral_target_;
  if (m == kData && Accelerator::present() && address - o_.slave_base < kSlaveBytes) return slave_target_;
  return -1;
}

void Soc::choose_target(int m) {
  const Master& master = masters_[m];
  const int target = decode(m, master.request.addr);
  if (target < 0) {
    if (m < kFirstPort)
      end("unmapped", "%s accesses 0x%08x, where nothing is mapped (last instruction fetched from 0x%08x)",
          name(m).c_str(), master.request.addr, masters_[kInstr].previous.addr);
    return;
  }
  if (master.outstanding || (never_grant_ >> m & 1)) return;
  if (target == slave_target_) {
    if (!held_ && (!slave_asked_ || !slave_.gnt)) return;
  } else if (random_.happens(stalls_)) {
    return;
  }
  if (!targets_[target].wanted) wanted_targets_.push_back(target);
  targets_[target].wanted |= 1u << (m < kFirstPort ? m : m + kBetween);
}

void Soc::arbitrate() {
  const int count = int(masters_.size());
  bool granted[kFirstPort + kMaxPorts] = {};
  for (int index : wanted_targets_) {
    Target& target = targets_[index];
    if (cycle_ >= target.free) {
      const int place = target.arbiter.choose(target.wanted);
      const int m = place < kFirstPort ? place : place - kBetween;
      granted[m] = true;
      grant(m, index);
    }
    target.wanted = 0;
  }
  regrant_cpu_ = regrant_accelerator_ = false;
  for (int m = 0; m < count; ++m) {
    if (m < kFirstPort) regrant_cpu_ |= masters_[m].request.req && !granted[m];
    else regrant_accelerator_ |= masters_[m].response.gnt != granted[m];
    masters_[m].response.gnt = granted[m];
  }
}

void Soc::grant(int m, int index) {
  Master& master = masters_[m];
  master.outstanding = true;
  master.waiting_since = cycle_;
  master.target = index;
  ++master.words;
  if (index == slave_target_ && !held_) {
    slave_owner_ = m;
    return;
  }
  master.answered = true;
  if (index == slave_target_) {
    master.rdata = 0;
    master.due = cycle_ + 1;
  } else if (index == peripheral_target_) {
    master.rdata = peripherals_.access(master.request, cycle_);
    master.due = cycle_ + 1;
  } else {
    master.rdata = ram_.access(master.request);
    master.due = cycle_ + 1 + o_.wait_states;
    targets_[index].free = cycle_ + 1 + o_.wait_states;
  }
}

void Soc::check_unchanged(int m, const Request& now) {
  const Request& before = masters_[m].request;
  if (now.req != before.req || (now.req && !now.same_payload(before)))
    end("assertion", "OBI: the request of %s depends on its grant", name(m).c_str());
}

void Soc::apply_grants() {
  if (regrant_cpu_) {
    cpu_.set_instr(masters_[kInstr].response);
    cpu_.set_data(masters_[kData].response);
    cpu_.eval(false, true);
    check_unchanged(kInstr, cpu_.instr());
    check_unchanged(kData, cpu_.data());
  }
  if (regrant_accelerator_) {
    for (int p = 0; p < ports_; ++p) accelerator_.set_master(p, masters_[kFirstPort + p].response);
    accelerator_.eval(false, true);
    for (int p = 0; p < ports_; ++p) check_unchanged(kFirstPort + p, accelerator_.master(p));
    if (accelerator_.slave().gnt != slave_.gnt)
      end("assertion", "OBI: the grant of the accelerator's slave port depends on its masters' grants");
  }
}

void Soc::rise() {
  peripherals_.clock(accelerator_.irq(), o_.irq_line);
  if (!cpu_frozen_) cpu_.eval(true, true);
  accelerator_.eval(true, !held_);
  trace(10 * cycle_ + 10);
}

void Soc::report(const End& end) {
  std::fflush(stdout);
  if (tracing_) vcd_.close();
  FILE* file = std::fopen(o_.result.c_str(), "w");
  if (!file) std::exit(2);
  std::fprintf(file, "ended %s\ncycles %llu\nasleep %llu\nexit_code %u\n", end.reason, (unsigned long long)cycle_,
               (unsigned long long)asleep_cycles_, peripherals_.exit_value);
  for (const Master& master : masters_)
    std::fprintf(file, "master %llu %llu\n", (unsigned long long)master.words, (unsigned long long)master.refused);
  if (recorder_.on()) recorder_.report(file);
  if (!end.message.empty()) std::fprintf(file, "message %s\n", end.message.c_str());
  std::fclose(file);
  for (const Dump& dump : o_.dumps) {
    FILE* out = std::fopen(dump.file.c_str(), "wb");
    if (!out) std::exit(2);
    std::fwrite(ram_.at(dump.address), 1, dump.bytes, out);
    std::fclose(out);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  VerilatedContext context;
  context.randReset(2);  // registers start with random values: only a reset may give them theirs
  context.randSeed(int(options.seed % 0x7fffffff) + 1);
  context.traceEverOn(!options.vcd.empty());
  Soc soc(options, &context);
  try {
    soc.load();
    soc.run();
  } catch (const End& end) {
    soc.report(end);
  } catch (const std::logic_error& error) {
    soc.report({"error", error.what()});
  }
}
