// SPDX-License-Identifier: Apache-2.0
// normaliser: psum * 2**(exponent - 152) as FP32, UNIT_LATENCY cycles later; psum has PSUM_BITS bits.
struct Bench {
  static constexpr int AHEAD = 0;
  static constexpr uint64_t MASK = (uint64_t{1} << PSUM_BITS) - 1;
  struct Vector {
    int64_t psum;
    int exponent;
    bool flag;
  };

  // Uniform; any length; a significand and what rounds it: half, just above, just below, and all ones.
  static Vector draw(Random& r) {
    uint64_t magnitude = r.wide() & MASK >> 1;
    if (!r.one_in(8)) magnitude >>= r.below(PSUM_BITS);
    if (r.one_in(2)) {
      const int rest = r.below(PSUM_BITS - 24);
      const uint64_t significand = r.one_in(4) ? 0xffffff : 0x800000 | (r.bits() & FRACTION);
      const uint64_t half = rest ? uint64_t{1} << (rest - 1) : 0;
      magnitude = (significand << rest) + half + static_cast<uint64_t>(r.between(-1, 1));
      magnitude = (r.one_in(4) ? magnitude >> r.below(24) : magnitude) & MASK >> 1;
    }
    if (r.one_in(64)) magnitude = 0;
    int exponent = r.between(1, 255);
    if (r.one_in(2)) exponent = r.one_in(4) ? r.between(240, 255) : r.between(1, 36);
    const int64_t psum = static_cast<int64_t>(magnitude);
    return {r.one_in(2) ? -psum : psum, exponent, r.one_in(2)};
  }

  static uint32_t expected(const Vector& v) {
    const bool negative = v.psum < 0;
    if (v.exponent == 255) return v.psum == 0 || !v.flag ? NAN_BITS : INFINITE | (negative ? SIGN : 0);
    if (v.psum == 0) return v.flag ? SIGN : 0;
    return round_exact(negative, static_cast<uint64_t>(negative ? -v.psum : v.psum), v.exponent - 152);
  }

  static bool apply(Dut& dut, Random&, const Vector& v, const Vector&) {
    dut.occupied = (1 << UNIT_LATENCY) - 1;
    dut.psum = static_cast<uint64_t>(v.psum) & MASK;
    dut.meta = static_cast<uint16_t>(v.exponent | (v.flag ? 256 : 0));
    return true;
  }

  static uint32_t result(const Dut& dut) { return dut.y; }

  static void describe(Report& report, const Vector& v, uint32_t got, uint32_t expected) {
    report.example("%lld, exponent %d, flag %d: %08x instead of %08x", static_cast<long long>(v.psum), v.exponent,
                   v.flag, got, expected);
  }
};

int main(int argc, char** argv) { return drive<Bench, UNIT_LATENCY>(argc, argv); }
