"""Which tensors live in the scratchpad instead of memory, and where.

A tensor may if the accelerator alone touches it, channels side by side. Those that shorten the layers around them
most, for their size, are taken first, as long as all that are alive at once fit.
"""

from collections.abc import Iterable

from firmware_gen import planner
from firmware_gen.lower import Job
from firmware_gen.planner import Buffer
from firmware_gen.tiling import stream_beats, strip_starts, vectors
from hls.config import Config

STREAMS = ("LOAD", "STORE", "AUX")

HIDDEN = 0.25
"""What a beat that its layer hides is worth beside one that it waits for: layers overlap, and memory is shared."""


def choose(jobs: list[Job], buffers: list[Buffer], excluded: Iterable[str], config: Config) -> dict[str, int]:
    """Byte offset in the scratchpad of every storage that should live there.

    jobs: lowered with all tensors in memory. buffers: lives of their storages. excluded: storages that others than the
    accelerator read or write.
    """
    size = 4 * config.scratchpad_words
    forbidden = set(excluded) | {ref.name for job in jobs for ref in _not_dense(job)}
    candidates = [b for b in buffers if b.size <= size and b.name not in forbidden and _used(b.name, jobs)]
    chosen: list[Buffer] = []
    offsets: dict[str, int] = {}
    while candidates:
        names = {b.name for b in chosen}
        gains = {b.name: _gain(b.name, names, jobs, config) / b.size for b in candidates}
        best = max(candidates, key=lambda b: gains[b.name])
        candidates.remove(best)
        plan = planner.place([*chosen, best])
        if all(plan[b.name] + b.size <= size for b in (*chosen, best)):
            chosen.append(best)
            offsets = plan
    return offsets


def _streams(job: Job) -> list[tuple[str, str]]:
    """(stream, storage) of a job's activations."""
    return [(s, job.fields[f"{s}_ADDR"].name) for s in STREAMS if f"{s}_ADDR" in job.fields]


def _used(name: str, jobs: list[Job]) -> bool:
    return any(storage == name for job in jobs for _, storage in _streams(job))


def _not_dense(job: Job) -> list:
    """References whose beats are not neighbouring words."""
    f = job.fields
    counts = {"LOAD": f["LOAD_C_COUNT"], "STORE": f["COUT"], "AUX": f["COUT"]}
    return [f[f"{s}_ADDR"] for s, _ in _streams(job) if counts[s] > 1 and f[f"{s}_C_STRIDE"] != 1]


def _gain(name: str, chosen: set[str], jobs: list[Job], config: Config) -> float:
    """Cycles saved by moving one more storage on chip."""
    touching = [job for job in jobs if any(storage == name for _, storage in _streams(job))]
    return sum(_cycles(job, chosen, config) - _cycles(job, chosen | {name}, config) for job in touching)


def _cycles(job: Job, on_chip: set[str], config: Config) -> float:
    f = job.fields
    count = stream_beats(f, len(strip_starts(f["OUT_PX"], f["FIRST_PX"], f["STRIP_PX"])), config)
    local = {stream for stream, storage in _streams(job) if storage in on_chip}
    bus = sum(n for stream, n in count.items() if stream not in local)
    return max(vectors(f), bus, count["LOAD"], count["STORE"]) + HIDDEN * bus
