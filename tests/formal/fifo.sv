// SPDX-License-Identifier: Apache-2.0
// fifo: every word that enters leaves once, in order and unchanged; both handshakes are exact.
`default_nettype none
module check (input wire clk, input wire rst, input wire in_valid, input wire [`WIDTH-1:0] in_data,
              input wire out_ready, input wire pick);
  localparam COUNT = $clog2(`DEPTH) + 1;
  wire in_ready, out_valid;
  wire [`WIDTH-1:0] out_data;
  `DUT dut (.clk(clk), .rst(rst), .in_valid(in_valid), .in_ready(in_ready), .in_data(in_data),
            .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));

  wire push = in_valid && in_ready, pop = out_valid && out_ready;
  reg [COUNT-1:0] count;                      // words inside
  reg [$clog2(`DEPTH)-1:0] pushed, popped, slot;  // modulo DEPTH: which words are inside cannot be mixed up
  reg watching;                               // the word taken with `pick` is inside
  reg [`WIDTH-1:0] word;
  always @(posedge clk)
    if (rst) begin
      count <= 0;
      pushed <= 0;
      popped <= 0;
      watching <= 0;
    end else begin
      count <= count + push - pop;
      pushed <= pushed + push;
      popped <= popped + pop;
      if (!watching && push && pick) begin
        watching <= 1;
        slot <= pushed;
        word <= in_data;
      end else if (watching && pop && popped == slot) watching <= 0;
    end

  always @* begin
    room: assert (in_ready == (count != `DEPTH));
    filled: assert (out_valid == (count != 0));
    order_and_data: assert (!watching || popped != slot || (out_valid && out_data == word));
  end
endmodule
