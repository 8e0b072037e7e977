// SPDX-License-Identifier: Apache-2.0
// The accelerator with a memory behind its masters, in a simulator that knows X: registers and memories start unknown.
`timescale 1ns/1ps
module bench;
  parameter P = 1, WORDS = 1024, WRITES = 10, LIMIT = 20000, RESET = 1;
  reg clk = 0, rst_n, s_req, s_we;
  reg [3:0] s_be;
  reg [31:0] s_addr, s_wdata, random = 32'h2545F491;
  wire s_gnt, s_rvalid, irq, idle;
  wire [31:0] s_rdata;
  wire [P-1:0] m_req, m_we;
  wire [4*P-1:0] m_be;
  wire [32*P-1:0] m_addr, m_wdata;
  reg [P-1:0] may_grant = 0, m_rvalid = 0;
  reg [32*P-1:0] m_rdata;         // unknown while there is no answer
  wire [P-1:0] m_gnt = m_req & may_grant;
  reg [31:0] memory [0:WORDS-1];
  reg [63:0] writes [0:WRITES-1];
  integer cycle, unknown = 0, p, n;

  `DUT dut (.clk(clk), .rst_n(rst_n), .s_req(s_req), .s_we(s_we), .s_gnt(s_gnt), .s_rvalid(s_rvalid), .s_be(s_be),
            .s_addr(s_addr), .s_wdata(s_wdata), .s_rdata(s_rdata), .m_req(m_req), .m_we(m_we), .m_gnt(m_gnt),
            .m_rvalid(m_rvalid), .m_be(m_be), .m_addr(m_addr), .m_wdata(m_wdata), .m_rdata(m_rdata), .irq(irq),
            .idle(idle));

  task check(input known, input [8*8-1:0] name);
    if (known === 1'bx) begin
      unknown = unknown + 1;
      if (unknown < 20) $display("unknown %0s in cycle %0d", name, cycle);
    end
  endtask

  task step;                      // one cycle; outputs are looked at just before its edge
    begin
      #4;
      if (rst_n) begin
        check(^s_gnt, "s_gnt");
        check(^s_rvalid, "s_rvalid");
        check(^m_req, "m_req");
        check(irq, "irq");
        check(idle, "idle");
        if (s_rvalid === 1) check(^s_rdata, "s_rdata");
        for (p = 0; p < P; p = p + 1) if (m_req[p] === 1) begin
          check(^m_we[p], "m_we");
          check(^m_be[4*p +: 4], "m_be");
          check(^m_addr[32*p +: 32], "m_addr");
          if (m_we[p] === 1) check(^m_wdata[32*p +: 32], "m_wdata");
        end
      end
      #1 clk = 1;
      #5;
      cycle = cycle + 1;
    end
  endtask

  reg [P-1:0] req, we;            // as they were before the edge
  reg [32*P-1:0] addr, wdata;
  always @(posedge clk) begin
    req = m_gnt;
    we = m_we;
    addr = m_addr;
    wdata = m_wdata;
    random = {random[30:0], random[31] ^ random[21] ^ random[1] ^ random[0]};
    #2;
    m_rdata = {32*P{1'bx}};
    for (p = 0; p < P; p = p + 1) if (req[p] === 1) begin
      if (we[p]) memory[addr[32*p + 2 +: 30]] = wdata[32*p +: 32];
      m_rdata[32*p +: 32] = memory[addr[32*p + 2 +: 30]];
    end
    m_rvalid = req;
    may_grant = random;
    #1 clk = 0;
  end

  initial begin
    $readmemh("memory.hex", memory);
    $readmemh("writes.hex", writes);
    cycle = 0;
    #1;                           // always @* runs when something changes: a constant from the start is none
    {rst_n, s_req, s_we, s_be, s_addr, s_wdata} = {3'b001, 4'hF, 64'd0};
    if (!RESET) rst_n = 1;
    repeat (4) step;
    rst_n = 1;
    step;
    for (n = 0; n < WRITES; n = n + 1) begin
      s_req = 1;
      {s_addr, s_wdata} = writes[n];
      step;
    end
    s_req = 0;
    s_we = 0;
    while (irq !== 1 && cycle < LIMIT) step;
    s_req = 1;
    for (n = 0; n < 64; n = n + 1) begin  // every register is readable
      s_addr = 4 * n;
      step;
    end
    s_req = 0;
    step;
    $writememh("after.hex", memory);
    $display("end irq=%b cycles=%0d unknown=%0d", irq, cycle, unknown);
    $finish;
  end
endmodule
