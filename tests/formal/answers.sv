// SPDX-License-Identifier: Apache-2.0
// memory_ports: any one beat that is followed from its command on is requested as it is, and answered when all before
// it are, with the words that the memory gave for it.
`default_nettype none
module check (
    input wire clk, rst, cancel, give_up, running, progress, cmd_valid, cmd_write, input wire [31:0] watchdog,
    input wire [2:0] cmd_count, cmd_tag, input wire [32*`PORTS-1:0] cmd_addr, cmd_wdata,
    input wire [`PORTS-1:0] m_gnt, m_rvalid, input wire [32*`PORTS-1:0] m_rdata, input wire pick);
  wire [`PORTS-1:0] m_req, m_we;
  wire [32*`PORTS-1:0] m_addr, m_wdata, rsp_data;
  wire [7:0] rsp_valid;
  wire [2:0] rsp_count;
  wire busy, cmd_ready;
  `DUT dut (.clk(clk), .rst(rst), .cancel(cancel), .give_up(give_up), .running(running), .progress(progress),
            .watchdog(watchdog), .cmd_valid(cmd_valid), .cmd_ready(cmd_ready), .cmd_write(cmd_write),
            .cmd_count(cmd_count), .cmd_tag(cmd_tag), .cmd_addr(cmd_addr), .cmd_wdata(cmd_wdata),
            .rsp_valid(rsp_valid), .rsp_count(rsp_count), .rsp_data(rsp_data), .m_req(m_req), .m_we(m_we),
            .m_addr(m_addr), .m_wdata(m_wdata), .m_gnt(m_gnt), .m_rvalid(m_rvalid), .m_rdata(m_rdata), .busy(busy));

  reg cancelling;
  always @(posedge clk) cancelling <= cancel && busy;
  always @* assume (cancel || !cancelling);  // kept until nothing is due

`include "ports_state.svh"

  wire complete;                  // probe: dut.complete
  wire drop = rst || give_up || cancel;
  wire picked = pick && !tracking && cmd_valid && cmd_ready && !drop;
  wire [2:0] first_word = words >> 6 * head;

  reg tracking, answered;         // the beat is on its way; it was answered in the cycle before
  reg [3:0] ahead;                // beats before it
  reg [2:0] tag, count;
  reg write;
  always @(posedge clk) begin
    answered <= tracking && complete && ahead == 0;
    if (drop) tracking <= 0;
    else if (picked) tracking <= 1;
    else if (complete && ahead == 0) tracking <= 0;
    if (picked) {tag, count, write} <= {cmd_tag, cmd_count, cmd_write};
    ahead <= picked ? level - complete : ahead - complete;
  end

  wire [`PORTS-1:0] requested, returned, placed, carried, held, within;
  generate for (p = 0; p < `PORTS; p = p + 1) begin : word
    wire [2:0] q_level = levels[7*p+4 +: 3], a_head = heads[5*p +: 3];
    wire [1:0] q_head = heads[5*p+3 +: 2];
    wire [3:0] a_level = levels[7*p +: 4];
    wire [4:0] due = late_ports[p] ? 5'd0 : outstandings[5*p +: 5];
    wire [4:0] asked = a_level + due, queue = asked + m_req[p];
    wire pop = complete && first_word > p;
    reg [4:0] before;             // words before it on this port
    reg [31:0] addr, wdata, data;
    always @(posedge clk) begin
      if (picked) {addr, wdata} <= {cmd_addr[32*p +: 32], cmd_wdata[32*p +: 32]};
      before <= (picked ? queue + q_level : before) - pop;
      if (m_rvalid[p] && due != 0 && before == a_level) data <= m_rdata[32*p +: 32];
    end
    wire mine = tracking && count > p;
    wire [2:0] a_place = a_head + before;
    wire [1:0] q_place = q_head + (before - queue);
    wire [31:0] a_word = answers[256*p +: 256] >> 32 * a_place;
    wire [64:0] q_word = queued[260*p +: 260] >> 65 * q_place;
    wire [7:0] older;
    for (k = 0; k < 8; k = k + 1) begin : slot
      wire [2:0] age = k - head;
      assign older[k] = {1'b0, age} < ahead && words[6*k +: 3] > p;
    end
    assign requested[p] = !mine || !m_req[p] || before != asked
                          || {m_we[p], m_addr[32*p +: 32], m_wdata[32*p +: 32]} == {write, addr, wdata};
    assign returned[p] = !answered || count <= p || rsp_data[32*p +: 32] == data;
    assign placed[p] = !mine || (before < queue + q_level && before == older[0] + older[1] + older[2]
                       + older[3] + older[4] + older[5] + older[6] + older[7]);
    assign within[p] = outstandings[5*p +: 5] + m_req[p] <= `OUTSTANDING && (!late_ports[p] || (!m_req[p] && !kept[p]));
    assign carried[p] = !mine || before < queue || q_word == {write, wdata, addr};
    assign held[p] = !mine || before >= a_level || a_word == data;
  end endgenerate
  wire [2:0] place = head + ahead;
  wire [5:0] its_word = words >> 6 * place;

  always @* begin
    as_asked: assert (&requested);
    answer: assert (!answered || (rsp_valid == 8'd1 << tag && rsp_count == count && &returned));
    lemma_fifos: assert (order_sound && &port_sound && &within);
    lemma_balance: assert (cancelling || &port_balanced);
    lemma_beat: assert (!tracking || (!cancelling && ahead < level && its_word == {tag, count}));
    lemma_words: assert (&placed && &carried && &held);
  end
endmodule
