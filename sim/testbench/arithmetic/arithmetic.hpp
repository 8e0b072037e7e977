// SPDX-License-Identifier: Apache-2.0
// Vectors for arithmetic units, and their answers compared with the host's IEEE arithmetic or exact integers.
// Before it stand `Dut`, the model's class, and the constants of the unit.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

constexpr uint32_t NAN_BITS = 0x7fc00000u, INFINITE = 0x7f800000u, SIGN = 0x80000000u, FRACTION = 0x7fffffu;

inline float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Every NaN is the canonical one.
inline uint32_t as_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return value == value ? bits : NAN_BITS;
}

// (-1)^negative * m * 2^e rounded to nearest even, by integers alone; m is not 0.
inline uint32_t round_exact(bool negative, unsigned __int128 m, int e) {
  int bits = 0;
  while (bits < 128 && m >> bits) ++bits;
  int drop = bits - 24;
  if (drop + e < -149) drop = -149 - e;
  if (drop > 0) {
    const unsigned __int128 half = static_cast<unsigned __int128>(1) << (drop - 1);
    const unsigned __int128 rest = m & (2 * half - 1);
    m >>= drop;
    if (rest > half || (rest == half && (m & 1))) ++m;
  } else {
    m <<= -drop;
  }
  e += drop;
  if (m == 1u << 24) {
    m >>= 1;
    ++e;
  }
  const uint32_t significand = static_cast<uint32_t>(m);
  const int field = significand >> 23 ? e + 150 : 0;
  const uint32_t finite = static_cast<uint32_t>(field) << 23 | (significand & FRACTION);
  return (negative ? SIGN : 0) | (field >= 255 ? INFINITE : finite);
}

// xoshiro256**
class Random {
 public:
  explicit Random(uint64_t seed) {
    for (auto& word : state_) {
      seed += 0x9e3779b97f4a7c15u;
      uint64_t z = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9u;
      z = (z ^ z >> 27) * 0x94d049bb133111ebu;
      word = z ^ z >> 31;
    }
  }
  uint64_t wide() {
    const uint64_t result = rotate(state_[1] * 5, 7) * 9, t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = rotate(state_[3], 45);
    return result;
  }
  uint32_t bits() { return static_cast<uint32_t>(wide() >> 32); }
  int below(int n) { return static_cast<int>(static_cast<uint64_t>(bits()) * static_cast<uint64_t>(n) >> 32); }
  int between(int low, int high) { return low + below(high - low + 1); }
  bool one_in(int n) { return below(n) == 0; }

 private:
  static uint64_t rotate(uint64_t x, int k) { return x << k | x >> (64 - k); }
  uint64_t state_[4];
};

inline uint32_t pack(uint32_t sign, int exponent, uint32_t fraction) {
  exponent = exponent < 0 ? 0 : exponent > 255 ? 255 : exponent;
  return (sign & SIGN) | static_cast<uint32_t>(exponent) << 23 | (fraction & FRACTION);
}

constexpr uint32_t SPECIALS[] = {0x00000000, 0x00000001, 0x00000002, 0x00400000, 0x007ffffe, 0x007fffff,
                                 0x00800000, 0x00800001, 0x00ffffff, 0x01000000, 0x01000001, 0x33000000,
                                 0x33800000, 0x33800001, 0x34000000, 0x3f7fffff, 0x3f800000, 0x3f800001,
                                 0x40000000, 0x4b7fffff, 0x4b800000, 0x7effffff, 0x7f000000, 0x7f7ffffe,
                                 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000, 0x7fffffff};

inline uint32_t special(Random& r) { return SPECIALS[r.below(sizeof SPECIALS / sizeof *SPECIALS)] | (r.bits() & SIGN); }

// A fraction of which only the first few bits, or the first few and the last, may be ones.
inline uint32_t few_bits(Random& r) { return (r.bits() & FRACTION << r.below(24) & FRACTION) | (r.one_in(4) ? 1 : 0); }

// One operand: any bits, specials, exponents close to each other, at the subnormal boundary, or close to overflow.
inline uint32_t operand(Random& r) {
  const uint32_t bits = r.bits();
  switch (r.below(8)) {
    case 0: return special(r);
    case 1: return pack(bits, r.between(112, 141), bits);
    case 2: return pack(bits, r.between(112, 141), few_bits(r));
    case 3: return pack(bits, r.between(0, 3), (bits & FRACTION) >> r.below(24));
    case 4: return pack(bits, r.between(244, 255), few_bits(r));
    default: return bits;
  }
}

// `bits` and its neighbours, up to n units in the last place away.
inline uint32_t near(Random& r, uint32_t bits, int n) { return bits + static_cast<uint32_t>(r.between(-n, n)); }

// A number `down` exponents below `a` whose lowest one is half of a's last place, so that their sum is a tie; one in
// eight lies a bit beside it. With down = 24 that one is the leading one.
inline uint32_t tie_with(Random& r, uint32_t a) {
  const int down = r.between(1, 24), exponent = static_cast<int>(a >> 23 & 255);
  const uint32_t half = 1u << (down - 1), fraction = (r.bits() & ~(2 * half - 1)) | half;
  return pack(r.bits(), exponent - down, fraction) + (r.one_in(8) ? 1 : 0);
}

// What the results were; a distribution that never meets a class shows it.
struct Classes {
  uint64_t zero = 0, subnormal = 0, normal = 0, infinite = 0, nan = 0;
  void count(uint32_t bits) {
    const uint32_t magnitude = bits & ~SIGN;
    ++(magnitude == 0          ? zero
       : magnitude <= FRACTION ? subnormal
       : magnitude < INFINITE  ? normal
       : magnitude == INFINITE ? infinite
                               : nan);
  }
};

// Counts, and the first differences in words.
class Report {
 public:
  bool check(uint32_t got, uint32_t expected) {
    ++results_;
    classes_.count(expected);
    wrong_ += got != expected;
    return got == expected || wrong_ > 5;
  }
  template <class... Args>
  void example(const char* format, Args... args) {
    char text[400];
    snprintf(text, sizeof text, format, args...);
    examples_.emplace_back();
    for (const char* c = text; *c; ++c) examples_.back().push_back(*c);
    examples_.back().push_back('\0');
  }
  uint64_t results() const { return results_; }
  int print() const {
    printf(
        "{\"results\": %llu, \"wrong\": %llu, \"classes\": {\"zero\": %llu, \"subnormal\": %llu, "
        "\"normal\": %llu, \"infinite\": %llu, \"nan\": %llu}, \"examples\": [",
        llu(results_), llu(wrong_), llu(classes_.zero), llu(classes_.subnormal), llu(classes_.normal),
        llu(classes_.infinite), llu(classes_.nan));
    for (size_t i = 0; i < examples_.size(); ++i) printf("%s\"%s\"", i ? ", " : "", examples_[i].data());
    printf("]}\n");
    return 0;
  }

 private:
  static unsigned long long llu(uint64_t n) { return static_cast<unsigned long long>(n); }
  uint64_t results_ = 0, wrong_ = 0;
  Classes classes_;
  std::vector<std::vector<char>> examples_;
};

inline uint64_t number(const char* text) { return strtoull(text, nullptr, 0); }

// A pipelined unit with one answer per cycle. `Bench` has Vector, draw, expected, describe; apply, which sees the
// vector of this cycle and the one AHEAD cycles later, and may stall the pipeline (false); and result.
template <class Bench, int LATENCY>
int drive(int argc, char** argv) {
  if (argc != 3) return 2;
  Random r(number(argv[1]));
  const int64_t count = static_cast<int64_t>(number(argv[2]));
  constexpr int64_t SLOTS = 64;
  static_assert(LATENCY + Bench::AHEAD < SLOTS, "the ring is too short");
  std::vector<typename Bench::Vector> ring(SLOTS, Bench::draw(r));
  Dut dut;
  Report report;
  dut.clk = 0;
  dut.eval();
  for (int64_t i = -Bench::AHEAD; i < count + LATENCY - 1;) {
    auto& ahead = ring[static_cast<size_t>((i + Bench::AHEAD) % SLOTS)];
    ahead = Bench::draw(r);
    const bool moves = Bench::apply(dut, r, ring[static_cast<size_t>((i + SLOTS) % SLOTS)], ahead);
    dut.clk = 1;
    dut.eval();
    dut.clk = 0;
    dut.eval();
    if (!moves) continue;
    const int64_t done = i - (LATENCY - 1);
    if (done >= 0) {
      const auto& v = ring[static_cast<size_t>(done % SLOTS)];
      const uint32_t expected = Bench::expected(v), got = Bench::result(dut);
      if (!report.check(got, expected)) Bench::describe(report, v, got, expected);
    }
    ++i;
  }
  return report.print();
}
