// SPDX-License-Identifier: Apache-2.0
/* Addresses and register offsets of X-HEEP that the firmware and the virtual SoC rely on. */
#ifndef HEEPGEN_SOC_MAP_H
#define HEEPGEN_SOC_MAP_H

#define SOC_BOOT_ADDRESS 0x00000180

#define SOC_CTRL_BASE 0x20000000
#define SOC_CTRL_EXIT_VALID 0x00
#define SOC_CTRL_EXIT_VALUE 0x04
#define SOC_CTRL_SYSTEM_FREQUENCY_HZ 0x1c

/* Interrupt of a fast line n is bit 16 + n of mip and mie. Bit 15 of ENABLE resets to 0. */
#define SOC_FAST_INTR_BASE 0x20060000
#define SOC_FAST_INTR_PENDING 0x00
#define SOC_FAST_INTR_CLEAR 0x04
#define SOC_FAST_INTR_ENABLE 0x08

/* The accelerator is also the first external source of the PLIC, whose interrupt is bit 11 of mip and mie. */
#define SOC_PLIC_BASE 0x30000000
#define SOC_PLIC_PRIORITY 0x10
#define SOC_PLIC_ENABLE 0x200
#define SOC_PLIC_THRESHOLD 0x208
#define SOC_PLIC_CLAIM 0x20c
#define SOC_PLIC_SOURCE 51

#define SOC_UART_BASE 0x30080000
#define SOC_UART_CTRL 0x0c
#define SOC_UART_CTRL_TX 0x1
#define SOC_UART_STATUS 0x10
#define SOC_UART_STATUS_TXFULL 0x01
#define SOC_UART_STATUS_IDLE 0x3c /* TXEMPTY, TXIDLE, RXIDLE, RXEMPTY */
#define SOC_UART_WDATA 0x18

/* Only in the virtual SoC: its clock count, faults injected on the accelerator's master ports, an alarm and a reset. */
#define SOC_TESTBENCH_BASE 0x20f00000
#define SOC_TESTBENCH_CYCLES_LOW 0x00 /* reading it latches the high half */
#define SOC_TESTBENCH_CYCLES_HIGH 0x04
#define SOC_TESTBENCH_FAULT 0x08
#define SOC_TESTBENCH_FAULT_NEVER_GRANT 0x1
#define SOC_TESTBENCH_FAULT_NEVER_ANSWER 0x2
/* Ends the run so many cycles after it was written, unless it is written again; 0: never. */
#define SOC_TESTBENCH_ALARM 0x0c
/* So many cycles after it was written the accelerator is held in reset, and the CPU's timer interrupt is pending, until
   0 is written. What was under way on its ports is forgotten; the CPU reads 0 from it. */
#define SOC_TESTBENCH_RESET 0x10
#define SOC_TIMER_INTERRUPT 7

#endif
