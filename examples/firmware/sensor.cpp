// SPDX-License-Identifier: Apache-2.0
// Reads a sensor and classifies what it says, again and again.
#include "model.hpp"
#include "soc.hpp"

#ifndef SAMPLES
#define SAMPLES 5
#endif

/** Stands for a sensor: a wave that moves on with every call. */
static void read_sensor(float* values, uint32_t count) {
  static uint32_t time = 0;
  for (uint32_t i = 0; i < count; ++i) values[i] = static_cast<float>((time * time + i) % 7) - 3;
  ++time;
}

int main() {
  for (int sample = 0; sample < SAMPLES; ++sample) {
    read_sensor(model_input(), kModelInputs);  // in PyTorch's order; before every run
    const heepstor::Status status = model_run();
    if (status != heepstor::Status::ok) {
      model_print_status(status);
      return 1;
    }
    soc_puts("class ");  // model_output() has the values
    heepstor::print_decimal(model_argmax());
    soc_puts("\n");
  }
  return 0;
}
