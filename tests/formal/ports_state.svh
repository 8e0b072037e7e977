// SPDX-License-Identifier: Apache-2.0
  // Inside memory_ports: beats in order; per port, commands queued, requested, due, and answers that wait.
  wire [3:0] level;               // probe: dut.fifo.level
  wire [2:0] head;                // probe: dut.fifo.head
  wire [2:0] tail;                // probe: dut.fifo.tail
  wire filled;                    // probe: dut.fifo.filled
  wire room;                      // probe: dut.fifo.room
  wire [5:0] word0;               // probe: dut.fifo.words[0]
  wire [5:0] word1;               // probe: dut.fifo.words[1]
  wire [5:0] word2;               // probe: dut.fifo.words[2]
  wire [5:0] word3;               // probe: dut.fifo.words[3]
  wire [5:0] word4;               // probe: dut.fifo.words[4]
  wire [5:0] word5;               // probe: dut.fifo.words[5]
  wire [5:0] word6;               // probe: dut.fifo.words[6]
  wire [5:0] word7;               // probe: dut.fifo.words[7]
  wire [47:0] words = {word7, word6, word5, word4, word3, word2, word1, word0};
  wire [7:0] live;
  genvar k;
  generate for (k = 0; k < 8; k = k + 1) begin : slot
    wire [2:0] age = k - head;
    assign live[k] = {1'b0, age} < level;
  end endgenerate
  wire order_sound = level <= 8 && tail == head + level[2:0] && filled == (level != 0) && room == (level != 8);

  wire [5*`PORTS-1:0] outstandings, heads;
  wire [7*`PORTS-1:0] levels;
  wire [260*`PORTS-1:0] queued;
  wire [256*`PORTS-1:0] answers;
  wire [`PORTS-1:0] port_sound, port_balanced, late_ports, kept;
  genvar p;
  generate for (p = 0; p < `PORTS; p = p + 1) begin : inside
    wire [2:0] q_level;           // probe: dut.memory_port_{p}.fifo_queued.level
    wire [1:0] q_head;            // probe: dut.memory_port_{p}.fifo_queued.head
    wire [1:0] q_tail;            // probe: dut.memory_port_{p}.fifo_queued.tail
    wire q_filled;                // probe: dut.memory_port_{p}.fifo_queued.filled
    wire q_room;                  // probe: dut.memory_port_{p}.fifo_queued.room
    wire [3:0] a_level;           // probe: dut.memory_port_{p}.fifo_answer.level
    wire [2:0] a_head;            // probe: dut.memory_port_{p}.fifo_answer.head
    wire [2:0] a_tail;            // probe: dut.memory_port_{p}.fifo_answer.tail
    wire a_filled;                // probe: dut.memory_port_{p}.fifo_answer.filled
    wire a_room;                  // probe: dut.memory_port_{p}.fifo_answer.room
    wire [3:0] outstanding;       // probe: dut.memory_port_{p}.outstanding
    wire late;                    // probe: dut.memory_port_{p}.late_due
    wire [64:0] q_word0;           // probe: dut.memory_port_{p}.fifo_queued.words[0]
    wire [64:0] q_word1;           // probe: dut.memory_port_{p}.fifo_queued.words[1]
    wire [64:0] q_word2;           // probe: dut.memory_port_{p}.fifo_queued.words[2]
    wire [64:0] q_word3;           // probe: dut.memory_port_{p}.fifo_queued.words[3]
    wire [31:0] a_word0;           // probe: dut.memory_port_{p}.fifo_answer.words[0]
    wire [31:0] a_word1;           // probe: dut.memory_port_{p}.fifo_answer.words[1]
    wire [31:0] a_word2;           // probe: dut.memory_port_{p}.fifo_answer.words[2]
    wire [31:0] a_word3;           // probe: dut.memory_port_{p}.fifo_answer.words[3]
    wire [31:0] a_word4;           // probe: dut.memory_port_{p}.fifo_answer.words[4]
    wire [31:0] a_word5;           // probe: dut.memory_port_{p}.fifo_answer.words[5]
    wire [31:0] a_word6;           // probe: dut.memory_port_{p}.fifo_answer.words[6]
    wire [31:0] a_word7;           // probe: dut.memory_port_{p}.fifo_answer.words[7]
    assign levels[7*p +: 7] = {q_level, a_level};
    assign heads[5*p +: 5] = {q_head, a_head};
    assign queued[260*p +: 260] = {q_word3, q_word2, q_word1, q_word0};
    assign answers[256*p +: 256] = {a_word7, a_word6, a_word5, a_word4, a_word3, a_word2, a_word1, a_word0};
    wire [7:0] its;               // beats in order that have a word on this port
    genvar k;
    for (k = 0; k < 8; k = k + 1) begin : slot
      assign its[k] = live[k] && words[6*k +: 3] > p;
    end
    wire [3:0] total = its[0] + its[1] + its[2] + its[3] + its[4] + its[5] + its[6] + its[7];
    wire [5:0] sum = q_level + m_req[p] + (late ? 4'd0 : outstanding) + a_level;
    assign late_ports[p] = late;
    assign kept[p] = a_filled;
    assign outstandings[5*p +: 5] = outstanding;
    assign port_sound[p] = q_level <= 4 && q_tail == q_head + q_level[1:0] && q_filled == (q_level != 0)
                           && q_room == (q_level != 4) && a_level <= 8 && a_tail == a_head + a_level[2:0]
                           && a_filled == (a_level != 0) && a_room == (a_level != 8);
    assign port_balanced[p] = sum == total;
  end endgenerate
