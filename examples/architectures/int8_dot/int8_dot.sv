// SPDX-License-Identifier: Apache-2.0
// Integer dot products: COLUMNS of INT8 weights with one INT8 vector, which the CPU writes element by element. Every
// column multiplies and adds in the cycle after each element. The bytes of the slave's window, which begins at 0x100:
//
//   0x100 + 4 c   read    the sum of column c, INT32
//   0x200         write   row: which weights come next
//   0x300 + 4 g   write   weights of that row, of columns 4 g to 4 g + 3, the first in the low byte
//   0x800 + 4 j   write   element j of the vector in the low byte; j = 0 begins new sums
module int8_dot #(
    parameter int COLUMNS = 32,  // a power of two from 4 to 64
    parameter int DEPTH = 512  // the longest vector, a power of two up to 512
) (
    input  logic        clk,
    input  logic        rst_n,
    input  logic        s_req,
    input  logic        s_we,
    input  logic [3:0]  s_be,
    input  logic [31:0] s_addr,
    input  logic [31:0] s_wdata,
    output logic        s_gnt,
    output logic        s_rvalid,
    output logic [31:0] s_rdata
);
  localparam int ROW_BITS = $clog2(DEPTH);
  localparam int COLUMN_BITS = $clog2(COLUMNS);

  // An access is granted at once and answered in the next cycle. The CPU writes whole words.
  assign s_gnt = 1'b1;
  always_ff @(posedge clk) s_rvalid <= s_req && rst_n;
  wire write = s_req && s_we;
  wire writes_element = write && s_addr[11];
  wire writes_weights = write && s_addr[11:8] == 4'h3;
  wire writes_row = write && s_addr[11:8] == 4'h2;

  logic [ROW_BITS-1:0] row;
  always_ff @(posedge clk) if (writes_row) row <= s_wdata[ROW_BITS-1:0];

  // The element waits here while each column reads its weight.
  logic valid, first;
  logic signed [7:0] element;
  always_ff @(posedge clk) begin
    valid <= writes_element && rst_n;
    first <= s_addr[10:2] == 0;
    element <= s_wdata[7:0];
  end

  wire [31:0] sums[COLUMNS];
  for (genvar c = 0; c < COLUMNS; c++) begin : column
    logic signed [7:0] weights[DEPTH];
    logic signed [7:0] weight;
    logic signed [31:0] sum;
    wire signed [15:0] product = 16'(element) * 16'(weight);
    always_ff @(posedge clk) begin
      if (writes_weights && s_addr[5:2] == 4'(c / 4)) weights[row] <= s_wdata[8*(c%4)+:8];
      weight <= weights[s_addr[2+:ROW_BITS]];
      if (valid) sum <= 32'(product) + (first ? 0 : sum);
    end
    assign sums[c] = sum;
  end

  // A sum is looked up when it is answered: the element written just before the read is in it by then.
  logic [COLUMN_BITS-1:0] chosen;
  always_ff @(posedge clk) chosen <= s_addr[2+:COLUMN_BITS];
  assign s_rdata = sums[chosen];

  wire unused = &{1'b0, s_be, s_addr, s_wdata};
endmodule
