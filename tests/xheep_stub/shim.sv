// SPDX-License-Identifier: Apache-2.0
// The ports of the accelerator's root around wrapper and bus, so that the accelerator's own bench can run them.
// Two of the three masters of the bus ask for nothing.
module heepstor #(
    parameter int unsigned PORTS = 1
) (
    input logic clk,
    input logic rst_n,
    input logic s_req,
    input logic s_we,
    input logic [3:0] s_be,
    input logic [31:0] s_addr,
    input logic [31:0] s_wdata,
    output logic s_gnt,
    output logic s_rvalid,
    output logic [31:0] s_rdata,
    output logic [PORTS-1:0] m_req,
    output logic [PORTS-1:0] m_we,
    output logic [4*PORTS-1:0] m_be,
    output logic [32*PORTS-1:0] m_addr,
    output logic [32*PORTS-1:0] m_wdata,
    input logic [PORTS-1:0] m_gnt,
    input logic [PORTS-1:0] m_rvalid,
    input logic [32*PORTS-1:0] m_rdata,
    output logic irq,
    output logic idle
);
  import heepstor_pkg::*;

  obi_req_t [2:0] req;
  obi_resp_t [2:0] resp;
  obi_req_t slave_req;
  obi_resp_t slave_resp;
  obi_req_t [PORTS-1:0] master_req;
  obi_resp_t [PORTS-1:0] master_resp;

  assign req[0] = '0;
  assign req[1] = {s_req, s_we, s_be, 32'hF000_0000 | s_addr, s_wdata};
  assign req[2] = '0;
  assign {s_gnt, s_rvalid, s_rdata} = resp[1];

  for (genvar p = 0; p < PORTS; p++) begin : gen_port
    assign {m_req[p], m_we[p], m_be[4*p+:4], m_addr[32*p+:32], m_wdata[32*p+:32]} = master_req[p];
    assign master_resp[p] = {m_gnt[p], m_rvalid[p], m_rdata[32*p+:32]};
  end

  heepstor_bus #(.N(3)) bus_i (
      .clk_i(clk),
      .rst_ni(rst_n),
      .req_i(req),
      .resp_o(resp),
      .slave_req_o(slave_req),
      .slave_resp_i(slave_resp)
  );

  heepstor_obi obi_i (
      .clk_i(clk),
      .rst_ni(rst_n),
      .slave_req_i(slave_req),
      .slave_resp_o(slave_resp),
      .master_req_o(master_req),
      .master_resp_i(master_resp),
      .irq_o(irq),
      .idle_o(idle)
  );
endmodule
