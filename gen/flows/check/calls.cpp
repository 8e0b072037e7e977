// SPDX-License-Identifier: Apache-2.0
// Takes the steps of a table in memory: calls of the driver, pauses, resets of the accelerator while it works.
#include "accelerator.hpp"
#include "driver.hpp"
#include "gemm.hpp"
#include "soc.hpp"
#include "steps.hpp"

extern "C" {
/** Number of the step that is being taken. */
extern volatile uint32_t check_step;
/** Rows of sums that the driver keeps, 0 for one that keeps none. */
extern volatile uint32_t check_sums;
[[noreturn, gnu::used]] void check_held();
}

namespace {

using heepstor::Driver;
using heepstor::Status;
namespace kit = heepstor::kit;

constexpr uint32_t kSums = heepstor::detail::Sums<Driver>::kCount;

constexpr heepstor::Identity kIdentity = {HEEPSTOR_VERSION, CONFIG_HASH, ARCHITECTURE};
constexpr heepstor::Connection kConnection = {SLAVE_BASE, IRQ_LINE};
constexpr heepstor::Accelerator accelerator(kConnection);
Driver driver(kConnection);
heepstor::Gemm<Driver, DEPTH, WIDTH> gemm(driver);

float scale[WIDTH], bias[WIDTH];

uint32_t duration;  // of what was timed last

volatile uint32_t& testbench(uint32_t offset) { return soc_register(SOC_TESTBENCH_BASE + offset); }

template <class T>
T* at(uint32_t address) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

uint32_t now() { return testbench(SOC_TESTBENCH_CYCLES_LOW); }

void pause(uint32_t cycles) {
  for (const uint32_t start = now(); now() - start < cycles;) {
  }
}

Status open() {
  const Status status = accelerator.identify(kIdentity);
  if (status == Status::ok) driver.open();
  else heepstor::print_status(status, accelerator, kIdentity);
  return status;
}

struct Contiguous {
  const float* row;
  uint32_t stride;
  [[gnu::always_inline]] inline float operator[](uint32_t j) const { return row[j]; }
  [[gnu::always_inline]] inline void next() { row += stride; }
};

struct Indexed {
  const float* row;
  uint32_t stride;
  const int32_t* offset;
  [[gnu::always_inline]] inline float operator[](uint32_t j) const { return row[offset[j]]; }
  [[gnu::always_inline]] inline void next() { row += stride; }
};

// Which of the two forms the driver has: members of the other one are not looked up.
template <class D>
void multiply(D& form, const kit::Step& step) {
  if constexpr (kSums == 0) {
    form.multiply(at<const float>(step.a), step.stride, step.rows, at<float>(step.c));
    form.wait();
  }
}

template <class D>
void push(D& form, const kit::Step& step) {
  if constexpr (kSums > 0) {
    const float* a = at<const float>(step.a);
    const bool first = step.first != 0;
    if (step.offsets) form.push(step.slot, first, step.rows, Indexed{a, step.stride, at<const int32_t>(step.offsets)});
    else form.push(step.slot, first, step.rows, Contiguous{a, step.stride});
  }
}

template <class D>
void pull(D& form, const kit::Step& step) {
  if constexpr (kSums > 0) {
    const auto sums = form.pull(step.slot);
    for (uint32_t i = 0; i < step.columns; ++i) at<float>(step.c)[i] = sums[i];
  }
}

/** From `delay` cycles from now on the accelerator is held in reset, and this call's driver left where it is. */
void arm(uint32_t delay) {
  const uint32_t mask = 1u << SOC_TIMER_INTERRUPT;
  __asm__ volatile("csrw mie, %0" : : "r"(mask));
  testbench(SOC_TESTBENCH_RESET) = delay;
  __asm__ volatile("csrsi mstatus, 8");
}

/** A Linear layer, with a scale of 1 and a bias of -0, which change nothing. */
void product(const kit::Step& step) {
  const auto w = gemm.linear(static_cast<int32_t>(step.rows), static_cast<int32_t>(step.depth),
                             static_cast<int32_t>(step.columns));
  gemm.convolution(w, at<const int8_t>(step.b), scale, bias, at<const float>(step.a), nullptr, at<float>(step.c));
}

void take(const kit::Step& step) {
  switch (step.kind) {
    case kit::kLoad: return driver.load_weights(at<const int8_t>(step.a), step.rows, step.columns, step.stride);
    case kit::kMultiply: return multiply(driver, step);
    case kit::kPush: return push(driver, step);
    case kit::kPull: return pull(driver, step);
    case kit::kProduct: return product(step);
    case kit::kPause: return pause(step.rows);
    case kit::kBegin: duration = now(); return;
    case kit::kFinish: *at<uint32_t>(step.c) = duration = now() - duration; return;
    case kit::kReset: return arm(1 + static_cast<uint32_t>(uint64_t{duration} * step.rows >> 8));
    case kit::kHeld:  // the call ended before
      testbench(SOC_TESTBENCH_RESET) = 1;
      for (;;) {
      }
    default: soc_exit(2);
  }
}

[[noreturn]] void run() {
  for (uint32_t i = 0; i < WIDTH; ++i) scale[i] = 1, bias[i] = -0.0f;
  const kit::Table& table = *at<const kit::Table>(TABLE);
  for (; check_step < table.count; check_step = check_step + 1) {
    testbench(SOC_TESTBENCH_ALARM) = table.steps[check_step].limit;
    take(table.steps[check_step]);
  }
  soc_exit(0);
}

}  // namespace

volatile uint32_t check_step;
[[gnu::section(".data.check_sums")]] volatile uint32_t check_sums = kSums;  // of .data even if it is 0

void check_held() {
  __asm__ volatile("csrw mie, zero");
  testbench(SOC_TESTBENCH_RESET) = 0;
  const kit::Table& table = *at<const kit::Table>(TABLE);
  while (table.steps[check_step].kind != kit::kHeld) check_step = check_step + 1;
  check_step = check_step + 1;
  if (open() != Status::ok) soc_exit(1);
  run();
}

// While a reset is awaited interrupts are taken. Its own never returns; the accelerator's is put off for good, as the
// driver that waits for it is left anyway.
extern "C" [[gnu::naked]] void heepgen_interrupt() {
  __asm__ volatile(
      "csrw mscratch, t0\n"
      "csrr t0, mcause\n"
      "andi t0, t0, 31\n"
      "addi t0, t0, -7\n"
      "beqz t0, 1f\n"
      "li t0, 0x80\n"
      "csrw mie, t0\n"
      "csrr t0, mscratch\n"
      "mret\n"
      "1: la sp, _stack_end\n"
      "j check_held\n");
}

int main() {
  testbench(SOC_TESTBENCH_ALARM) = at<const kit::Table>(TABLE)->steps[0].limit;
  if (check_sums != kSums || open() != Status::ok) return 1;  // the former keeps it for whoever reads the program
  run();
}
