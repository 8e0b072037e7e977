// SPDX-License-Identifier: Apache-2.0
// A tiny accelerator with the ports of the real one, for testing the virtual SoC.
//
// Port p handles its own part of the words at SRC: words [p COUNT, (p+1) COUNT).
// COPY copies them to DST, one read and one write at a time; SCAN adds them up, one read per cycle.
// DELAY cycles after all ports are done, irq rises and stays until IRQ_CLEAR is written.
module heepstor #(
    parameter PORTS = 1,
    parameter BROKEN = 0
) (
    input wire clk,
    input wire rst_n,
    input wire s_req,
    input wire s_we,
    input wire [3:0] s_be,
    input wire [31:0] s_addr,
    input wire [31:0] s_wdata,
    output wire s_gnt,
    output reg s_rvalid,
    output reg [31:0] s_rdata,
    output wire [PORTS-1:0] m_req,
    output wire [PORTS-1:0] m_we,
    output wire [4*PORTS-1:0] m_be,
    output wire [32*PORTS-1:0] m_addr,
    output wire [32*PORTS-1:0] m_wdata,
    input wire [PORTS-1:0] m_gnt,
    input wire [PORTS-1:0] m_rvalid,
    input wire [32*PORTS-1:0] m_rdata,
    output reg irq,
    output wire idle
);
  localparam SRC = 0, DST = 1, COUNT = 2, START = 3, IRQ_CLEAR = 4, DELAY = 5, CYCLES = 6, SUM = 8;

  reg [31:0] src, dst, count, delay, cycles;
  reg scan, running;
  wire start = s_req && s_gnt && s_we && s_addr[5:2] == START;
  wire [PORTS-1:0] done;
  wire [31:0] sum[0:PORTS-1];
  assign idle = !running;
  assign s_gnt = s_req;

  reg answer_again;
  always @(posedge clk) begin
    s_rvalid <= (s_req && s_gnt) || (BROKEN == 4 && answer_again);
    answer_again <= s_req && s_gnt;
    if (s_req && s_gnt) begin
      case (s_addr[5:2])
        START: s_rdata <= {30'b0, irq, running};
        CYCLES: s_rdata <= cycles;
        default: s_rdata <= s_addr[5] ? sum[s_addr[3:2] % PORTS] : src;
      endcase
      if (s_we) begin
        case (s_addr[5:2])
          SRC: src <= s_wdata;
          DST: dst <= s_wdata;
          COUNT: count <= s_wdata;
          DELAY: delay <= s_wdata;
          START: scan <= s_wdata[1];
          IRQ_CLEAR: irq <= 0;
          default: ;
        endcase
      end
    end
    cycles <= cycles + 1;
    if (start) running <= 1;
    if (running && !start && &done) begin
      delay <= delay - 1;
      if (delay == 0) begin
        running <= 0;
        irq <= 1;
      end
    end
    if (!rst_n) begin
      s_rvalid <= 0;
      answer_again <= 0;
      irq <= 0;
      running <= 0;
      cycles <= 0;
    end
  end

  genvar p;
  generate
    for (p = 0; p < PORTS; p = p + 1) begin : port
      mover #(.BROKEN(BROKEN)) mover_i (
          .clk(clk),
          .rst_n(rst_n),
          .start(start),
          .scan(scan),
          .src(src + 4 * p * count),
          .dst(dst + 4 * p * count),
          .count(count),
          .req(m_req[p]),
          .we(m_we[p]),
          .be(m_be[4*p+:4]),
          .addr(m_addr[32*p+:32]),
          .wdata(m_wdata[32*p+:32]),
          .gnt(m_gnt[p]),
          .rvalid(m_rvalid[p]),
          .rdata(m_rdata[32*p+:32]),
          .done(done[p]),
          .sum(sum[p])
      );
    end
  endgenerate
endmodule

module mover #(
    parameter BROKEN = 0
) (
    input wire clk,
    input wire rst_n,
    input wire start,
    input wire scan,
    input wire [31:0] src,
    input wire [31:0] dst,
    input wire [31:0] count,
    output wire req,
    output wire we,
    output wire [3:0] be,
    output wire [31:0] addr,
    output wire [31:0] wdata,
    input wire gnt,
    input wire rvalid,
    input wire [31:0] rdata,
    output wire done,
    output reg [31:0] sum
);
  reg asking, writing;
  reg [31:0] asked, answered, data, tick;
  wire hidden = BROKEN == 1 && tick[1];
  assign req = BROKEN == 3 ? asking && !gnt : asking && !hidden;
  assign we = writing;
  assign be = BROKEN == 6 ? 4'h0 : 4'hf;
  assign addr = (writing ? dst : src) + 4 * asked + (BROKEN == 2 ? 4 * tick[1] : BROKEN == 5 ? 2 : 0);
  assign wdata = data;
  assign done = answered == count;

  always @(posedge clk) begin
    tick <= tick + 1;
    if (start) begin
      asking <= count != 0;
      writing <= 0;
      asked <= 0;
      answered <= 0;
      sum <= 0;
    end else if (scan) begin
      if (req && gnt) begin
        asked <= asked + 1;
        asking <= asked + 1 != count;
      end
      if (rvalid) begin
        answered <= answered + 1;
        sum <= sum + rdata;
      end
    end else begin
      if (req && gnt) asking <= 0;
      if (rvalid) begin
        data <= rdata;
        writing <= !writing;
        if (writing) begin
          asked <= asked + 1;
          answered <= answered + 1;
        end
        asking <= !writing || asked + 1 != count;
      end
    end
    if (!rst_n) begin
      asking <= BROKEN == 7;
      writing <= 0;
      asked <= 0;
      answered <= 0;
      tick <= 0;
    end
  end
endmodule
