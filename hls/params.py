"""Parameter reader: the scale and bias beats of a layer, in order, once per strip."""

from hls.unit import unit

PARAM_JOB = "param_addr param_addr_region param_words uniform out_px first_px strip_px"
"""Descriptor fields that the parameter reader reads."""


@unit(out="req.valid req.addr req.stride req.count req.region out_valid out_data idle")
def param_reader(
    clk, rst, start, job, req, rsp_valid, rsp_data, out_valid, out_data, out_take, idle, *, config
):
    """First-word-fall-through stream of beats: out_data(32P) is the next beat while out_valid; out_take removes it.

    Nothing is read when UNIFORM. ``idle``: level, no request to come and no answer due for this layer.
    """
