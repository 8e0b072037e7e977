// SPDX-License-Identifier: Apache-2.0
// Bus of the accelerator's registers: N OBI masters share one OBI slave of WINDOW bytes at BASE.
//
// One transaction at a time, round robin. A request that the slave has not granted yet keeps its turn, so the
// slave's address phase is stable. Other addresses are answered here, so that no master ever hangs.
module heepstor_bus
  import heepstor_pkg::*;
#(
    parameter int unsigned N = 2,
    parameter logic [31:0] BASE = 32'hF000_0000,
    parameter logic [31:0] WINDOW = 32'h1000
) (
    input logic clk_i,
    input logic rst_ni,

    input  obi_req_t  [N-1:0] req_i,
    output obi_resp_t [N-1:0] resp_o,

    output obi_req_t  slave_req_o,
    input  obi_resp_t slave_resp_i
);

  localparam int unsigned IDX = N > 1 ? $clog2(N) : 1;
  localparam logic [31:0] UNMAPPED = 32'hBADA_CCE5;

  typedef enum logic [1:0] {
    FREE,     // no transaction outstanding
    SLAVE,    // the slave owes an answer
    NOWHERE   // an address outside the window is answered in this cycle
  } state_e;

  state_e state_q, state_d;
  logic [IDX-1:0] owner_q, owner_d;  // master of the outstanding transaction
  logic [N-1:0] served, behind_q;    // masters behind the one that was served last
  logic [N-1:0] requests;
  logic held_q, held_d;              // a request is presented to the slave, not granted yet
  logic [IDX-1:0] turn_q, turn;
  logic may_start, mapped, present, granted;

  for (genvar i = 0; i < N; i++) begin : gen_requests
    assign requests[i] = req_i[i].req;
  end

  function automatic logic [IDX-1:0] first(input logic [N-1:0] bits);
    first = '0;
    for (int i = N - 1; i >= 0; i--) if (bits[i]) first = IDX'(i);
  endfunction

  assign turn = held_q ? turn_q : first((requests & behind_q) != '0 ? requests & behind_q : requests);
  assign may_start = state_q != SLAVE || slave_resp_i.rvalid;
  assign mapped = req_i[turn].addr >= BASE && (req_i[turn].addr - BASE) < WINDOW;
  assign present = may_start && requests[turn];
  assign granted = present && (!mapped || slave_resp_i.gnt);
  assign held_d = present && !granted;
  assign served = N'(1) << turn;

  always_comb begin
    slave_req_o = req_i[turn];
    slave_req_o.req = present && mapped;

    state_d = state_q;
    owner_d = owner_q;
    if (may_start) state_d = FREE;
    if (granted) begin
      state_d = mapped ? SLAVE : NOWHERE;
      owner_d = turn;
    end
  end

  for (genvar i = 0; i < N; i++) begin : gen_answers
    always_comb begin
      resp_o[i].gnt = granted && turn == IDX'(i);
      resp_o[i].rvalid = owner_q == IDX'(i) && (state_q == NOWHERE || (state_q == SLAVE && slave_resp_i.rvalid));
      resp_o[i].rdata = state_q == NOWHERE ? UNMAPPED : slave_resp_i.rdata;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      state_q <= FREE;
      owner_q <= '0;
      behind_q <= '0;
      turn_q  <= '0;
      held_q  <= 1'b0;
    end else begin
      state_q <= state_d;
      owner_q <= owner_d;
      turn_q  <= turn;
      held_q  <= held_d;
      if (granted) behind_q <= ~(served | (served - N'(1)));
    end
  end

endmodule
