// SPDX-License-Identifier: Apache-2.0
/* X-HEEP's start-up code includes this file: floating-point unit on, rounding to nearest even. */
#ifdef __riscv_flen
    li t0, 0x2000               /* mstatus.FS = initial */
    csrs mstatus, t0
    csrwi fcsr, 0
#endif
