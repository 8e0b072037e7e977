"""Weight loader: streams the weights of every strip through a FIFO and cuts them into load beats of the array."""

from hls.unit import unit

WEIGHT_JOB = ("weight_addr weight_addr_region weight_words unit_weights diagonal out_px first_px strip_px groups ncb "
              "kh kx kb")
"""Descriptor fields that the weight loader reads."""


@unit(out="req.valid req.addr req.stride req.count req.region req.urgent load_valid load_data load_beat load_diag "
          "tile_ready idle")
def weight_loader(
    clk, rst, start, job, req, rsp_valid, rsp_data, load_valid, load_data, load_beat, load_diag,
    tile_ready, tile_take, idle, *, config
):
    """Present every tile's bytes to the array, up to one beat per cycle.

    load_data is 8*load_rows*cols bits: byte (r mod load_rows)*cols + c of beat r // load_rows; diagonal tiles
    (load_diag) are one beat, byte c for column c. load_beat has hls.array.beat_bits(config) bits.
    ``tile_ready``: all beats of the next tile were presented in earlier cycles. ``tile_take`` (only with
    tile_ready) frees the shadow weights: the first beat of the tile after may be presented in that same cycle.
    ``idle``: level, no request to come and no answer due for this layer.
    """
