// SPDX-License-Identifier: Apache-2.0
// A SoC without an accelerator: nothing is mapped in the external slave space.
#include "models.hpp"

class Accelerator::Model {};

Accelerator::Accelerator(VerilatedContext*, int) : model_(nullptr) {}
Accelerator::~Accelerator() = default;
bool Accelerator::present() { return false; }
int Accelerator::ports() { return 0; }
void Accelerator::eval(bool, bool) {}
void Accelerator::set_slave(const Request&) {}
Response Accelerator::slave() const { return {}; }
void Accelerator::set_master(int, const Response&) {}
Request Accelerator::master(int) const { return {}; }
bool Accelerator::irq() const { return false; }
int Accelerator::probe_words() { return 0; }
void Accelerator::probe(uint32_t*) const {}
bool Accelerator::traceable() { return false; }
void Accelerator::trace(VerilatedVcdC*) {}
