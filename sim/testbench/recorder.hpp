// SPDX-License-Identifier: Apache-2.0
// What a run was seen to do: a few sampled words wherever they changed, and counts of the CPU's ports in bins.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

class Recorder {
 public:
  static constexpr int kCounts = 4;  // granted and refused requests of the instruction port, then of the data port

  Recorder(const std::string& path, uint64_t most, int words)
      : values(words), most_(most), last_(words), counts_(kCounts * kBins) {
    if (path.empty()) return;
    file_ = std::fopen(path.c_str(), "wb");
    bins_path_ = path + ".bins";
  }
  ~Recorder() {
    if (file_) std::fclose(file_);
  }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  bool on() const { return file_; }

  // Of `values`, which are 0 afterwards; what comes after `most` changes is left out.
  void sample(uint64_t cycle) {
    if (!records_ || values != last_) {
      if (records_++ < most_) {
        const uint32_t at = uint32_t(cycle);
        std::fwrite(&at, sizeof at, 1, file_);
        std::fwrite(values.data(), sizeof(uint32_t), values.size(), file_);
      }
      last_ = values;
    }
    if (records_ <= most_) until_ = cycle + 1;
    for (uint32_t& value : values) value = 0;
  }

  void count(uint64_t cycle, const bool (&happened)[kCounts]) {
    while (cycle / bin_cycles_ >= kBins) merge();
    for (int i = 0; i < kCounts; ++i) counts_[cycle / bin_cycles_ * kCounts + i] += happened[i];
  }

  void report(FILE* result) {
    std::fclose(file_);
    file_ = nullptr;
    std::fprintf(result, "recorded_until %llu\nbin_cycles %llu\n", (unsigned long long)until_,
                 (unsigned long long)bin_cycles_);
    if (FILE* bins = std::fopen(bins_path_.c_str(), "wb")) {
      std::fwrite(counts_.data(), sizeof(uint32_t), counts_.size(), bins);
      std::fclose(bins);
    }
  }

  std::vector<uint32_t> values;

 private:
  static constexpr std::size_t kBins = 4096;

  void merge() {
    for (std::size_t bin = 0; bin < kBins; ++bin)
      for (int i = 0; i < kCounts; ++i) {
        const std::size_t from = 2 * bin * kCounts + i;
        counts_[bin * kCounts + i] = bin < kBins / 2 ? counts_[from] + counts_[from + kCounts] : 0;
      }
    bin_cycles_ *= 2;
  }

  const uint64_t most_;
  FILE* file_ = nullptr;
  std::string bins_path_;
  std::vector<uint32_t> last_, counts_;
  uint64_t records_ = 0, until_ = 0, bin_cycles_ = 1;
};
