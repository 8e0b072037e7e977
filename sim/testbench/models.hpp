// SPDX-License-Identifier: Apache-2.0
// What the testbench knows about the two verilated models: OBI pins, a clock, and tracing.
#pragma once

#include <cstdint>

class VerilatedContext;
class VerilatedVcdC;

struct Request {
  bool req = false, we = false;
  uint8_t be = 0;
  uint32_t addr = 0, wdata = 0;

  bool same_payload(const Request& other) const {
    return we == other.we && be == other.be && addr == other.addr && (!we || wdata == other.wdata);
  }
};

struct Response {
  bool gnt = false, rvalid = false;
  uint32_t rdata = 0;
};

class Cpu {
 public:
  explicit Cpu(VerilatedContext* context, uint32_t boot_address);
  ~Cpu();
  void eval(bool clock, bool reset_n);
  void set_instr(const Response& response);
  void set_data(const Response& response);
  void set_irq(uint32_t lines);
  Request instr() const;
  Request data() const;
  bool asleep() const;
  static bool traceable();
  void trace(VerilatedVcdC* file);

 private:
  class Model;
  [[maybe_unused]] Model* model_;
};

constexpr int kMaxPorts = 4;

class Accelerator {
 public:
  Accelerator(VerilatedContext* context, int threads);  // 1 or 2 threads: the results are the same
  ~Accelerator();
  static bool present();
  static int ports();  // of its masters
  void eval(bool clock, bool reset_n);  // inputs change while the clock is low, and are evaluated before it rises
  void set_slave(const Request& request);
  Response slave() const;
  void set_master(int port, const Response& response);
  Request master(int port) const;
  bool irq() const;
  static int probe_words();  // that a recording samples
  void probe(uint32_t* words) const;
  static bool traceable();
  void trace(VerilatedVcdC* file);

 private:
  class Model;
  [[maybe_unused]] Model* model_;
};
