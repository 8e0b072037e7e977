// SPDX-License-Identifier: Apache-2.0
#include "soc_map.h"

/* mtvec of CV32E40P is 256-byte aligned and resets to 0, vectored: interrupt n enters at 4 n. */
    .section .vectors, "ax"
    .option push
    .option norvc
    .globl _vectors
_vectors:
    j trap_entry
    .rept 31
    j heepgen_interrupt
    .endr
    .option pop

    .section .init, "ax"
    .globl _start
_start:
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, _stack_end

    la t0, _vectors
    ori t0, t0, 1
    csrw mtvec, t0
    csrw mie, zero
    li t0, 0x2000           /* mstatus.FS = initial */
    csrs mstatus, t0
    csrwi fcsr, 0
    csrwi 0x320, 0          /* mcountinhibit: let mcycle count */

    la t0, _bss_start
    la t1, _bss_end
    j 2f
1:  sw zero, 0(t0)
    addi t0, t0, 4
2:  bltu t0, t1, 1b

    call soc_init

    la s0, _init_array_start
    la s1, _init_array_end
    j 4f
3:  lw t0, 0(s0)
    addi s0, s0, 4
    jalr t0
4:  bltu s0, s1, 3b

    call main
    call soc_exit

/* An application may define its own handler; without one an interrupt is as fatal as an exception. */
    .text
    .weak heepgen_interrupt
heepgen_interrupt:
trap_entry:
    la sp, _stack_end
    csrr a0, mcause
    csrr a1, mepc
    csrr a2, mtval
    call soc_trap
