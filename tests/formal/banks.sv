// SPDX-License-Identifier: Apache-2.0
// sequencer: groups of sums and the accumulator banks, whole or half, that they have until they are drained.
`default_nettype none
module check (
    input wire clk, rst, start, tile_ready, bank_free, bank_ready, job_diagonal, job_acc_init, job_halves,
    input wire [23:0] loaded, job_in_row, job_run, job_ky_step, job_kx_step, job_sx_words, job_sy_words, job_out_w,
    input wire [23:0] job_out_px, job_group_in_step, job_load_words,
    input wire [15:0] job_in_h, job_y0, job_kb, job_strip_px, job_cbg, job_groups, job_ncb, job_first_px,
    input wire [25:0] job_x0, job_row0, input wire [7:0] job_kh, job_kx, job_dil_y, job_stride_y,
    input wire [1:0] job_band, input wire [5:0] job_first_lane, job_last_lanes);
  wire busy, issue, acc_bank, acc_first, acc_last, store_stall;
  wire [3:0] acc_entry;
  `DUT dut (
      .clk(clk), .rst(rst), .start(start), .job_in_row(job_in_row), .job_in_h(job_in_h), .job_y0(job_y0),
      .job_x0(job_x0), .job_row0(job_row0), .job_kh(job_kh), .job_kx(job_kx), .job_kb(job_kb), .job_run(job_run),
      .job_dil_y(job_dil_y), .job_stride_y(job_stride_y), .job_ky_step(job_ky_step), .job_kx_step(job_kx_step),
      .job_sx_words(job_sx_words), .job_sy_words(job_sy_words), .job_out_w(job_out_w), .job_out_px(job_out_px),
      .job_strip_px(job_strip_px), .job_cbg(job_cbg), .job_groups(job_groups), .job_ncb(job_ncb),
      .job_first_px(job_first_px), .job_group_in_step(job_group_in_step), .job_load_words(job_load_words),
      .job_diagonal(job_diagonal), .job_acc_init(job_acc_init), .job_halves(job_halves), .job_band(job_band),
      .job_first_lane(job_first_lane), .job_last_lanes(job_last_lanes), .loaded(loaded), .tile_ready(tile_ready),
      .bank_free(bank_free), .bank_ready(bank_ready), .busy(busy), .issue(issue), .acc_entry(acc_entry),
      .acc_bank(acc_bank), .acc_first(acc_first), .acc_last(acc_last), .store_stall(store_stall));

  wire begins = issue && issuing_group_first;
  wire half = begins ? acc_entry[3] : newest[1];  // STRIP_PX and CBG keep a group in it

  // Groups that are begun and not drained, oldest first: {with HALVES, half, memory}
  reg [2:0] have, ready;         // have: their number; ready: banks that ACC_INIT has written and no group has yet
  reg open;                      // the last vector of the youngest has not been issued
  reg was_first, was_bank;       // of the last vector
  reg [2:0] g0, g1, g2, g3;
  reg [1:0] number;              // of groups begun
  reg fresh, started, started_now, halves_before, init_before;
  wire [2:0] mine = {job_halves, half, acc_bank};
  wire [2:0] newest = have == 1 ? g0 : have == 2 ? g1 : have == 3 ? g2 : g3;
  wire [2:0] at = have - bank_free;
  always @(posedge clk) begin
    halves_before <= job_halves;
    init_before <= job_acc_init;
    started_now <= start && !rst;
    fresh <= rst;
    if (rst) begin
      have <= 0; ready <= 0; open <= 0; number <= 0; started <= 0;
    end else begin
      if (start) started <= 1;
      if (issue) begin
        open <= !acc_last;
        was_first <= acc_first;
        was_bank <= acc_bank;
      end
      have <= at + begins;
      number <= start && job_acc_init ? 0 : number + begins;
      ready <= start ? 0 : ready + bank_ready - (begins && job_acc_init);
      if (bank_free) {g3, g2, g1, g0} <= {3'd0, g3, g2, g1};
      if (begins && at == 0) g0 <= mine;
      if (begins && at == 1) g1 <= mine;
      if (begins && at == 2) g2 <= mine;
      if (begins && at == 3) g3 <= mine;
    end
  end

  always @* begin
    assume (!start || !busy);
    assume (start || (job_halves == halves_before && job_acc_init == init_before));
    assume (!job_acc_init || !job_halves);
    assume (!start || have == 0 || !(job_acc_init || (started && init_before)));
    assume (!bank_free || have > open);                              // drained in order, when their sums are complete
    assume (!bank_ready || (started && !start && job_acc_init && have + ready < 2));
  end

  // Whether a group of before shares memory, or words, with the vector that is issued
  wire [2:0] older = have - (begins ? 3'd0 : 3'd1);
  wire [3:0] others = {older > 3, older > 2, older > 1, older > 0};
  wire [3:0] memory = {g3[0] == acc_bank, g2[0] == acc_bank, g1[0] == acc_bank, g0[0] == acc_bank};
  wire [3:0] apart = {4{job_halves}} & {g3[2] && g3[1] != half, g2[2] && g2[1] != half, g1[2] && g1[1] != half,
                                       g0[2] && g0[1] != half};

  // Vectors behind one another, from the last issued one to the next one: {in a group's first step, its memory, ends it}
  wire [2:0] v0 = {was_first, was_bank, !open};
  wire [2:0] v1 = issuing_valid ? {issuing_first, issuing_bank, issuing_group_last} : v0;
  wire [2:0] v2 = placed_valid ? {placed_first, placed_bank, placed_group_last} : v1;
  wire [2:0] v3 = marks_valid ? {marks_first, marks_bank, marks_group_last} : v2;
  wire loops_first = loops_k_first && !job_acc_init;
  wire follow1 = issuing_group_first ? v0[0] && issuing_step_first && !issuing_waits && issuing_first == !job_acc_init : !v0[0] && issuing_bank == v0[1]
                 && (issuing_step_first ? !issuing_first && issuing_waits : issuing_first == v0[2] && !issuing_waits);
  wire follow2 = placed_group_first ? v1[0] && placed_step_first && !placed_waits && placed_first == !job_acc_init : !v1[0] && placed_bank == v1[1]
                 && (placed_step_first ? !placed_first && placed_waits : placed_first == v1[2] && !placed_waits);
  wire follow3 = marks_group_first ? v2[0] && marks_step_first && !marks_waits && marks_first == !job_acc_init : !v2[0] && marks_bank == v2[1]
                 && (marks_step_first ? !marks_first && marks_waits : marks_first == v2[2] && !marks_waits);
  wire loops_begin = loops_step_first && loops_k_first;
  wire follow4 = loops_begin ? v3[0] : !v3[0] && loops_bank[0] == v3[1]
                 && (loops_step_first || loops_first == v3[2]);
  wire [1:0] n1 = number + (issuing_valid && issuing_group_first), n2 = n1 + (placed_valid && placed_group_first);
  wire [1:0] n3 = n2 + (marks_valid && marks_group_first);
  wire [1:0] oldest = number - have[1:0];
  wire [1:0] no1 = oldest + 2'd1, no2 = oldest + 2'd2, no3 = oldest + 2'd3;
  wire second = have == 2 ? g0[2] : have == 3 ? g1[2] : g2[2];
  wire [2:0] free = gate_initialised ? 3'd2 + ready : 3'd4 - have;

  always @* begin
    bounded: assert (have <= 4 && ready <= 2);
    written: assert (!issue || (others & memory & ~apart) == 0);
    read: assert (!issue || acc_first || begins || (others & memory) == 0);
    same_memory: assert (!issue || begins || acc_bank == newest[0]);
    initialised: assert (!begins || !job_acc_init || ready != 0);
    prompt: assert (!store_stall || job_acc_init || have >= 2);
    halves_prompt: assert (!store_stall || !issuing_group_first || !job_halves || !second || have == 4);
    idle: assert (busy || !open);
    lemma_vectors: assert ((!issuing_valid || follow1) && (!placed_valid || follow2) && (!marks_valid || follow3)
                           && (running ? follow4 : v3[0]) && (started || (!busy && have == 0)) && (!started_now || (running && !issuing_valid && !placed_valid && !marks_valid)));
    lemma_numbers: assert ((!issuing_valid || !issuing_group_first || (issuing_bank == number[0]
                            && issuing_entry[3] == (job_halves && number[1])))
                           && (!placed_valid || !placed_group_first || (placed_bank == n1[0]
                            && placed_entry[3] == (job_halves && n1[1])))
                           && (!marks_valid || !marks_group_first || (marks_bank == n2[0]
                            && marks_entry[3] == (job_halves && n2[1])))
                           && loops_bank == n3 - (running && !loops_begin)
                           && (!running || !loops_begin || loops_entry[3] == (job_halves && loops_bank[1])));
    lemma_groups: assert ((have < 1 || (g0[0] == oldest[0] && g0[1] == (g0[2] && oldest[1])))
                          && (have < 2 || (g1[0] == no1[0] && g1[1] == (g1[2] && no1[1])))
                          && (have < 3 || (g2[0] == no2[0] && g2[1] == (g2[2] && no2[1])))
                          && (have < 4 || (g3[0] == no3[0] && g3[1] == (g3[2] && no3[1]))));
    lemma_free: assert (gate_banks == (4'hF >> (3'd4 - free)) && free <= 4
                        && (!started || start || gate_initialised == job_acc_init)
                        && (started || !gate_initialised)
                        && (!gate_initialised || have + ready <= 2) && (!open || (have > 0 && was_bank == newest[0] && newest[2] == job_halves)));
    lemma_halves: assert ((have == 0 || gate_halved == newest[2]) && (have < 2 || gate_before == second)
                          && (fresh ? have == 0 && !started : gate_eased ? gate_before && (job_halves || start)
                              : !gate_before || !job_halves || start || started_now));
    lemma_room: assert ((have < 3 || (g0[2] && g2[2])) && (have < 4 || (g1[2] && g3[2])));
    lemma_read: assert (!open || was_first || have <= 2);
  end
  wire issuing_valid;         // probe: dut.issuing_valid
  wire issuing_first;         // probe: dut.issuing_first
  wire issuing_bank;          // probe: dut.issuing_bank
  wire issuing_step_first;    // probe: dut.issuing_step_first
  wire issuing_group_first;   // probe: dut.issuing_group_first
  wire issuing_group_last;    // probe: dut.issuing_group_last
  wire issuing_waits;         // probe: dut.issuing_waits
  wire [3:0] issuing_entry;   // probe: dut.issuing_entry
  wire placed_valid;          // probe: dut.placed_valid
  wire placed_first;          // probe: dut.placed_first
  wire placed_bank;           // probe: dut.placed_bank
  wire placed_step_first;     // probe: dut.placed_step_first
  wire placed_group_first;    // probe: dut.placed_group_first
  wire placed_group_last;     // probe: dut.placed_group_last
  wire placed_waits;          // probe: dut.placed_waits
  wire [3:0] placed_entry;    // probe: dut.placed_entry
  wire marks_valid;           // probe: dut.marks_valid
  wire marks_first;           // probe: dut.marks_first
  wire marks_bank;            // probe: dut.marks_bank
  wire marks_step_first;      // probe: dut.marks_step_first
  wire marks_group_first;     // probe: dut.marks_group_first
  wire marks_group_last;      // probe: dut.marks_group_last
  wire marks_waits;           // probe: dut.marks_waits
  wire [3:0] marks_entry;     // probe: dut.marks_entry
  wire running;               // probe: dut.running
  wire loops_step_first;      // probe: dut.loops_step_first
  wire loops_k_first;         // probe: dut.loops_k_first
  wire [1:0] loops_bank;      // probe: dut.loops_bank
  wire [3:0] loops_entry;     // probe: dut.loops_entry
  wire [3:0] gate_banks;      // probe: dut.gate_banks
  wire gate_halved;           // probe: dut.gate_halved
  wire gate_before;           // probe: dut.gate_before
  wire gate_eased;            // probe: dut.gate_eased
  wire gate_initialised;      // probe: dut.gate_initialised
endmodule
