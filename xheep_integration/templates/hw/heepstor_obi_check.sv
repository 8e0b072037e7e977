// SPDX-License-Identifier: Apache-2.0
// Asserts OBI on one port: a request stays as it is until it is granted, every grant is answered exactly once,
// and not in its own cycle. Nothing remains of it in synthesis.
module heepstor_obi_check
  import heepstor_pkg::*;
#(
    parameter NAME = "port"
) (
    input logic clk_i,
    input logic rst_ni,
    input obi_req_t req_i,
    input obi_resp_t resp_i
);

`ifdef SYNTHESIS
  logic unused;
  assign unused = ^{clk_i, rst_ni, req_i, resp_i};
`else
  logic unused;
  assign unused = ^resp_i.rdata;

  logic waiting_q;
  obi_req_t req_q;
  logic [7:0] outstanding_q;
  logic granted;
  assign granted = req_i.req && resp_i.gnt;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      waiting_q     <= 1'b0;
      req_q         <= '0;
      outstanding_q <= '0;
    end else begin
      waiting_q     <= req_i.req && !resp_i.gnt;
      req_q         <= req_i;
      outstanding_q <= outstanding_q + 8'(granted) - 8'(resp_i.rvalid);
      stable : assert (!waiting_q || req_i == req_q)
      else $error("%s: an OBI request changed before it was granted", NAME);
      answered : assert (!resp_i.rvalid || outstanding_q != '0)
      else $error("%s: an OBI answer that nobody asked for", NAME);
    end
  end
`endif

endmodule
