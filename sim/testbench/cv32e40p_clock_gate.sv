// SPDX-License-Identifier: Apache-2.0
// Clock gate of the CPU's sleep unit: a transparent-low latch in front of an AND.
module cv32e40p_clock_gate (
    input  logic clk_i,
    input  logic en_i,
    input  logic scan_cg_en_i,
    output logic clk_o
);
  logic enabled;
  always_latch if (!clk_i) enabled = en_i | scan_cg_en_i;
  assign clk_o = clk_i & enabled;
endmodule
