// SPDX-License-Identifier: Apache-2.0
// memory_ports, whatever the bus does: a request waits unchanged for its grant, answers due stay within a limit, and
// those that give_up leaves due are discarded before anything new is requested.
`default_nettype none
module check (
    input wire clk, rst, cancel, give_up, running, progress, cmd_valid, cmd_write, input wire [31:0] watchdog,
    input wire [2:0] cmd_count, cmd_tag, input wire [32*`PORTS-1:0] cmd_addr, cmd_wdata,
    input wire [`PORTS-1:0] m_gnt, m_rvalid, input wire [32*`PORTS-1:0] m_rdata);
  wire [`PORTS-1:0] m_req, m_we;
  wire [4*`PORTS-1:0] m_be;
  wire [32*`PORTS-1:0] m_addr, m_wdata;
  wire busy;
  `DUT dut (.clk(clk), .rst(rst), .cancel(cancel), .give_up(give_up), .running(running), .progress(progress),
            .watchdog(watchdog), .cmd_valid(cmd_valid), .cmd_write(cmd_write), .cmd_count(cmd_count), .cmd_tag(cmd_tag), .cmd_addr(cmd_addr),
            .cmd_wdata(cmd_wdata), .m_req(m_req), .m_we(m_we), .m_be(m_be), .m_addr(m_addr), .m_wdata(m_wdata),
            .m_gnt(m_gnt), .m_rvalid(m_rvalid), .m_rdata(m_rdata), .busy(busy));

  reg cancelling;
  always @(posedge clk) cancelling <= cancel && busy;
  always @* assume (cancel || !cancelling);  // kept until nothing is due

  wire [`PORTS-1:0] withdrawn, changed, partial, beyond, waiting, lates;
  wire [5*`PORTS-1:0] dues;
  genvar i;
  generate for (i = 0; i < `PORTS; i = i + 1) begin : port
    wire [64:0] payload = {m_we[i], m_addr[32*i +: 32], m_wdata[32*i +: 32]};
    reg waited;                   // for a grant, at the last edge
    reg [64:0] before;
    reg [4:0] due;                // granted and not answered
    reg late;                     // and so since a give_up
    wire answer = m_rvalid[i] && due != 0;
    always @(posedge clk) begin
      waited <= m_req[i] && !m_gnt[i] && !rst && !give_up;
      before <= payload;
      due <= rst || (give_up && late) ? 0 : due + (m_req[i] && m_gnt[i]) - answer;
      late <= !rst && (give_up ? !late : late && due != 0);
    end
    assign dues[5*i +: 5] = due;
    assign withdrawn[i] = waited && !m_req[i];
    assign changed[i] = waited && payload != before;
    assign partial[i] = m_req[i] && m_be[4*i +: 4] != 4'hF;
    assign beyond[i] = due > `OUTSTANDING;
    assign waiting[i] = m_req[i] || (due != 0 && !late);
    assign lates[i] = late;
  end endgenerate

`include "ports_state.svh"

  wire [`PORTS-1:0] crowded;
  generate for (i = 0; i < `PORTS; i = i + 1) begin : crowd
    assign crowded[i] = dues[5*i +: 5] + m_req[i] > `OUTSTANDING;
  end endgenerate

  always @* begin
    held: assert (withdrawn == 0);
    stable: assert (changed == 0);
    whole_words: assert (partial == 0);
    limit: assert (beyond == 0);
    idle: assert (busy || waiting == 0);
    silent: assert ((m_req & lates) == 0);
    discarded: assert ((kept & lates) == 0);
    lemma_fifos: assert (order_sound && &port_sound);
    lemma_balance: assert (cancelling || &port_balanced);
    lemma_due: assert (dues == outstandings && crowded == 0 && lates == late_ports);
  end
endmodule
