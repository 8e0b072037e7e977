// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_ASSERT_HPP
#define HEEPSTOR_ASSERT_HPP

/* Debug checks: compiled in with -DENABLE_DEBUG_HEEPSTOR_ASSERTIONS=1; a failed one prints itself and ends. */
#if defined(ENABLE_DEBUG_HEEPSTOR_ASSERTIONS) && ENABLE_DEBUG_HEEPSTOR_ASSERTIONS
#include "soc.hpp"
#define HEEPSTOR_STRING_(x) #x
#define HEEPSTOR_STRING(x) HEEPSTOR_STRING_(x)
#define HEEPSTOR_ASSERT(condition)                                                                \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      soc_puts("assertion failed: " #condition ", " __FILE__ ":" HEEPSTOR_STRING(__LINE__) "\n"); \
      soc_exit(3);                                                                                \
    }                                                                                             \
  } while (0)
#else
#define HEEPSTOR_ASSERT(condition) \
  do {                             \
  } while (0)
#endif

#endif
