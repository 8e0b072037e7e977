// SPDX-License-Identifier: Apache-2.0
// systolic_array, ALIGNED or fma, ROWS x COLS: tiles of weights, dense and diagonal, each loaded while the one before
// it computes. Columns are compared with exact integers (aligned) or with chains of fmaf.
constexpr int DIAGONAL = ROWS < COLS ? ROWS : COLS, BEATS = (ROWS + LOAD_ROWS - 1) / LOAD_ROWS;

struct Tile {
  int8_t weight[ROWS][COLS];
  bool diagonal, maximum;
  int beats, vectors;
};

// Any weights (kind 2 and 3), those at the edges, or signs.
int8_t draw_weight(Random& r, int kind) {
  static constexpr int8_t WEIGHTS[] = {0, 1, -1, 64, 127, -127, -128};
  if (kind == 0) return WEIGHTS[r.below(sizeof WEIGHTS)];
  return static_cast<int8_t>(kind == 1 ? r.between(-1, 1) : static_cast<int8_t>(r.bits()));
}

Tile draw_tile(Random& r) {
  Tile t;
  const int kind = r.below(4);
  t.diagonal = r.one_in(4);
  t.maximum = t.diagonal && r.one_in(2);
  for (auto& row : t.weight)
    for (auto& w : row) w = t.maximum ? 1 : draw_weight(r, kind);
  t.beats = t.diagonal ? 1 : BEATS;
  t.vectors = r.between(1, 48);
  return t;
}

// Most lanes of a vector have exponents within a window below a common one, some cancel, some are of any kind.
void draw_vector(Random& r, uint32_t* x) {
  const int kind = r.below(8);
  const int top = !r.one_in(4) ? r.between(1, 254) : r.one_in(2) ? r.between(1, 30) : r.between(240, 254);
  static constexpr int WINDOWS[] = {0, 2, 8, 24, 30, 30, 60, 255};
  for (int i = 0; i < ROWS; ++i) {
    const uint32_t bits = r.bits();
    const uint32_t fraction = kind < 2 ? few_bits(r) : kind == 2 ? 0 : bits;
    x[i] = pack(bits, top - r.below(WINDOWS[kind] + 1), fraction);
    if (i && r.one_in(6)) x[i] = near(r, x[r.below(i)] ^ SIGN, 1);
    if (r.one_in(64)) x[i] = operand(r);
    if (r.one_in(16)) x[i] &= SIGN;
  }
  if (r.one_in(16)) x[r.below(ROWS)] = operand(r);
  if (r.one_in(32))
    for (int i = 0; i < ROWS; ++i) x[i] = r.bits();
  for (int i = 0; i < ROWS; ++i)  // else half of the vectors would hold one
    if ((x[i] & INFINITE) == INFINITE && !r.one_in(16)) x[i] &= ~(1u << 23);
}

int field(uint32_t x) {
  const int e = static_cast<int>(x >> 23 & 255);
  return e ? e : 1;
}

// The definition in hls.arithmetic.aligned, by integers.
int64_t aligned_lane(uint32_t x, int largest) {
  const int64_t m = static_cast<int64_t>((x & FRACTION) | (x & INFINITE ? 1u << 23 : 0)) * 4;
  const int places = largest - field(x);
  const int64_t rounded = places == 0 ? m : places > 40 ? 0 : (m + (int64_t{1} << (places - 1))) >> places;
  return x & SIGN ? -rounded : rounded;
}

uint32_t dense(const uint32_t* x, const Tile& t, int c) {
  if (!ALIGNED) {
    float sum = 0;
    for (int i = 0; i < ROWS; ++i) sum = std::fmaf(as_float(x[i]), static_cast<float>(t.weight[i][c]), sum);
    return as_bits(sum);
  }
  int largest = 0;
  for (int i = 0; i < ROWS; ++i) largest = field(x[i]) > largest ? field(x[i]) : largest;
  if (largest == 255) return NAN_BITS;
  __int128 sum = 0;
  for (int i = 0; i < ROWS; ++i) sum += static_cast<__int128>(aligned_lane(x[i], largest)) * t.weight[i][c];
  if (sum == 0) return 0;
  return round_exact(sum < 0, static_cast<unsigned __int128>(sum < 0 ? -sum : sum), largest - 152);
}

uint32_t expected(const uint32_t* x, const Tile& t, int c) {
  if (!t.diagonal) return dense(x, t, c);
  if (c >= DIAGONAL) return 0;
  const float w = static_cast<float>(t.weight[c][c]);
  const bool keeps = t.maximum && x[c] == SIGN;
  if (keeps) return SIGN;
  return as_bits(as_float(x[c]) * w + 0.0f);  // a sum with +0: no zero stays negative
}

template <class Port>
void set(Port& port, const void* bytes, size_t size) {
  memcpy(&port, bytes, size < sizeof(Port) ? size : sizeof(Port));
}

template <class Port>
uint32_t word(const Port& port, int i) {
  uint32_t w;
  memcpy(&w, reinterpret_cast<const char*>(&port) + 4 * i, 4);
  return w;
}

template <class Port>
bool bit(const Port& port, int i) {
  return reinterpret_cast<const uint8_t*>(&port)[i / 8] >> i % 8 & 1;
}

class Bench {
 public:
  explicit Bench(uint64_t seed) : r_(seed), answers_(SLOTS * COLS), valid_(SLOTS * COLS, 0) {
    dut_.rst = 0;
    dut_.clk = 0;
    dut_.eval();
    next_ = draw_tile(r_);
  }

  int run(uint64_t columns) {
    load_rest();
    while (report_.results() < columns) {
      const Tile now = next_;
      next_ = draw_tile(r_);
      loaded_ = next_.beats;  // until the first vector has taken its tile
      for (int v = 0; v < now.vectors; ++v) {
        while (r_.one_in(16)) cycle(nullptr, now, false);
        uint32_t x[ROWS];
        draw_vector(r_, x);
        if (v == 0) loaded_ = 0;
        cycle(x, now, v == 0);
      }
      load_rest();
    }
    for (int i = 0; i < ARRAY_LATENCY + COLS; ++i) cycle(nullptr, next_, false);
    return report_.print();
  }

 private:
  static constexpr int SLOTS = 1024;
  static_assert(ARRAY_LATENCY + COLS < SLOTS, "the ring is too short");

  // What has not gone in beside vectors.
  void load_rest() {
    while (loaded_ < next_.beats) cycle(nullptr, next_, false);
  }

  // A beat of the next tile, from the cycle of the first vector on.
  void put_weights() {
    uint8_t bytes[LOAD_ROWS * COLS];
    for (auto& b : bytes) b = static_cast<uint8_t>(r_.bits());
    const bool takes = loaded_ < next_.beats && !r_.one_in(8);
    if (takes && next_.diagonal) {
      for (int c = 0; c < DIAGONAL; ++c) bytes[c] = static_cast<uint8_t>(next_.weight[c][c]);
    } else if (takes) {
      for (int j = 0; j < LOAD_ROWS && loaded_ * LOAD_ROWS + j < ROWS; ++j)
        for (int c = 0; c < COLS; ++c)
          bytes[j * COLS + c] = static_cast<uint8_t>(next_.weight[loaded_ * LOAD_ROWS + j][c]);
    }
    dut_.load_valid = takes;
    dut_.load_diag = takes ? next_.diagonal : r_.one_in(2);
    dut_.load_beat = takes ? loaded_ : 0;
    set(dut_.load_data, bytes, sizeof bytes);
    loaded_ += takes;
  }

  void cycle(const uint32_t* x, const Tile& tile, bool first) {
    uint32_t garbage[ROWS];
    for (auto& g : garbage) g = r_.bits();
    put_weights();
    dut_.vec_valid = x != nullptr;
    dut_.vec_swap = x ? first : r_.one_in(2);
    dut_.vec_diag = tile.diagonal;
    dut_.vec_max = tile.maximum;
    set(dut_.vec, x ? x : garbage, sizeof garbage);
    for (int c = 0; c < COLS; ++c) {
      const size_t place = slot(now_ + ARRAY_LATENCY - 1 + c, c);
      valid_[place] = x != nullptr;
      if (x) answers_[place] = expected(x, tile, c);
    }
    dut_.clk = 1;
    dut_.eval();
    dut_.clk = 0;
    dut_.eval();
    for (int c = 0; c < COLS; ++c) compare(c);
    ++now_;
  }

  void compare(int c) {
    const size_t place = slot(now_, c);
    if (bit(dut_.col_valid, c) != (valid_[place] != 0)) {
      if (!report_.check(1, 0))
        report_.example("column %d: valid is wrong in cycle %lld", c, static_cast<long long>(now_));
    } else if (valid_[place]) {
      const uint32_t got = word(dut_.col_data, c);
      if (!report_.check(got, answers_[place]))
        report_.example("column %d in cycle %lld: %08x instead of %08x", c, static_cast<long long>(now_), got,
                        answers_[place]);
    }
    valid_[place] = 0;
  }

  static size_t slot(int64_t cycle, int c) { return static_cast<size_t>(cycle % SLOTS * COLS + c); }

  Random r_;
  Dut dut_;
  Report report_;
  Tile next_;
  int loaded_ = 0;
  int64_t now_ = 0;
  std::vector<uint32_t> answers_;
  std::vector<uint8_t> valid_;
};

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  return Bench(number(argv[1])).run(number(argv[2]));
}
