// SPDX-License-Identifier: Apache-2.0
// Stand-ins for what every generation of X-HEEP has, with the ports that the integration connects.
/* verilator lint_off DECLFILENAME */
/* verilator lint_off UNUSEDPARAM */
/* verilator lint_off UNUSEDSIGNAL */
/* verilator lint_off UNDRIVEN */
package core_v_mini_mcu_pkg;
  localparam int unsigned DMA_NUM_MASTER_PORTS = 2;
  localparam int unsigned DMA_CH_NUM = 4;
  localparam int unsigned NEXT_INT = 13;
  localparam int unsigned EXTERNAL_DOMAINS = 1;
endpackage

interface if_xif;
  logic issue;
  modport cpu_compressed(input issue);
  modport cpu_issue(input issue);
  modport cpu_commit(input issue);
  modport cpu_mem(input issue);
  modport cpu_mem_result(input issue);
  modport cpu_result(input issue);
endinterface

module xilinx_clk_wizard_wrapper (
    input wire CLK_IN1_D_0_clk_n,
    input wire CLK_IN1_D_0_clk_p,
    output wire clk_out1_0
);
endmodule

module uartdpi #(
    parameter BAUD = 1,
    parameter FREQ = 1,
    parameter NAME = ""
) (
    input logic clk_i,
    input logic rst_ni,
    output logic tx_o,
    input logic rx_i
);
endmodule
