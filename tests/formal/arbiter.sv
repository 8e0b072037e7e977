// SPDX-License-Identifier: Apache-2.0
// arbiter: one stream at a time, by priority; a beat becomes one command, in order, if all its words are inside.
`default_nettype none
`define P `PORTS
module check (
    input wire clk, rst, cmd_ready, pick, urgent, mark, input wire [6:0] valid, input wire [32*7-1:0] addr, stride,
    input wire [3*7-1:0] counts, input wire [2*7-1:0] region, input wire [32*`P-1:0] store_data, profile_data);
  (* anyconst *) reg [31:0] base0, base1, base2, base3, limit0, limit1, limit2, limit3;
  wire [6:0] ready;               // fetch, params, weights, aux, store, profile, load
  wire cmd_valid, cmd_write, store_issued, fault;
  wire [2:0] cmd_count, cmd_tag;
  wire [32*`P-1:0] cmd_addr, cmd_wdata;
  wire [31:0] fault_addr;
`define STREAM(name, n) .name``_valid(valid[n]), .name``_ready(ready[n]), .name``_addr(addr[32*n +: 32]), \
    .name``_stride(stride[32*n +: 32]), .name``_count(counts[3*n +: 3]), .name``_region(region[2*n +: 2])
  `DUT dut (.clk(clk), .rst(rst), .cmd_ready(cmd_ready), .weights_urgent(urgent), .store_mark(mark),
            .store_data(store_data), .profile_data(profile_data), .windows_base0(base0), .windows_base1(base1),
            .windows_base2(base2), .windows_base3(base3), .windows_limit0(limit0), .windows_limit1(limit1),
            .windows_limit2(limit2), .windows_limit3(limit3), `STREAM(fetch, 0), `STREAM(params, 1),
            `STREAM(weights, 2), `STREAM(aux, 3), `STREAM(store, 4), `STREAM(profile, 5), `STREAM(load, 6),
            .cmd_valid(cmd_valid), .cmd_write(cmd_write), .cmd_count(cmd_count), .cmd_tag(cmd_tag),
            .cmd_addr(cmd_addr), .cmd_wdata(cmd_wdata), .store_issued(store_issued), .fault(fault),
            .fault_addr(fault_addr));

  wire [6:0] taken = valid & ready;
  wire due = valid[2] && urgent;
  // Who must wait for whom: bit n is set when a stream of a higher priority than n asks.
  wire [6:0] beaten = {|valid[1:0] || due || |valid[5:3], |valid[1:0] || due || |valid[4:3],
                       |valid[1:0] || due || valid[3], |valid[1:0] || due,
                       |valid[1:0] || (!urgent && |valid[6:3]), valid[0], 1'b0};

  // The beat that is taken with `pick`, and what its command must be.
  reg [31:0] start, apart, its_start, its_apart;
  reg [2:0] words, tag, its_words, its_tag;
  reg [1:0] window, its_window;
  reg its_write;
  reg [32*`P-1:0] its_data;
  integer n;
  always @* begin
    start = 0;
    apart = 0;
    words = 0;
    tag = 0;
    window = 0;
    for (n = 0; n < 7; n = n + 1) if (taken[n]) begin
      start = addr[32*n +: 32];
      apart = stride[32*n +: 32];
      words = counts[3*n +: 3];
      window = region[2*n +: 2];
      tag = n == 4 && mark ? 7 : n;
    end
  end
  wire [31:0] low = its_window == 0 ? base0 : its_window == 1 ? base1 : its_window == 2 ? base2 : base3;
  wire [31:0] high = its_window == 0 ? limit0 : its_window == 1 ? limit1 : its_window == 2 ? limit2 : limit3;
  wire [`P-1:0] outside, wrong, differs;
  genvar i;
  generate for (i = 0; i < `P; i = i + 1) begin : word
    wire [31:0] at = its_start + i * {its_apart[29:0], 2'b00};
    assign outside[i] = i < its_words && (at < low || at[31:2] >= high[31:2]);
    assign differs[i] = cmd_addr[32*i +: 32] != at;
    assign wrong[i] = i < cmd_count && differs[i];
  end endgenerate

  wire leaves = cmd_valid && cmd_ready;
  reg [2:0] inside, before;
  reg watching, faulty;
  reg [2:0] slow;                 // cycles without a command of the beat that is next
  reg [1:0] ignored;              // cycles in which somebody asked and the bus was ready, in vain
  wire next = watching && before == 0, bad = outside != 0;
  always @(posedge clk)
    if (rst) begin
      inside <= 0;
      watching <= 0;
      faulty <= 0;
      slow <= 0;
      ignored <= 0;
    end else begin
      inside <= inside + |taken - leaves;
      faulty <= fault;
      slow <= next && !cmd_valid && !fault ? slow + (slow != 7) : 0;
      ignored <= |valid && taken == 0 && cmd_ready ? ignored + (ignored != 3) : 0;
      if (!watching && |taken && pick && !fault) begin
        watching <= 1;
        before <= inside - leaves;
        its_start <= start;
        its_apart <= apart;
        its_data <= taken[5] ? profile_data : store_data;
        its_words <= words;
        its_tag <= tag;
        its_window <= window;
        its_write <= taken[4] || taken[5];
      end else if (watching) begin
        if (leaves) before <= before - 1;
        if (leaves && before == 0 || fault) watching <= 0;
      end
    end

  // Inside: two stages, picked and held.
  wire picked;                    // probe: dut.picked_valid
  wire held;                      // probe: dut.held
  wire picked_write;              // probe: dut.picked_write
  wire [31:0] picked_addr;        // probe: dut.picked_addr
  wire [31:0] picked_stride;      // probe: dut.picked_stride
  wire [2:0] picked_count;        // probe: dut.picked_count
  wire [1:0] picked_region;       // probe: dut.picked_region
  wire [2:0] picked_tag;          // probe: dut.picked_tag
  wire [32*`P-1:0] picked_data;   // probe: dut.picked_data
  wire [31:0] base;               // probe: dut.base
  wire [31:0] limit;              // probe: dut.limit
  wire follows = watching && !fault, second = follows && held && before == 0;

  always @* begin
    exclusive: assert ((ready & (ready - 7'd1)) == 0);
    only_who_asks: assert ((ready & ~valid) == 0);
    priority_kept: assert ((taken & beaten) == 0);
    bounded_waiting: assert (ignored < 2);
    store_issued_exact: assert (store_issued == (taken[4] || taken[5]));
    no_command_invented: assert (!cmd_valid || inside != 0);
    no_command_lost: assert (!next || bad || slow < 3);
    commands_in_order: assert (!next || !cmd_valid
                               || {cmd_tag, cmd_count, cmd_write} == {its_tag, its_words, its_write});
    addresses: assert (!next || !cmd_valid || wrong == 0);
    data: assert (!next || !cmd_valid || !its_write || cmd_wdata == its_data);
    windows: assert (!next || !cmd_valid || !bad);
    fault_reported: assert (!next || !bad || slow < 3);
    fault_stays: assert (rst || !faulty || (fault && !cmd_valid));
    lemma_inside: assert (fault || inside == picked + held);
    lemma_place: assert (!follows || (before == 0 ? picked || held : before == 1 && picked && held));
    lemma_first: assert (!follows || second || (
        {picked_addr, picked_stride, picked_count, picked_region, picked_tag, picked_write}
        == {its_start, its_apart, its_words, its_window, its_tag, its_write}
        && (!its_write || picked_data == its_data)));
    lemma_second: assert (!second || (
        {base, limit, cmd_count, cmd_tag, cmd_write} == {low, high, its_words, its_tag, its_write}
        && differs == 0 && (!its_write || cmd_wdata == its_data)));
    lemma_slow: assert (slow < 3);
  end
endmodule
