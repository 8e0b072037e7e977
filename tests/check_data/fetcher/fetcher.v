// SPDX-License-Identifier: Apache-2.0
// Fetches rows of A, multiplies them in fixed point, stores the sums, and raises an interrupt. Registers:
//   0x100 address of A   0x104 bytes from row to row   0x108 address of C   0x10c k   0x110 n
//   0x114 number of rows; writing it starts            0x118 done; writing it clears it
//   0x200 + 4 j  weights of row j, one byte a column
module fetcher #(
    parameter DEPTH_BITS = 5
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
    output reg m_req,
    output reg m_we,
    output wire [3:0] m_be,
    output reg [31:0] m_addr,
    output wire [31:0] m_wdata,
    input wire m_gnt,
    input wire m_rvalid,
    input wire [31:0] m_rdata,
    output wire irq,
    output wire idle
);
  localparam [2:0] IDLE = 0, READ = 1, READ_ANSWER = 2, ADD = 3, WRITE = 4, WRITE_ANSWER = 5;

  reg [2:0] state;
  reg done;
  reg [31:0] a, stride, c, rows;
  reg [DEPTH_BITS:0] k, j;
  reg [2:0] n, column;
  reg [31:0] word;
  reg [31:0] weights[0:(1 << DEPTH_BITS)-1];
  reg signed [31:0] sum[0:3];

  // FP32 to 24 bits behind the sign, 8 of them behind the point; small numbers are 0, large ones the largest.
  wire [7:0] exponent = word[30:23];
  wire [22:0] magnitude = exponent > 141 ? 23'h7fffff : 23'({1'b1, word[22:0]} >> (8'd142 - exponent));
  wire signed [23:0] element = word[31] ? -$signed({1'b0, magnitude}) : $signed({1'b0, magnitude});

  assign s_gnt = 1'b1;
  assign m_be = 4'hf;
  assign m_wdata = sum[column[1:0]];
  assign irq = done;
  assign idle = state == IDLE && !s_req;
  wire write = s_req && s_we && rst_n;
  wire [31:0] row_weights = weights[j[DEPTH_BITS-1:0]];
  wire unused = &{1'b0, s_be, s_addr, s_wdata[31:DEPTH_BITS+1]};

  integer i;
  always @(posedge clk) begin
    s_rvalid <= s_req && rst_n;
    s_rdata <= {31'b0, done};
    if (write && s_addr[11:9] == 1) weights[s_addr[DEPTH_BITS+1:2]] <= s_wdata;
    if (write && s_addr[11:8] == 1) begin
      case (s_addr[4:2])
        0: a <= s_wdata;
        1: stride <= s_wdata;
        2: c <= s_wdata;
        3: k <= s_wdata[DEPTH_BITS:0];
        4: n <= s_wdata[2:0];
        5: begin
          rows <= s_wdata;
          state <= READ;
          m_req <= 1'b1;
          m_we <= 1'b0;
          m_addr <= a;
          for (i = 0; i < 4; i = i + 1) sum[i] <= 0;
        end
        default: done <= 1'b0;
      endcase
    end
    case (state)
      READ, WRITE:
      if (m_gnt) begin
        m_req <= 1'b0;
        state <= state == READ ? READ_ANSWER : WRITE_ANSWER;
      end
      READ_ANSWER:
      if (m_rvalid) begin
        word <= m_rdata;
        state <= ADD;
      end
      ADD: begin
        for (i = 0; i < 4; i = i + 1) sum[i] <= sum[i] + 32'(element) * 32'($signed(row_weights[8*i+:8]));
        m_req <= 1'b1;
        if (j + 1 == k) begin
          j <= 0;
          a <= a + stride;
          m_addr <= c;
          m_we <= 1'b1;
          state <= WRITE;
        end else begin
          j <= j + 1;
          m_addr <= m_addr + 4;
          state <= READ;
        end
      end
      WRITE_ANSWER:
      if (m_rvalid) begin
        c <= c + 4;
        m_req <= 1'b1;
        if (column + 1 != n) begin
          column <= column + 1;
          m_addr <= c + 4;
          state <= WRITE;
        end else begin
          column <= 0;
          rows <= rows - 1;
          m_we <= 1'b0;
          m_addr <= a;
          state <= READ;
          for (i = 0; i < 4; i = i + 1) sum[i] <= 0;
          if (rows == 1) begin
            state <= IDLE;
            done <= 1'b1;
            m_req <= 1'b0;
          end
        end
      end
      default: ;
    endcase
    if (!rst_n) begin
      state <= IDLE;
      done <= 1'b0;
      m_req <= 1'b0;
      j <= 0;
      column <= 0;
    end
  end
endmodule
