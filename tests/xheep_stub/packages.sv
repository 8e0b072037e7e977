// SPDX-License-Identifier: Apache-2.0
/* verilator lint_off DECLFILENAME */
// The interfaces of X-HEEP that the integration uses, and no more: enough to lint and simulate it without X-HEEP.
package obi_pkg;
  typedef struct packed {
    logic        req;
    logic        we;
    logic [3:0]  be;
    logic [31:0] addr;
    logic [31:0] wdata;
  } obi_req_t;

  typedef struct packed {
    logic        gnt;
    logic        rvalid;
    logic [31:0] rdata;
  } obi_resp_t;
endpackage

package reg_pkg;
  typedef struct packed {
    logic        valid;
    logic        write;
    logic [3:0]  wstrb;
    logic [31:0] addr;
    logic [31:0] wdata;
  } reg_req_t;

  typedef struct packed {
    logic        error;
    logic        ready;
    logic [31:0] rdata;
  } reg_rsp_t;
endpackage

package fifo_pkg;
  typedef struct packed {
    logic pop;
    logic push;
    logic flush;
    logic [31:0] data;
  } fifo_req_t;

  typedef struct packed {
    logic empty;
    logic full;
    logic alm_full;
    logic [31:0] data;
  } fifo_resp_t;
endpackage

package core_v_mini_mcu_pkg;
  localparam int unsigned DMA_NUM_MASTER_PORTS = 2;
  localparam int unsigned DMA_CH_NUM = 4;
  localparam int unsigned NEXT_INT = 13;
  localparam int unsigned EXTERNAL_DOMAINS = 1;
endpackage
