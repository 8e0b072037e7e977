// SPDX-License-Identifier: Apache-2.0
// fma_pe: psum_out = a * weight + psum, UNIT_LATENCY cycles after a and psum; switched off it passes psum on, bit for
// bit. A weight enters the shadow register two cycles ahead of its activation, and every cycle swaps.
struct Bench {
  static constexpr int AHEAD = 2;
  struct Vector {
    uint32_t a, psum;
    int8_t weight;
    bool off;
  };

  static Vector draw(Random& r) {
    static constexpr int8_t WEIGHTS[] = {0, 1, -1, 2, 3, -3, 64, 127, -127, -128};
    Vector v;
    v.a = operand(r);
    v.weight = r.one_in(4) ? WEIGHTS[r.below(sizeof WEIGHTS)] : static_cast<int8_t>(r.bits());
    v.off = r.one_in(64);
    if (r.one_in(8)) return half_of_psum(r);
    const uint32_t product = as_bits(as_float(v.a) * static_cast<float>(v.weight));
    const int exponent = static_cast<int>(product >> 23 & 255);
    switch (r.below(6)) {
      case 0: v.psum = near(r, product ^ SIGN, 3); break;
      case 1: v.psum = tie_with(r, product); break;
      case 2: v.psum = pack(r.bits(), exponent + r.between(-34, 34), few_bits(r)); break;
      case 3: v.psum = pack(r.bits(), exponent + r.between(-34, 34), r.bits()); break;
      default: v.psum = operand(r);
    }
    return v;
  }

  static uint32_t expected(const Vector& v) {
    return v.off ? v.psum : as_bits(std::fmaf(as_float(v.a), static_cast<float>(v.weight), as_float(v.psum)));
  }

  static bool apply(Dut& dut, Random&, const Vector& now, const Vector& ahead) {
    dut.valid = 1;
    dut.a = now.a;
    dut.psum = now.psum;
    dut.weight = static_cast<uint8_t>(ahead.weight);
    dut.load_diag = ahead.off;
    dut.load = !ahead.off;
    dut.swap = 1;
    return true;
  }

  static uint32_t result(const Dut& dut) { return dut.psum_out; }

  static void describe(Report& report, const Vector& v, uint32_t got, uint32_t expected) {
    report.example("%08x * %d + %08x%s: %08x instead of %08x", v.a, v.weight, v.psum, v.off ? " (off)" : "", got,
                   expected);
  }

 private:
  // Products of half a unit in the last place of psum, or one bit more, or less.
  static Vector half_of_psum(Random& r) {
    const int shift = r.below(7), exponent = r.between(1, 220);
    const uint32_t a = pack(r.bits(), exponent, 0), psum = pack(r.bits(), exponent + shift + 24, r.bits());
    return {near(r, a, 1), psum, static_cast<int8_t>(r.one_in(2) ? 1 << shift : -(1 << shift)), false};
  }
};

int main(int argc, char** argv) { return drive<Bench, UNIT_LATENCY>(argc, argv); }
