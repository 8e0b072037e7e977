# SPDX-License-Identifier: Apache-2.0
"""Random legal descriptors with their memory images, for comparing hardware with hls.descriptor.model."""

from dataclasses import asdict, dataclass, replace

import numpy as np

from firmware_gen.targets.descriptor.timing.spans import strip_span
from hls.arithmetic.function import ROW_WORDS
from hls.arithmetic.function_tables import function_words
from hls.descriptor.interface.table import PROFILE_RECORD, SCRATCHPAD, WORDS, Descriptor, address, pack, split_address
from hls.descriptor.model import execute

SPECIALS = np.array(
    [
        0,
        0x80000000,
        1,
        0x807FFFFF,
        0x00800000,
        0x7F7FFFFF,
        0xFF7FFFFF,
        0x7F800000,
        0xFF800000,
        0x7FC00000,
        0xFFC12345,
        0x3F800000,
    ],
    np.uint32,
)


def random_values(rng, n, specials=0.02):
    """``n`` FP32 bit patterns: normally distributed, some of very different exponents, a few special."""
    scale = np.exp2(rng.choice([0, 0, 0, 1, -20, 30], n).astype(np.float64))
    values = (rng.standard_normal(n) * scale).astype(np.float32).view(np.uint32)
    odd = rng.random(n) < specials
    values[odd] = rng.choice(SPECIALS, odd.sum())
    return values


FUNCTIONS = ("silu", "tanh", "elu", "gelu", "hardswish", "softplus")

LARGEST = 8000
"""Words that a large layer may store."""


def random_geometry(rng, config, large=0.0, words=0):
    """Loop fields (lower case, see the descriptor's table) of a random run-mode, stepped, diagonal or banded layer that
    fits.

    With probability ``large`` its input is larger than the activation buffer, or one pixel needs all of its words. With
    ``words`` it is a product with a matrix of a vector of so many.
    """
    while True:
        size = rng.choice(["long", "long", "full"]) if large and rng.random() < large else "small"
        kh, kw, cin = (int(x) for x in rng.integers(1, 5, 3))
        h, w = (int(x) for x in rng.integers(1, 9, 2))
        sy, sx, dy, dx = (int(x) for x in rng.integers(1, 3, 4))
        top, left, bottom, right = (int(x) for x in rng.integers(0, 4, 4))
        kind = rng.choice(["run", "steps", "diagonal", "vector"] + ["banded"] * config.banded)
        if kind == "banded" and not words:
            fields = banded_geometry(rng, config)
            if fields["load_words"] <= config.activation_words - 8:
                return fields
            continue
        if kind == "vector":  # a Linear layer
            kh = kw = h = 1
            w, cin = int(rng.integers(1, 4)), int(rng.integers(1, 40))
            top = left = bottom = right = 0
            sx = sy = 1
        if size == "full" or words:
            kind = "vector"
            kh = kw = h = w = sy = sx = dy = 1
            cin, top, left, bottom, right = words or config.activation_words - config.ports, 0, 0, 0, 0
        groups = int(rng.integers(1, 4)) if kind == "steps" else 1
        if kind in ("run", "vector"):
            dx = 1
        if size == "long" and kind in ("run", "steps"):
            h = int(rng.uniform(1, 2.5) * config.activation_words / (w * cin * groups)) + 1
        oh = (h + top + bottom - (kh - 1) * dy - 1) // sy + 1
        ow = (w + left + right - (kw - 1) * dx - 1) // sx + 1
        if oh < 1 or ow < 1:
            continue
        channels = cin * groups
        if kind == "diagonal":
            channels = int(rng.integers(1, 3 * config.diagonal + 1))
        diagonal = kind == "diagonal"
        cb = config.diagonal if diagonal else config.cols
        cout = channels if diagonal else int(rng.integers(1, 2 * cb + 3))
        run = channels if diagonal else kw * cin if kind != "steps" else cin
        row = w * channels
        if size == "full":
            cout = min(cout, cb)
        if h * row > config.activation_words - 8 if size == "small" else oh * ow * groups * cout > LARGEST:
            continue
        ncb = -(-cout // cb)
        cbg = int(rng.integers(1, min(ncb, 4) + 1))
        strip = int(rng.integers(1, min(oh * ow, config.accumulator_entries // cbg) + 1))
        stepped = kind in ("steps", "diagonal")
        fields = {
            "in_row": row,
            "in_h": h,
            "y0": -top,
            "x0": -left * channels,
            "row0": -top * row,
            "kh": kh,
            "kx": kw if stepped else 1,
            "kb": 1 if diagonal else -(-run // config.rows),
            "run": run,
            "dil_y": dy,
            "stride_y": sy,
            "ky_step": dy * row,
            "kx_step": dx * channels,
            "sx_words": sx * channels,
            "sy_words": sy * row,
            "out_w": ow,
            "out_px": oh * ow,
            "strip_px": strip,
            "cbg": cbg,
            "groups": groups,
            "ncb": ncb,
            "cout": cout,
            "first_px": int(rng.integers(1, strip + 1)),
            "group_in_step": cin,
            "load_words": h * row,
            "diagonal": int(diagonal),
            "band": 0,
            "first_lane": 0,
            "last_lanes": 0,
        }
        if size == "small" or _shortened(fields, config):
            return fields


def random_halves(rng, fields, config):
    """HALVES, mostly 1 where it may be."""
    fits = 2 * fields["strip_px"] * fields["cbg"] <= config.accumulator_entries
    return int(fits and not fields["acc_init"] and rng.random() < 0.8)


def as_one_strip(layer, config):
    """The loop fields with all pixels in one strip, where accumulators and buffer have room; else None."""
    pixels = layer["out_px"]
    if pixels * layer["cbg"] * (1 + layer.get("halves", 0)) > config.accumulator_entries:
        return None
    whole = layer | {"first_px": pixels, "strip_px": pixels}
    fits = strip_span(Descriptor(**whole), pixels, pixels) <= config.activation_words - config.ports
    return whole if fits else None


def must_be_one_strip(f):
    """Whether a layer marks channel blocks, or stores over what it loads."""
    return bool(f.mark_blocks) or (f.store_ring > 0 and f.load_addr == f.store_addr)


def by_blocks(rng, before, config):
    """``before``, whose layer marks its channel blocks, and the load of a layer that reads them one after the other, in
    which case what the first one stores is in one strip; None where that cannot be.
    """
    block = config.diagonal if before.diagonal else config.cols
    even = before.groups == 1 and not before.band and before.store_c_stride == 1 and before.store_cb_step == block
    blocks = before.cout // block
    words = before.out_px * blocks * block
    whole = as_one_strip(asdict(before), config)
    if not even or not blocks or not whole or words > config.activation_words - 8:
        return None
    load = {
        "load_c_count": block,
        "load_x_count": before.out_px,
        "load_y_count": blocks,
        "load_c_stride": 1,
        "load_x_stride": before.store_x_stride,
        "load_y_stride": block,
    }
    f = random_geometry(rng, config, words=words)
    return Descriptor(**whole | {"mark_words": block, "mark_blocks": 1}), f | load


def own_base(rng, before, layer):
    """MARK_BASE: words before those that ``before`` stores that the layer behind it loads."""
    _, offset = split_address(before.store_addr)
    if before.store_ring or rng.random() < 0.6:
        return 0
    return int(rng.integers(0, min(layer["load_words"], offset // 4 + 1)))


def banded_geometry(rng, config, stride=0):
    """Loop fields of a random banded layer, its outputs 1 or 2 input pixels apart, or ``stride``."""
    stride = stride or int(rng.integers(1, 3))
    while True:
        kw = int(rng.integers(1, min(config.diagonal, 5) + 1))
        outputs = int(rng.integers(1, min(config.cols, (config.rows - kw) // stride + 1) + 1))
        run, step = (outputs - 1) * stride + kw, outputs * stride
        blocks, left, right = (int(x) for x in rng.integers((1, 0, -step), (4, kw, kw)))
        width = (blocks - 1) * step + run - left - right
        first = min(left, run)
        last = width - (blocks - 1) * step + left
        if width >= 1 and left <= step and last > 0 and (blocks == 1 or width >= (blocks - 2) * step + run - left):
            break
    kh, dy, sy, top, bottom = (int(x) for x in rng.integers((1, 1, 1, 0, 0), (4, 3, 3, 3, 3)))
    h = int(rng.integers(max(1, (kh - 1) * dy + 1 - top - bottom), 8))
    oh = (h + top + bottom - (kh - 1) * dy - 1) // sy + 1
    pitch = 1 + config.banks * int(rng.integers(0, 3))
    near = 1 + config.scratchpad_banks * np.arange(pitch)
    channels = int(rng.choice([int(rng.integers(1, pitch + 1)), rng.choice(near[near <= pitch])]))
    row = width * pitch
    cbg = int(rng.integers(1, min(channels, 4) + 1))
    strip = int(rng.integers(1, min(oh * blocks, config.accumulator_entries // cbg) + 1))
    return {
        "in_row": row,
        "in_h": h,
        "y0": -top,
        "x0": -left * pitch,
        "row0": -top * row,
        "kh": kh,
        "kx": 1,
        "kb": 1,
        "run": run,
        "dil_y": dy,
        "stride_y": sy,
        "band": stride,
        "first_lane": first,
        "last_lanes": min(last, run),
        "ky_step": dy * row,
        "kx_step": pitch,
        "sx_words": step * pitch,
        "sy_words": sy * row,
        "out_w": blocks,
        "out_px": oh * blocks,
        "strip_px": strip,
        "cbg": cbg,
        "groups": 1,
        "ncb": channels,
        "cout": outputs,
        "first_px": int(rng.integers(1, strip + 1)),
        "group_in_step": 0,
        "load_words": h * row,
        "diagonal": 0,
    }


def _shortened(fields, config):
    """Make the strips as short as the activation buffer asks for; whether one pixel fits."""
    while True:
        if (
            strip_span(Descriptor(**fields), fields["first_px"], fields["strip_px"])
            <= config.activation_words - config.ports
        ):
            return True
        if fields["strip_px"] == 1:
            return False
        fields["strip_px"] -= 1
        fields["first_px"] = min(fields["first_px"], fields["strip_px"])


@dataclass
class Program:
    """A memory image (uint8), the doorbell address, BASE and LIMIT registers, and the packed descriptors."""

    memory: np.ndarray
    doorbell: int
    bases: list
    limits: list
    descriptors: list

    def expect(self, config):
        """(memory after a run, what was executed), by hls.descriptor.model."""
        scratchpad = np.full(4 * config.scratchpad_words, 0x5A, np.uint8)
        memory = np.concatenate([self.memory, scratchpad])
        layers = execute(memory, self.doorbell, [*self.bases[:SCRATCHPAD], len(self.memory)], config)
        return memory[: len(self.memory)], layers


def pixel_words(f):
    """Words that a layer stores of a pixel."""
    return f.cout * (f.ncb if f.band else f.groups)


def stored_words(f):
    """Words that a layer stores."""
    return f.out_px * pixel_words(f)


def in_order(f):
    """Whether a layer stores the words of a pixel, and the pixels, one behind the other."""
    return f.store_x_stride == pixel_words(f)


def on_chip(stride, config):
    """Whether the words of a beat may be so far apart in the scratchpad."""
    return stride == 1 or (config.banded and stride % config.scratchpad_banks == 1 % config.scratchpad_banks)


def apart_load(rng, config, words, stored):
    """Loads of ``words`` of ``stored`` words that a beat finds in different banks of the scratchpad, if there are."""
    step = config.scratchpad_banks
    counts = [d for d in range(2, 17) if words % d == 0 and (d - 1) * (step + 1) + words // d <= stored]
    if not config.banded or not counts:
        return None
    count = int(rng.choice(counts))
    stride = 1 + step * int(rng.integers(1, (stored - words // count) // (count - 1) // step + 1))
    if (count - 1) * stride + words // count > stored:
        stride -= step
    return {
        "load_c_count": count,
        "load_x_count": words // count,
        "load_y_count": 1,
        "load_c_stride": stride,
        "load_x_stride": 1,
        "load_y_stride": 0,
    }


def load_with_gaps(rng, f):
    """A load of a banded layer's pixels that passes over words behind their channels, if there are any."""
    pitch = f["kx_step"]
    gap = int(rng.integers(0, min(pitch - f["ncb"], 63) + 1))
    step = int(rng.choice([pitch - gap, pitch]))
    width = f["in_row"] // pitch
    return {
        "load_c_count": pitch,
        "load_gap": gap,
        "load_x_count": width,
        "load_y_count": f["in_h"],
        "load_c_stride": 1,
        "load_x_stride": step,
        "load_y_stride": width * step,
    }


def copy_layer(where, ring, count, config):
    """A layer that copies ``count`` words of a ring of the scratchpad, all but where to."""
    return Descriptor(
        load_addr=where,
        load_ring=ring,
        barrier=1,
        load_c_count=count,
        load_c_stride=1,
        load_x_count=1,
        load_y_count=1,
        load_words=count,
        in_row=count,
        in_h=1,
        kh=1,
        kx=1,
        kb=1,
        run=1,
        stride_y=1,
        sx_words=1,
        out_w=count,
        out_px=count,
        groups=1,
        ncb=1,
        cout=1,
        cbg=1,
        strip_px=config.accumulator_entries,
        first_px=1,
        diagonal=1,
        max=1,
        unit_weights=1,
        uniform=1,
        scale=1.0,
        bias=-0.0,
        low=-np.inf,
        high=np.inf,
        pad_value=-np.inf,
        store_c_stride=1,
        store_x_stride=1,
        store_y_stride=count,
        store_cb_step=config.diagonal,
    )


def random_program(rng, config, layers=2, specials=0.02, profile=0.0, large=0.0):
    """A list of ``layers`` random descriptors; each writes its own output area.

    A layer reads random data, or what the one before it stores, in which case it says BARRIER, and the one before it,
    mostly, MARK_WORDS, with MARK_BASE where it reads words before these too, with MARK_BLOCKS where it reads channel
    block after channel block. What it stores goes to memory, or to a ring of the scratchpad, from where layers at the
    end of the list copy it to memory, or over its own input there, all of which it has read by then; the next layer's
    AUX stream may be there too. With probability ``profile`` a layer asks for its record, which hls.descriptor.model
    does not write; with probability ``large`` its input exceeds the buffer.
    """
    chain = []
    base0, size0, base1, size1 = 0x100, 0x40000, 0x40400, 0x40000
    memory = np.full(base1 + size1, 0xA5, np.uint8)
    words = memory.view(np.uint32)
    free = [2 * WORDS * layers + int(rng.integers(0, 4)), 0]  # next free word of regions 0 and 1
    free_ring, copies, tables = 0, [], set()

    def take(region, n):
        start = free[region]
        free[region] += n + int(rng.integers(0, 3))
        assert free[region] * 4 <= size0
        return start

    def fill(region, data):
        start = take(region, len(data))
        words[(base0, base1)[region] // 4 + start :][: len(data)] = data
        return address(region, 4 * start)

    def strides(prefix, fields, oh, ow, n, cb):
        """Random HWC or CHW layout of [oh, ow, n] outputs; of banded ones, mostly, that of the image."""
        c, x, y = (1, n, n * ow) if rng.random() < 0.5 else (oh * ow, 1, ow)
        if fields["band"] and rng.random() < 0.7:
            channels = fields["ncb"]
            return {
                f"{prefix}_c_stride": channels,
                f"{prefix}_x_stride": n,
                f"{prefix}_y_stride": n * ow,
                f"{prefix}_cb_step": 1,
                f"{prefix}_g_step": 0,
            }
        return {
            f"{prefix}_c_stride": c,
            f"{prefix}_x_stride": x,
            f"{prefix}_y_stride": y,
            f"{prefix}_cb_step": cb * c,
            f"{prefix}_g_step": fields["cout"] * c,
        }

    for _ in range(layers):
        before = chain[-1] if chain else None
        follow = before is not None and rng.random() < 0.7 and in_order(before)
        stored = stored_words(before) if follow else 0
        for _ in range(20):
            f = random_geometry(rng, config, large)
            if f["load_words"] <= stored:
                break
        follow = follow and f["load_words"] <= stored
        own = rng.spawn(1)[0]  # what it draws leaves the rest of a seed's list alone
        pair = by_blocks(own, before, config) if follow and own.random() < 0.5 else None
        if pair:
            before, f = pair
            chain[-1] = before
        over = follow and bool(before.store_ring) and not (f["diagonal"] or f["band"] or f["groups"] > 1)
        over = over and own.random() < 0.5 and as_one_strip(f, config)
        f = over or f
        cb = f["cout"] if f["band"] else config.diagonal if f["diagonal"] else config.cols
        oh, ow, n = f["out_px"] // f["out_w"], f["out_w"], f["cout"] * (f["ncb"] if f["band"] else f["groups"])
        if follow:
            f["load_addr"], f["load_ring"], f["barrier"] = before.store_addr, before.store_ring, 1
            if rng.random() < 0.8 and not pair:
                base = own_base(own, before, f)
                f["load_addr"] -= 4 * base
                before = replace(before, mark_words=pixel_words(before), mark_base=base)
            chain[-1] = before
        else:
            f["load_addr"] = fill(1, random_values(rng, f["load_words"], specials))
            f["barrier"] = int(rng.integers(0, 2))
        channels = max(d for d in (1, 2, 3, f["in_row"]) if f["in_row"] % d == 0)
        apart = apart_load(rng, config, f["load_words"], stored) if follow and not before.mark_words else None
        if apart:
            f |= apart
        elif pair:
            pass
        elif follow or rng.random() < 0.5:
            f |= {
                "load_c_count": f["load_words"],
                "load_x_count": 1,
                "load_y_count": 1,
                "load_c_stride": 1,
                "load_x_stride": 0,
                "load_y_stride": 0,
            }
        else:  # planar memory, so that the inner stride is not 1
            width = f["in_row"] // channels
            f |= {
                "load_c_count": channels,
                "load_x_count": width,
                "load_y_count": f["in_h"],
                "load_c_stride": width * f["in_h"],
                "load_x_stride": 1,
                "load_y_stride": width,
            }
        if f["band"] and rng.random() < 0.7:
            f |= load_with_gaps(rng, f)
        f["max"] = int(f["diagonal"] and rng.random() < 0.4)
        f["unit_weights"] = int(f["diagonal"] and rng.random() < 0.5)
        if not f["unit_weights"]:
            tile = config.diagonal if f["diagonal"] or f["band"] else config.rows * config.cols
            size = f["groups"] * f["ncb"] * f["kh"] * f["kx"] * f["kb"] * tile
            f["int4"] = int(config.int4_weights and rng.random() < 0.4)
            size = -(-size // (1 + f["int4"]))
            step = 4 * config.ports
            stream = rng.integers(-127, 128, -(-size // step) * step).astype(np.int8)
            f["weight_addr"] = fill(0, stream.view(np.uint32))
            f["weight_words"] = stream.size // 4
        f["uniform"] = int(rng.random() < 0.3)
        if f["uniform"]:
            f["scale"], f["bias"] = np.float32(rng.standard_normal()), np.float32(-0.0)
        else:
            rows = 1 if f["band"] else -(-cb // config.ports)
            f["packed_scales"] = int(config.packed_scales and not f["band"] and rng.random() < 0.5)
            rows += -(-rows // 2) if f["packed_scales"] else rows
            params = rng.standard_normal(f["groups"] * f["ncb"] * rows * config.ports)
            f["param_addr"] = fill(0, params.astype(np.float32).view(np.uint32))
            f["param_words"] = params.size
        aux = rng.choice(["none", "residual", "init"])
        f["residual"], f["acc_init"] = int(aux == "residual"), int(aux == "init")
        f["halves"] = random_halves(own, f, config)
        if aux == "residual" and config.multiply:
            f["multiply"] = int(rng.random() < 0.5)
            f["negative"] = int(f["multiply"] and rng.random() < 0.4)
        if aux != "none":
            f |= strides("aux", f, oh, ow, n, cb)
            for steps in (("x_stride",), ("y_stride",), ("c_stride", "cb_step", "g_step")):
                if rng.random() < 0.25:  # the same words for all of them
                    f |= {f"aux_{step}": 0 for step in steps}
            if (
                before
                and not over
                and before.store_ring
                and oh * ow * n <= stored_words(before)
                and on_chip(f["aux_c_stride"], config)
            ):
                f["aux_addr"], f["aux_ring"] = before.store_addr, before.store_ring
            else:
                f["aux_addr"] = fill(1, random_values(rng, oh * ow * n, specials))
        f["act_first"], slope = (int(x) for x in rng.integers(0, 2, 2))
        f["slope_en"] = int(slope and not f.get("multiply"))
        f["slope"] = np.float32(0.1)
        f["low"], f["high"] = [(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)][int(rng.integers(0, 3))]
        if config.functions and rng.random() < 0.4:
            f["function"], f["table_slot"] = 1, int(rng.integers(0, 2))
            if f["table_slot"] not in tables or rng.random() < 0.3:
                table = function_words(str(rng.choice(FUNCTIONS)))
                f |= {"load_table": 1, "table_rows": len(table) // ROW_WORDS, "table_addr": fill(0, table)}
                tables.add(f["table_slot"])
        f["pad_value"] = np.float32(-np.inf if f["max"] else rng.choice([0.0, 0.0, 1.5]))
        f |= strides("store", f, oh, ow, n, cb)
        ring = max(oh * ow * n, config.ports, 2) - 1
        ring, f["store_ring"] = 1 << ring.bit_length(), ring.bit_length()
        first = -(-free_ring // ring) * ring
        if over and on_chip(f["store_c_stride"], config) and f["store_ring"] <= f["load_ring"]:
            f["store_addr"], f["store_ring"] = f["load_addr"], f["load_ring"]
            copies = [layer for layer in copies if layer.load_addr != f["load_addr"]]
            copies.append(copy_layer(f["store_addr"], f["store_ring"], oh * ow * n, config))
        elif on_chip(f["store_c_stride"], config) and first + ring <= config.scratchpad_words and rng.random() < 0.7:
            free_ring = first + ring
            f["store_addr"] = address(SCRATCHPAD, 4 * (first + int(rng.integers(0, ring))))
            copies.append(copy_layer(f["store_addr"], f["store_ring"], oh * ow * n, config))
        else:
            f["store_addr"], f["store_ring"] = address(1, 4 * take(1, oh * ow * n)), 0
        f["profile"] = int(profile > 0 and rng.random() < profile)
        f["profile_addr"] = address(0, 4 * take(0, len(PROFILE_RECORD))) if f["profile"] else 0
        chain.append(Descriptor(**f))
    chain += [replace(layer, store_addr=address(1, 4 * take(1, layer.load_words))) for layer in copies]
    for index, layer in enumerate(chain):
        last = index == len(chain) - 1
        chain[index] = replace(layer, last=int(last), next=0 if last else address(0, 4 * WORDS * (index + 1)))
        words[base0 // 4 + WORDS * index :][:WORDS] = pack(chain[index])
    return Program(memory, address(0, 0), [base0, base1, 0, 0], [base0 + size0, base1 + size1, 0, 0], chain)
