// SPDX-License-Identifier: Apache-2.0
// Adapter between the verilated CV32E40P and the testbench.
#include "models.hpp"

#include "Vcpu.h"
#if HEEPGEN_TRACE
#include "verilated_vcd_c.h"
#endif

class Cpu::Model : public Vcpu {
  using Vcpu::Vcpu;
};

Cpu::Cpu(VerilatedContext* context, uint32_t boot_address) : model_(new Model(context, "cpu")) {
  model_->pulp_clock_en_i = 1;
  model_->scan_cg_en_i = 0;
  model_->boot_addr_i = boot_address;
  model_->mtvec_addr_i = 0;
  model_->dm_halt_addr_i = 0;
  model_->dm_exception_addr_i = 0;
  model_->hart_id_i = 0;
  model_->debug_req_i = 0;
  model_->fetch_enable_i = 1;
}

Cpu::~Cpu() { delete model_; }

void Cpu::eval(bool clock, bool reset_n) {
  model_->clk_i = clock;
  model_->rst_ni = reset_n;
  model_->eval();
}

void Cpu::set_instr(const Response& response) {
  model_->instr_gnt_i = response.gnt;
  model_->instr_rvalid_i = response.rvalid;
  model_->instr_rdata_i = response.rdata;
}

void Cpu::set_data(const Response& response) {
  model_->data_gnt_i = response.gnt;
  model_->data_rvalid_i = response.rvalid;
  model_->data_rdata_i = response.rdata;
}

void Cpu::set_irq(uint32_t lines) { model_->irq_i = lines; }

Request Cpu::instr() const { return {bool(model_->instr_req_o), false, 0xf, model_->instr_addr_o, 0}; }

Request Cpu::data() const {
  return {bool(model_->data_req_o), bool(model_->data_we_o), uint8_t(model_->data_be_o), model_->data_addr_o,
          model_->data_wdata_o};
}

bool Cpu::asleep() const { return model_->core_sleep_o; }

bool Cpu::traceable() { return HEEPGEN_TRACE; }

void Cpu::trace([[maybe_unused]] VerilatedVcdC* file) {
#if HEEPGEN_TRACE
  model_->trace(file, 99);
#endif
}
