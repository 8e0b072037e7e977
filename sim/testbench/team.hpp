// SPDX-License-Identifier: Apache-2.0
// Two threads that share the jobs of every clock cycle. They meet twice per cycle, so they wait spinning.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

class Team {
 public:
  // `job(i)` does job i of 0 <= i < jobs; with one thread the caller does them all.
  Team(int threads, int jobs, std::function<void(int)> job) : jobs_(jobs), job_(std::move(job)), next_(jobs) {
    if (threads > 1 && jobs > 0) helper_ = std::thread([this] { help(); });
  }

  ~Team() {
    finish();
    stop_ = true;
    if (helper_.joinable()) helper_.join();
  }

  // Every job may run from now on.
  void start() {
    left_.store(jobs_, std::memory_order_relaxed);
    next_.store(0, std::memory_order_release);
  }

  // Does what nobody has begun, and waits for the rest.
  void finish() {
    while (take()) {
    }
    for (int spins = 0; left_.load(std::memory_order_acquire); ++spins) rest(spins);
  }

 private:
  bool take() {
    const int i = next_.fetch_add(1, std::memory_order_acq_rel);
    if (i >= jobs_) return false;
    job_(i);
    left_.fetch_sub(1, std::memory_order_release);
    return true;
  }

  void help() {
    for (int spins = 0; !stop_; ++spins) {
      if (next_.load(std::memory_order_acquire) < jobs_) {
        while (take()) {
        }
        spins = 0;
      }
      rest(spins);
    }
  }

  // Yields when the other thread seems to be waiting for a core.
  static void rest(int spins) {
    if (spins > 10'000) return std::this_thread::yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  const int jobs_;
  const std::function<void(int)> job_;
  alignas(64) std::atomic<int> next_;  // the next job nobody has taken
  alignas(64) std::atomic<int> left_{0};
  std::atomic<bool> stop_{false};
  std::thread helper_;
};
