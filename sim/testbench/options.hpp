// SPDX-License-Identifier: Apache-2.0
// What a run of the virtual X-HEEP is told, and how it ends.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

struct Window {  // cycles first <= c < last
  uint64_t first = UINT64_MAX, last = 0;
  bool contains(uint64_t cycle) const { return cycle >= first && cycle < last; }
};

struct Dump {
  uint32_t address, bytes;
  std::string file;
};

struct Options {
  std::string image, result, vcd, recording;
  std::vector<Window> vcd_windows;
  Window never_grant, never_answer;
  uint32_t fault_ports = ~0u;
  uint32_t banks = 0, bank_bytes = 0, slave_base = 0, irq_line = 0;
  std::vector<uint32_t> interleaved;
  uint32_t wait_states = 0;
  int threads = 1;
  double stall_probability = 0, answer_stall_probability = -1;  // the latter: as the former unless given
  uint64_t seed = 0, max_cycles = UINT64_MAX, most_recorded = UINT64_MAX;
  std::vector<Dump> dumps;
};

inline Window parse_window(const char* text) {
  Window window;
  char* rest;
  window.first = std::strtoull(text, &rest, 0);
  window.last = std::strtoull(rest + 1, nullptr, 0);
  return window;
}

inline Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    const char* value = argv[i + 1];
    const auto number = [&] { return std::strtoull(value, nullptr, 0); };
    if (option == "--image") o.image = value;
    else if (option == "--result") o.result = value;
    else if (option == "--vcd") o.vcd = value;
    else if (option == "--record") o.recording = value;
    else if (option == "--most-recorded") o.most_recorded = number();
    else if (option == "--vcd-window") o.vcd_windows.push_back(parse_window(value));
    else if (option == "--never-grant") o.never_grant = parse_window(value);
    else if (option == "--never-answer") o.never_answer = parse_window(value);
    else if (option == "--fault-ports") o.fault_ports = uint32_t(number());
    else if (option == "--banks") o.banks = uint32_t(number());
    else if (option == "--bank-bytes") o.bank_bytes = uint32_t(number());
    else if (option == "--interleaved") o.interleaved.push_back(uint32_t(number()));
    else if (option == "--slave-base") o.slave_base = uint32_t(number());
    else if (option == "--irq-line") o.irq_line = uint32_t(number());
    else if (option == "--wait-states") o.wait_states = uint32_t(number());
    else if (option == "--stall-probability") o.stall_probability = std::atof(value);
    else if (option == "--answer-stall-probability") o.answer_stall_probability = std::atof(value);
    else if (option == "--seed") o.seed = number();
    else if (option == "--threads") o.threads = int(number());
    else if (option == "--max-cycles") o.max_cycles = number();
    else if (option == "--dump") {
      char* rest;
      Dump dump;
      dump.address = uint32_t(std::strtoul(value, &rest, 0));
      dump.bytes = uint32_t(std::strtoul(rest + 1, &rest, 0));
      dump.file = rest + 1;
      o.dumps.push_back(dump);
    } else {
      std::fprintf(stderr, "unknown option %s\n", option.c_str());
      std::exit(2);
    }
  }
  return o;
}

// The run is over; `reason` and `message` go to the result file.
struct End {
  const char* reason;
  std::string message;
};

[[noreturn, gnu::format(printf, 2, 3)]] inline void end(const char* reason, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw End{reason, text};
}
