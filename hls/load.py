"""Load engine: streams a layer's input window from memory into the activation buffer."""

from hls.unit import unit

LOAD_JOB = ("load_addr load_addr_region load_c_stride load_x_stride load_y_stride load_c_count load_x_count "
            "load_y_count load_words")
"""Descriptor fields that the load engine reads."""


@unit(out="req.valid req.addr req.stride req.count req.region wr_valid wr_pos wr_count wr_data loaded done")
def load_engine(
    clk, rst, start, job, released, req, rsp_valid, rsp_count, rsp_data,
    wr_valid, wr_pos, wr_count, wr_data, loaded, done, *, config
):
    """Request the window's words in order (y, x, c) in beats of up to P words of the inner loop.

    Word w is requested once w < released + activation_words (``released``: LINEAR bits, 0 in the cycle after
    ``start``). Answers (rsp_valid: this stream's bit) go straight to the buffer: wr_valid, wr_pos(LINEAR: linear word),
    wr_count(3), wr_data(32P). ``loaded``(LINEAR): words in the buffer, readable in this cycle. ``done``: level, low from
    the cycle after ``start`` until all LOAD_WORDS are readable.
    """
