// SPDX-License-Identifier: Apache-2.0
// The four functions that compilers call on their own, so that no C library is needed.
#include <stddef.h>
#include <stdint.h>

// Without this the loops below would be compiled into calls to themselves.
#ifdef __clang__
#define HEEPGEN_LOOP
#else
#define HEEPGEN_LOOP __attribute__((optimize("no-tree-loop-distribute-patterns")))
#endif

namespace {

typedef uint32_t __attribute__((may_alias)) Word;

bool aligned(const void* a, const void* b) {
  return ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) & 3) == 0;
}

}  // namespace

extern "C" {

HEEPGEN_LOOP void* memcpy(void* __restrict target, const void* __restrict source, size_t bytes) {
  unsigned char* to = static_cast<unsigned char*>(target);
  const unsigned char* from = static_cast<const unsigned char*>(source);
  if (aligned(to, from)) {
    for (; bytes >= 16; bytes -= 16, to += 16, from += 16) {
      const Word* words = reinterpret_cast<const Word*>(from);
      const Word a = words[0], b = words[1], c = words[2], d = words[3];
      Word* out = reinterpret_cast<Word*>(to);
      out[0] = a, out[1] = b, out[2] = c, out[3] = d;
    }
  }
  for (; bytes; --bytes) *to++ = *from++;
  return target;
}

HEEPGEN_LOOP void* memmove(void* target, const void* source, size_t bytes) {
  unsigned char* to = static_cast<unsigned char*>(target);
  const unsigned char* from = static_cast<const unsigned char*>(source);
  if (reinterpret_cast<uintptr_t>(to) - reinterpret_cast<uintptr_t>(from) >= bytes)
    return memcpy(target, source, bytes);
  while (bytes--) to[bytes] = from[bytes];
  return target;
}

HEEPGEN_LOOP void* memset(void* target, int value, size_t bytes) {
  unsigned char* to = static_cast<unsigned char*>(target);
  const Word pattern = (value & 0xffu) * 0x01010101u;
  if (aligned(to, to)) {
    for (; bytes >= 16; bytes -= 16, to += 16) {
      Word* out = reinterpret_cast<Word*>(to);
      out[0] = out[1] = out[2] = out[3] = pattern;
    }
  }
  for (; bytes; --bytes) *to++ = static_cast<unsigned char>(value);
  return target;
}

HEEPGEN_LOOP int memcmp(const void* left, const void* right, size_t bytes) {
  const unsigned char* a = static_cast<const unsigned char*>(left);
  const unsigned char* b = static_cast<const unsigned char*>(right);
  for (; bytes; --bytes, ++a, ++b)
    if (*a != *b) return *a - *b;
  return 0;
}
}
