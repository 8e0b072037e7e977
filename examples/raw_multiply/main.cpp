// SPDX-License-Identifier: Apache-2.0
// One product of matrices on the accelerator, without a network.
#include "data.hpp"
#include "multiply.hpp"
#include "soc.hpp"

extern "C" {
float product[kM * kN];
}

int main() {
  const heepstor::Status status = heepstor::open();
  if (status != heepstor::Status::ok) {
    heepstor::print_status(status, heepstor::accelerator, heepstor::kIdentity);
    return 1;
  }
  const uint64_t start = heepstor::accelerator.cycles();
  heepstor::multiply(kA, kB, product, kM, kK, kN);
  heepstor::print_decimal(heepstor::accelerator.cycles() - start);
  soc_puts(" cycles\n");
  return 0;
}
