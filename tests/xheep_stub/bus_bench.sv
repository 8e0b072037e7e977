// SPDX-License-Identifier: Apache-2.0
// heepstor_bus with flat ports, for a C++ testbench.
module bus_bench #(
    parameter int unsigned N = 4
) (
    input logic clk,
    input logic rst_n,
    input logic [N-1:0] req,
    input logic [N-1:0] we,
    input logic [32*N-1:0] addr,
    output logic [N-1:0] gnt,
    output logic [N-1:0] rvalid,
    output logic [32*N-1:0] rdata,
    output logic s_req,
    output logic s_we,
    output logic [31:0] s_addr,
    input logic s_gnt,
    input logic s_rvalid,
    input logic [31:0] s_rdata
);
  import heepstor_pkg::*;

  obi_req_t [N-1:0] req_i;
  obi_resp_t [N-1:0] resp_o;
  obi_req_t slave_req;
  obi_resp_t slave_resp;

  for (genvar i = 0; i < N; i++) begin : gen_master
    assign req_i[i] = {req[i], we[i], 4'hf, addr[32*i+:32], 32'(i)};
    assign {gnt[i], rvalid[i], rdata[32*i+:32]} = resp_o[i];
  end
  assign {s_req, s_we, s_addr} = {slave_req.req, slave_req.we, slave_req.addr};
  assign slave_resp = {s_gnt, s_rvalid, s_rdata};

  heepstor_bus #(.N(N)) bus_i (
      .clk_i(clk),
      .rst_ni(rst_n),
      .req_i,
      .resp_o,
      .slave_req_o(slave_req),
      .slave_resp_i(slave_resp)
  );
endmodule
