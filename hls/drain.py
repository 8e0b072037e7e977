"""Drain: accumulator banks through the epilogue to memory, and the residual or initial values from memory.

(Skeleton: port lists are final, bodies follow.)

drain(clk, rst, start, job, bank_done, bank_free, drain_bank, drain_addr, drain_data, param_valid, param_data,
      param_take, aux_valid, aux_data, aux_take, req, done, *, config)
    in   start, job (DRAIN_JOB), bank_done (pulse of `accumulators`), drain_data (32*cols), param_valid/param_data
         (32*ports, first word fall through), aux_valid/aux_data (32*ports), req.ready
    out  bank_free (pulse), drain_bank, drain_addr, param_take, aux_take,
         req.valid .addr(32) .stride(32 signed) .count(3) .region(2) .data(32*ports), done (level)

aux_reader(clk, rst, start, job, req, rsp_valid, rsp_data, bank_free, init_valid, init_bank, init_addr, init_data,
           bank_ready, aux_valid, aux_data, aux_take, *, config)
    in   start, job (AUX_JOB), req.ready, rsp_valid, rsp_data (32*ports), bank_free, aux_take
    out  req.valid .addr .stride .count .region, init_valid (cols bits), init_bank, init_addr, init_data (32*cols),
         bank_ready (pulse: this bank's initial values are in), aux_valid, aux_data (residual beats for drain)

`done` is low from the cycle after start until every beat of the layer has been accepted (req.valid and
req.ready), high otherwise, in particular after rst.
"""

_LOOPS = "diagonal out_w out_px strip_px first_px cbg groups ncb cout"

DRAIN_JOB = (f"{_LOOPS} uniform residual act_first slope_en scale bias slope low high store_addr store_addr_region "
             "store_c_stride store_x_stride store_y_stride store_cb_step store_g_step")
"""Descriptor fields that `drain` reads."""

AUX_JOB = (f"{_LOOPS} residual acc_init aux_addr aux_addr_region aux_c_stride aux_x_stride aux_y_stride aux_cb_step "
           "aux_g_step")
"""Descriptor fields that `aux_reader` reads."""
