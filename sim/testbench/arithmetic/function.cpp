// SPDX-License-Identifier: Apache-2.0
// function_lane: y = f(x) UNIT_LATENCY enabled cycles after x, for a table of random words. Every program run has its
// own, whose pairs are written first; in a quarter of the segments p is small or 0.
struct Bench {
  static constexpr int AHEAD = 0, PAIRS = 256, DIRECTORY = 16, IDENTITY = 3;
  struct Vector {
    uint32_t x;
  };

  static Vector draw(Random& r) { return {operand(r)}; }

  static uint32_t expected(const Vector& v) {
    const int exponent = static_cast<int>(v.x >> 23 & 255);
    if ((v.x & ~SIGN) > INFINITE) return NAN_BITS;
    const uint32_t fraction = (v.x & SIGN ? ~v.x : v.x) & FRACTION;
    const int lowest = 96 + static_cast<int>(table_[0] >> 11 & 31), octave = exponent - lowest;
    const int entry = (v.x & SIGN ? 32 : 0) + (octave < 0 ? 0 : octave > 31 ? 31 : octave);
    const uint32_t place = table_[entry / 2] >> (entry % 2 ? 16 : 0) & 0x7ff, k = place >> 8;
    const uint32_t pair = ((place & 255) + fraction / (1u << (23 - k))) % PAIRS;
    const int64_t t = fraction * (1u << k) % (1u << 23) / 64;
    const uint32_t first = table_[2 * pair], second = table_[2 * pair + 1], kind = first >> 8 & 3;
    if (kind == IDENTITY) return v.x;
    if (kind == 1 && exponent == 255) return NAN_BITS;
    const int64_t slope = wrapped(wrapped(second >> 14, 18) + floor_of(wrapped(second, 14) * t, 15), 18);
    const int64_t p = wrapped(first >> 10, 22) + floor_of(slope * t, 14);
    if (kind == 2 && (exponent == 0 || exponent == 255))
      return p == 0 ? 0 : (p < 0 ? SIGN : 0) | (exponent ? INFINITE : 0);
    const int scale = static_cast<int>(first & 255) - 127 - 20 + (kind == 2 ? exponent - 127 : 0);
    const double value = std::ldexp(static_cast<double>(p), scale);
    if (std::fabs(value) < 0x1p-126) return value < 0 ? SIGN : 0;
    if (std::fabs(value) >= 0x1p128) return (value < 0 ? SIGN : 0) | INFINITE;
    return as_bits(static_cast<float>(value));
  }

  static bool apply(Dut& dut, Random& r, const Vector& v, const Vector&) {
    if (written_ < PAIRS) return write(dut, r);
    dut.table_valid = 0;
    dut.en = !r.one_in(32);
    dut.x = v.x;
    return dut.en;
  }

  static uint32_t result(const Dut& dut) { return dut.y; }

  static void describe(Report& report, const Vector& v, uint32_t got, uint32_t expected) {
    report.example("%08x: %08x instead of %08x", v.x, got, expected);
  }

 private:
  static bool write(Dut& dut, Random& r) {
    if (written_ == 0) make(r);
    const uint32_t* pair = table_ + 2 * written_;
    dut.slot = table_[1] & 1;
    dut.en = 0;
    dut.table_valid = 1;
    dut.table_pair = static_cast<uint8_t>(written_++);
    dut.table_data = static_cast<uint64_t>(pair[1]) << 32 | pair[0];
    return false;
  }
  static void make(Random& r) {
    for (int pair = 0; pair < PAIRS; ++pair) {
      table_[2 * pair] = r.bits();
      table_[2 * pair + 1] = r.bits();
      if (pair < DIRECTORY || !r.one_in(4)) continue;
      table_[2 * pair] = (table_[2 * pair] & 0x3ff) | static_cast<uint32_t>(r.between(-2, 2)) << 10;
      table_[2 * pair + 1] = r.one_in(2) ? 0 : r.bits() & 0x0001c003;
    }
    table_[0] = (table_[0] & ~0xffu) | DIRECTORY;  // whatever is small and positive stays: subnormal results
    table_[2 * DIRECTORY] |= IDENTITY << 8;
  }
  static int64_t floor_of(int64_t value, int bits) {
    const int64_t unit = int64_t{1} << bits;
    return value / unit - (value % unit < 0);
  }
  static int64_t wrapped(int64_t value, int bits) {
    const int64_t range = int64_t{1} << bits, rest = (value % range + range) % range;
    return rest < range / 2 ? rest : rest - range;
  }
  static inline uint32_t table_[2 * PAIRS];
  static inline int written_ = 0;
};

int main(int argc, char** argv) { return drive<Bench, UNIT_LATENCY>(argc, argv); }
