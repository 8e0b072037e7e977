// SPDX-License-Identifier: Apache-2.0
// fp32_add and fp32_mul (OPERATION + or *), y UNIT_LATENCY enabled cycles after a and b.
struct Bench {
  static constexpr int AHEAD = 0;
  struct Vector {
    uint32_t a, b;
  };

  static Vector draw(Random& r) {
    const uint32_t a = operand(r);
    switch (r.below(8)) {
      case 0: return {a, near(r, a ^ SIGN, 2)};
      case 1: return {a, near(r, a, 2)};
      case 2: return {a, tie_with(r, a)};
      case 3: return {tie_with(r, a), a};
      case 4: return exact_half(r);
      case 5: return at_the_edge(r);
      default: return {a, operand(r)};
    }
  }

  static uint32_t expected(const Vector& v) { return as_bits(as_float(v.a) OPERATION as_float(v.b)); }

  static bool apply(Dut& dut, Random& r, const Vector& v, const Vector&) {
    dut.en = r.one_in(32) ? 0 : (1 << UNIT_LATENCY) - 1;  // all stages
    dut.a = v.a;
    dut.b = v.b;
    return dut.en != 0;
  }

  static uint32_t result(const Dut& dut) { return dut.y; }

  static void describe(Report& report, const Vector& v, uint32_t got, uint32_t expected) {
    report.example("%08x, %08x: %08x instead of %08x", v.a, v.b, got, expected);
  }

 private:
  // Odd significands of n and of 25 - n or 26 - n bits: many products have 25, a tie.
  static Vector exact_half(Random& r) {
    const int n = r.between(2, 23), m = r.between(25, 26) - n;
    return {pack(r.bits(), r.between(64, 190), odd(r, n)), pack(r.bits(), r.between(64, 190), odd(r, m))};
  }
  static uint32_t odd(Random& r, int bits) {
    return bits < 2 ? 0 : (r.bits() & FRACTION & FRACTION << (24 - bits)) | 1u << (24 - bits);
  }
  // Products at the least and the largest numbers.
  static Vector at_the_edge(Random& r) {
    const int exponent = r.between(0, 254), sum = r.one_in(2) ? r.between(101, 130) : r.between(379, 383);
    const uint32_t fraction = r.one_in(2) ? few_bits(r) : r.bits();
    return {pack(r.bits(), exponent, fraction), pack(r.bits(), sum - exponent, few_bits(r))};
  }
};

int main(int argc, char** argv) { return drive<Bench, UNIT_LATENCY>(argc, argv); }
