// SPDX-License-Identifier: Apache-2.0
// register_head: between a master and an architecture's own slave, whenever that grants and answers.
`default_nettype none
module check (input wire clk, input wire rst, input wire req, input wire we, input wire [3:0] be,
              input wire [31:0] addr, input wire [31:0] wdata, input wire own_gnt, input wire own_rvalid,
              input wire [31:0] own_rdata);
  wire gnt, rvalid, own_req, own_we;
  wire [3:0] own_be;
  wire [31:0] rdata, own_addr, own_wdata;
  `DUT dut (.clk(clk), .rst_n(!rst), .s_req(req), .s_we(we), .s_be(be), .s_addr(addr), .s_wdata(wdata), .s_gnt(gnt),
            .s_rvalid(rvalid), .s_rdata(rdata), .own_req(own_req), .own_we(own_we), .own_be(own_be),
            .own_addr(own_addr), .own_wdata(own_wdata), .own_gnt(own_gnt), .own_rvalid(own_rvalid),
            .own_rdata(own_rdata));

  wire [68:0] asked = {we, be, addr, wdata};
  wire mine = addr[11:8] == 0;
  reg due, own_due;         // granted in an earlier cycle and not answered
  reg waited, own_waited;   // for a grant, at the last edge
  reg head_asked, magic_asked, hash_asked, low_asked, high_asked, low_waits;
  reg [68:0] asked_before;
  reg [63:0] cycles, cycles_before;
  reg [31:0] high, high_before;
  always @(posedge clk) begin
    due <= !rst && (due ? !rvalid || (req && gnt) : req && gnt);
    own_due <= !rst && (own_due ? !own_rvalid || (own_req && own_gnt) : own_req && own_gnt);
    waited <= !rst && req && !gnt;
    own_waited <= !rst && own_req && !own_gnt;
    asked_before <= asked;
    head_asked <= !rst && req && gnt && mine;
    magic_asked <= !rst && req && gnt && !we && addr[11:2] == `MAGIC_OFFSET >> 2;
    hash_asked <= !rst && req && gnt && !we && addr[11:2] == `HASH_OFFSET >> 2;
    low_asked <= !rst && req && gnt && !we && addr[11:2] == `LOW_OFFSET >> 2;
    high_asked <= !rst && req && gnt && !we && addr[11:2] == `HIGH_OFFSET >> 2;
    cycles <= rst ? 0 : cycles + 1;
    cycles_before <= cycles;
    high_before <= high;
    if (rst) high <= 0;
    else if (req && gnt && !we && addr[11:2] == `LOW_OFFSET >> 2) high <= cycles[63:32];
    low_waits <= !rst && req && !gnt && !we && addr[11:2] == `LOW_OFFSET >> 2;
  end
  always @* begin
    assume (!waited || (req && asked == asked_before));  // the master keeps its request
    assume (!own_rvalid || own_due);                     // the own slave answers what it was asked
  end

  always @* begin
    one_answer: assert (!rvalid || due);
    one_at_a_time: assert (!(req && gnt) || !due || rvalid);
    prompt: assert (!head_asked || rvalid);
    passed_on: assert (!own_rvalid || (rvalid && rdata == own_rdata));
    forwarded: assert (!own_req || (req && !mine && {own_we, own_be, own_addr, own_wdata} == asked));
    granted_by_owner: assert (!(req && gnt) || mine || (own_req && own_gnt));
    kept: assert (!own_waited || own_req);
    identity: assert ((!magic_asked || rdata == `MAGIC) && (!hash_asked || rdata == `HASH));
    counter: assert ((!low_asked || rdata == cycles_before[31:0]) && (!high_asked || rdata == high_before));
    lemma_due: assert (!own_due || due);
    lemma_waiting: assert (dut_waiting == own_due);
    lemma_cycles: assert (dut_cycles == cycles && (low_waits || dut_high == high));
    lemma_answers: assert (dut_answers == head_asked && due == (own_due || head_asked));
  end
  wire dut_waiting;         // probe: dut.waiting
  wire dut_answers;         // probe: dut.answers
  wire [63:0] dut_cycles;   // probe: dut.cycles
  wire [31:0] dut_high;     // probe: dut.high
endmodule
