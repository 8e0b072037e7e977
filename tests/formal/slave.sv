// SPDX-License-Identifier: Apache-2.0
// register_slave: one answer per request, in the next cycle; registers change by writes to them only, byte by byte.
`default_nettype none
module check (input wire clk, input wire rst, input wire req, input wire we, input wire [3:0] be,
              input wire [31:0] addr, input wire [31:0] wdata, input wire [31:0] cycle, input wire [31:0] cycle_high);
  wire gnt, rvalid, doorbell, soft_reset, force_reset;
  wire [31:0] rdata, watchdog, address;
  `DUT dut (.clk(clk), .rst(rst), .slave_req(req), .slave_we(we), .slave_gnt(gnt), .slave_rvalid(rvalid),
            .slave_be(be), .slave_addr(addr), .slave_wdata(wdata), .slave_rdata(rdata), .watchdog(watchdog),
            .readings_cycle(cycle), .readings_cycle_high(cycle_high), .commands_doorbell(doorbell),
            .commands_address(address), .commands_soft_reset(soft_reset), .commands_force(force_reset));

  wire [7:0] word = {addr[7:2], 2'b0};  // registers repeat in the window
  wire read = req && !we && !rst, write = req && we;
  wire [31:0] lanes = {{8{be[3]}}, {8{be[2]}}, {8{be[1]}}, {8{be[0]}}};
  reg due, read_watchdog, read_low, read_high, read_nothing;  // in the last cycle
  reg [31:0] stored, watchdog_before, low_before, high, high_before;
  always @(posedge clk) begin
    due <= req && gnt && !rst;
    read_watchdog <= read && word == `WATCHDOG;
    read_low <= read && word == `CYCLE_LO;
    read_high <= read && word == `CYCLE_HI;
    read_nothing <= read && word == `UNMAPPED;
    watchdog_before <= watchdog;
    low_before <= cycle;
    high_before <= high;
    if (rst) stored <= 0;
    else if (write && word == `WATCHDOG) stored <= (stored & ~lanes) | (wdata & lanes);
    if (rst) high <= 0;
    else if (read && word == `CYCLE_LO) high <= cycle_high;
  end

  always @* begin
    granted: assert (!req || gnt);
    one_answer: assert (rvalid == due);
    stored_bytes: assert (watchdog == stored);
    value: assert (!read_watchdog || rdata == watchdog_before);
    unmapped: assert (!read_nothing || rdata == 0);
    counter: assert ((!read_low || rdata == low_before) && (!read_high || rdata == high_before));
    doorbell_rings: assert (doorbell == (write && word == `DOORBELL) && (!doorbell || address == wdata));
    reset_asked: assert (soft_reset == (write && word == `CTRL && be[0] && wdata[`SOFT_RESET]));
    force_needs_reset: assert (!force_reset || soft_reset);
    lemma_latched: assert (dut_latched == high);
  end
  wire [31:0] dut_latched;  // probe: dut.latched
endmodule
