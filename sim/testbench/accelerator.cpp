// SPDX-License-Identifier: Apache-2.0
// Adapter between a verilated accelerator (class Vheepstor) and the testbench.
#include "models.hpp"

#include <stdexcept>
#include <type_traits>

#include "parts.hpp"
#include "probes.hpp"
#include "team.hpp"
#if HEEPGEN_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

// Verilator's type of a 32 P bit port depends on P.
[[maybe_unused]] uint32_t get_word(const IData& bus, int) { return bus; }
[[maybe_unused]] uint32_t get_word(const QData& bus, int i) { return uint32_t(bus >> 32 * i); }
template <std::size_t N>
uint32_t get_word(const VlWide<N>& bus, int i) {
  return bus[i];
}

[[maybe_unused]] void set_word(IData& bus, int, uint32_t value) { bus = value; }
[[maybe_unused]] void set_word(QData& bus, int i, uint32_t value) {
  bus = (bus & ~(QData{0xffffffff} << 32 * i)) | QData{value} << 32 * i;
}
template <std::size_t N>
void set_word(VlWide<N>& bus, int i, uint32_t value) {
  bus[i] = value;
}

template <class Bus>
void set_bit(Bus& bus, int i, bool value) {
  bus = Bus((bus & ~(1u << i)) | unsigned(value) << i);
}

// The master ports of a model, which an accelerator without masters lacks.
template <class Model, class = void>
struct Masters {
  static constexpr int kCount = 0;
  static void reset(Model&) {}
  static void answer(Model&, int, const Response&) {}
  static Request request(const Model&, int) { return {}; }
};

template <class Model>
struct Masters<Model, std::void_t<decltype(Model::m_addr)>> {
  static constexpr int kCount = sizeof(std::remove_reference_t<decltype(Model::m_addr)>) / sizeof(uint32_t);

  static void reset(Model& model) {
    model.m_gnt = 0;
    model.m_rvalid = 0;
  }

  static void answer(Model& model, int port, const Response& response) {
    set_bit(model.m_gnt, port, response.gnt);
    set_bit(model.m_rvalid, port, response.rvalid);
    set_word(model.m_rdata, port, response.rdata);
  }

  static Request request(const Model& model, int port) {
    return {bool(model.m_req >> port & 1), bool(model.m_we >> port & 1), uint8_t(model.m_be >> 4 * port & 0xf),
            get_word(model.m_addr, port), get_word(model.m_wdata, port)};
  }
};

using Ports = Masters<Vheepstor>;

}  // namespace

class Accelerator::Model : public Vheepstor {
 public:
  Model(VerilatedContext* context, int threads)
      : Vheepstor(context, "accelerator"), parts(context), alone(threads == 1),
        team(threads, Parts::kCount, [this](int number) { parts.clock(number); }) {}

  void start() {
    parts.put(*rootp);
    team.start();
    started = true;
  }

  Parts parts;
  const bool alone;
  Team team;
  bool started = false, was_reset = false;
};

Accelerator::Accelerator(VerilatedContext* context, int threads) : model_(new Model(context, threads)) {
  model_->s_req = 0;
  Ports::reset(*model_);
}

Accelerator::~Accelerator() { delete model_; }

bool Accelerator::present() { return true; }

int Accelerator::ports() { return Ports::kCount; }

// The parts work on an edge as soon as their inputs before it are known: from the end of the edge before, beside all
// that happens until then. Only rst_n can still change these inputs: one thread, which has not begun, takes them anew.
void Accelerator::eval(bool clock, bool reset_n) {
  const bool rises = clock && !model_->clk;
  model_->clk = clock;
  model_->rst_n = reset_n;
  if (!rises || Parts::kCount == 0) return model_->eval();
  Root& root = *model_->rootp;
  if (!model_->started) model_->start();
  if (!reset_n && model_->alone) model_->parts.put(root);
  const bool same = model_->parts.same(root);
  model_->eval();
  model_->team.finish();
  if (!same || model_->parts.follow())
    throw std::logic_error(
        "the accelerator cannot be simulated in parts: an output of the array or the accumulators "
        "follows an input, or an input follows the bus, without a register between them");
  model_->parts.take(root);
  model_->eval();
  model_->was_reset |= !reset_n;
  model_->started = false;
  if (model_->was_reset && reset_n) model_->start();
}

void Accelerator::set_slave(const Request& request) {
  model_->s_req = request.req;
  model_->s_we = request.we;
  model_->s_be = request.be;
  model_->s_addr = request.addr;
  model_->s_wdata = request.wdata;
}

Response Accelerator::slave() const { return {bool(model_->s_gnt), bool(model_->s_rvalid), model_->s_rdata}; }

void Accelerator::set_master(int port, const Response& response) { Ports::answer(*model_, port, response); }

Request Accelerator::master(int port) const { return Ports::request(*model_, port); }

bool Accelerator::irq() const { return model_->irq; }

int Accelerator::probe_words() { return Probes::kWords; }

void Accelerator::probe(uint32_t* words) const { Probes::sample(*model_->rootp, words); }

bool Accelerator::traceable() { return HEEPGEN_TRACE; }

void Accelerator::trace([[maybe_unused]] VerilatedVcdC* file) {
#if HEEPGEN_TRACE
  model_->trace(file, 99);
#endif
}
