# SPDX-License-Identifier: Apache-2.0
"""Damaged files of every kind that heepgen reads: each must be accepted or refused in one sentence.

`python tests/fuzz_files.py --count 100000` mutates `.pt2`, `.onnx`, `.hjson`, `.npy`, `.npz` and `manifest.json` in
turn, by bytes and by structure, in a worker process that is watched: no other exception, no case that computes or waits
for more than SECONDS (what a loaded machine has no time for is no hang),
no more than BYTES of memory, no file written outside the folder. Of networks that are accepted only every DRAWN-th
memory plan is drawn, which takes as long as all else that is written. Case i of a seed is always the same; a run that
was stopped goes on where it was. What failed is kept in build/fuzz-files.
"""

import argparse
import io
import itertools
import json
import multiprocessing
import os
import random
import shutil
import struct
import sys
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

KINDS = ("pt2", "onnx", "hjson", "npy", "npz", "manifest")
SECONDS = 60
BYTES = 4 << 30
DRAWN = 8
ACCEPTED, REFUSED, FAILED, HUNG, DIED, OUTSIDE = "accepted", "refused", "failed", "hung", "died", "wrote outside"
SHAPE = (1, 2, 6, 6)
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    65536,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32,
    2**63 - 1,
    -(2**63),
    10**30,
    0.5,
    -1e308,
    1e-320,
)

# Files to begin with


def _corpus(folder: Path) -> None:
    import numpy as np
    import torch
    from torch import nn

    from gen.flows.network.sw import generate_sw
    from hls.config import Config

    torch.manual_seed(1)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
            self.pool, self.out = nn.MaxPool2d(2), nn.Linear(36, 3)

        def forward(self, x):
            x = torch.relu(self.a(x))
            x = self.pool(torch.cat([x, self.b(x) + x], 1)[:, 2:6])
            return torch.softmax(self.out(x.flatten(1)), 1)

    networks = {
        "dense": nn.Sequential(nn.Flatten(), nn.Linear(72, 4), nn.ReLU(), nn.Linear(4, 2)),
        "convolutions": nn.Sequential(
            nn.Conv2d(2, 3, 3, stride=2),
            nn.BatchNorm2d(3),
            nn.ReLU6(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(3, 2),
            nn.Sigmoid(),
        ),
        "residual": Residual(),
        "transposed": nn.Sequential(nn.ConvTranspose2d(2, 2, 2, 2), nn.LeakyReLU(0.1), nn.ZeroPad2d(1)),
    }
    for name, network in networks.items():
        (folder / "pt2").mkdir(parents=True, exist_ok=True)
        torch.export.save(torch.export.export(network.eval(), (torch.zeros(SHAPE),)), folder / "pt2" / f"{name}.pt2")
    generate_sw(folder / "pt2" / "residual.pt2", Config(), folder / "application")
    (folder / "manifest").mkdir()
    shutil.copyfile(folder / "application" / "gen" / "manifest.json", folder / "manifest" / "manifest.json")
    (folder / "hjson").mkdir()
    shutil.copyfile(Path(__file__).parent.parent / "heepstor_cfg.hjson", folder / "hjson" / "default.hjson")
    (folder / "hjson" / "small.hjson").write_text(
        '{ systolic_array: { size: 4, arithmetic: "fma" }, ports: 1, memory: { banks: 3, banks_interleaved: [4, 2] } }'
    )
    random = np.random.default_rng(2)
    (folder / "npy").mkdir()
    (folder / "npz").mkdir()
    for i, dtype in enumerate(("<f4", ">f8", "|i1", "<f2")):
        x = (random.standard_normal(SHAPE) * 9).astype(dtype)
        np.save(folder / "npy" / f"{i}.npy", x if i % 2 else np.asfortranarray(x))
        data = {"x": np.repeat(x, 4, 0), "y": random.integers(0, 2, 4)}
        (np.savez_compressed if i % 2 else np.savez)(folder / "npz" / f"{i}.npz", **data)
    _onnx_corpus(folder / "onnx", random)
    for kind in KINDS:
        for path in sorted((folder / kind).iterdir()):
            READERS[kind](path, folder)  # undamaged
    shutil.rmtree(folder / "out")


def _onnx_corpus(folder: Path, random) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir()

    def constant(name, *shape):
        return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)

    def save(name, nodes, constants, output):
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / f"{name}.onnx")

    node = helper.make_node
    save(
        "convolutions",
        [
            node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Relu", ["c"], ["r"]),
            node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "m", "v"], ["g"], transB=1),
            node("Softmax", ["g"], ["y"], axis=1),
        ],
        [constant("w", 3, 2, 3, 3), constant("b", 3), constant("m", 2, 3), constant("v", 2)],
        (1, 2),
    )
    save(
        "residual",
        [
            node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("Add", ["a", "x"], ["s"]),
            node("LeakyRelu", ["s"], ["l"], alpha=0.2),
            node("Concat", ["l", "x"], ["k"], axis=1),
            node("GlobalAveragePool", ["k"], ["y"]),
        ],
        [constant("w", 2, 2, 3, 3)],
        (1, 4, 1, 1),
    )
    shape = numpy_helper.from_array(np.array([1, 72], np.int64), "shape")
    save(
        "dense",
        [
            node("Reshape", ["x", "shape"], ["f"]),
            node("MatMul", ["f", "m"], ["d"]),
            node("Add", ["d", "b"], ["e"]),
            node("Sigmoid", ["e"], ["y"]),
        ],
        [shape, constant("m", 72, 5), constant("b", 5)],
        (1, 5),
    )


# Mutations


def _bytes(data: bytes, random: random.Random, others: list[bytes]) -> bytes:
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        size = max(len(data), 1)
        a, b = sorted(random.randrange(size) for _ in range(2))
        b = min(b, a + random.choice((1, 4, 64, 4096)))
        choice = random.randrange(8)
        if choice < 3 and data:
            data[a] ^= 1 << random.randrange(8)
        elif choice == 3:
            data[a:b] = random.randbytes(b - a)
        elif choice == 4:
            del data[a : b if random.random() < 0.7 else size]
        elif choice == 5:
            data[a:a] = data[a:b]
        elif choice == 6:
            other = random.choice(others)
            start = random.randrange(max(len(other), 1))
            data[a:b] = other[start : start + b - a]
        else:
            data[a : a + 8] = struct.pack("<q", random.choice((0, -1, 2**31, 2**63 - 1, 2**40)))
    return bytes(data)


def _value(random: random.Random):
    return random.choice(
        [
            lambda: random.choice(NUMBERS),
            lambda: None,
            lambda: True,
            lambda: "",
            lambda: "../../escape",
            lambda: "a" * 3000,
            lambda: "\ud800\0\n\"'",
            list,
            dict,
            lambda: float("nan"),
            lambda: [[1, 2], {"a": None}],
            lambda: json.loads("[" * 300 + "]" * 300),
            lambda: "torch.ops.aten.relu.default",
            lambda: [0] * 5000,
        ]
    )()


def _tree(tree, random: random.Random):
    """Change one to three places of a JSON tree."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = []
        pending = [tree]
        while pending:
            item = pending.pop()
            for key in item if isinstance(item, dict) else range(len(item)):
                places.append((item, key))
                if isinstance(item[key], dict | list):
                    pending.append(item[key])
        if not places:
            break
        item, key = random.choice(places)
        choice = random.randrange(7)
        if choice == 0:
            del item[key]
        elif choice == 1 and isinstance(item, list):
            item.insert(key, json.loads(json.dumps(item[key])))
        elif choice == 1:
            item[f"{key}x"] = item.pop(key)
        elif choice == 2:
            other, where = random.choice(places)
            if (where in other) if isinstance(other, dict) else where < len(other):
                item[key] = json.loads(json.dumps(other[where]))
        elif choice == 3 and type(item[key]) in (int, float):
            item[key] += random.choice((1, -1, 64, -64, 2**32))
        else:
            item[key] = _value(random)
    return tree


def _json(data: bytes, random: random.Random, others: list[bytes]) -> bytes:
    if random.random() < 0.25:
        return _bytes(data, random, others)
    return json.dumps(_tree(json.loads(data), random)).encode("utf-8", "surrogatepass")


def _zip(data: bytes, random: random.Random, others: list[bytes], member: Callable) -> bytes:
    """A whole archive, with right checksums, of changed members."""
    if random.random() < 0.25:
        return _bytes(data, random, others)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    choice = random.randrange(10)
    index = random.randrange(len(members))
    name, content = members[index]
    if choice == 0:
        del members[index]
    elif choice == 1:
        members.append((name, random.choice(members)[1]))
    elif choice == 2:
        name = random.choice(("../escape", "/tmp/escape", name + "x", "/", "a/" * 500, name.upper()))
        members[index] = (name, content)
    elif choice == 3:
        name = random.choice(("model/extra/x", "model/../x", "x.so", "model/data/weights/weight_99"))
        members.append((name, content))
    elif choice == 4:
        members[index] = (name, random.choice(members)[1])
    else:
        largest = [i for i, (n, _) in enumerate(members) if n.endswith(".json")]
        index = random.choice(largest) if largest and random.random() < 0.8 else index
        members[index] = (members[index][0], member(members[index][0], members[index][1], random, others))
    method = zipfile.ZIP_DEFLATED if random.random() < 0.1 else zipfile.ZIP_STORED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _pt2_member(name: str, data: bytes, random: random.Random, others: list[bytes]) -> bytes:
    return _json(data, random, others) if name.endswith(".json") else _bytes(data, random, others)


def _npy(data: bytes, random: random.Random, others: list[bytes]) -> bytes:
    if random.random() < 0.3:
        return _bytes(data, random, others)
    length = int.from_bytes(data[8:10], "little")
    body = data[10 + length :]
    fields = {
        "descr": random.choice(("<f4", ">f8", "|O", "<U9", "|V8", "<c16", [("a", "<f4")], "(2,)<f4", 3, "|b1")),
        "fortran_order": random.choice((True, False, None, 3)),
        "shape": random.choice((SHAPE, SHAPE[1:], (), (0,), (-1, 72), (10**6, 10**9), (2**63,), (True,), [1], (1.5,))),
    }
    kept = {"descr": "<f4", "fortran_order": False, "shape": SHAPE}
    header = kept | {name: fields[name] for name in random.sample(list(fields), random.randrange(1, 3))}
    if random.random() < 0.1:
        header.pop(random.choice(list(header)))
    text = repr(header) if random.random() < 0.9 else "[" * random.choice((50, 3000)) + repr(header)
    text = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    version = random.choice((1, 1, 1, 2, 2, 3, 9))
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    if random.random() < 0.1:
        body = body[: random.randrange(len(body) + 1)]
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + body


def _hjson(data: bytes, random: random.Random, others: list[bytes]) -> bytes:
    if random.random() < 0.3:
        return _bytes(data, random, others)
    words = data.decode().split(" ")
    for _ in range(random.choice((1, 2, 4))):
        i = random.randrange(len(words))
        choice = random.randrange(6)
        if choice == 0:
            del words[i]
        elif choice == 1:
            words.insert(i, random.choice(words))
        elif choice == 2:
            words[i] = random.choice(("{", "}", "[", "]", ":", ",", '"', "'''", "#", "/*", "\n", "\ufeff", "\0"))
        elif choice == 3:
            words[i] = str(random.choice(NUMBERS)) * random.choice((1, 1, 1, 400))
        elif choice == 4:
            words[i] = random.choice("[{") * random.choice((2, 500, 30_000))
        else:
            words[i] = random.choice(("rows:", "ports:", "systolic_array:", "memory:", "0x10", "NaN", "true", "\u4e2d"))
        words = words or [""]
    return " ".join(words).encode(random.choice(("utf-8",) * 8 + ("utf-16", "utf-8-sig")), "surrogatepass")


def _onnx(data: bytes, random: random.Random, others: list[bytes]) -> bytes:
    """Fields of the protobuf changed by their type, or bytes of it."""
    if random.random() < 0.25:
        return _bytes(data, random, others)
    import onnx

    model = onnx.load_from_string(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        places, pending = [], [model]
        while pending:
            message = pending.pop()
            for field, value in message.ListFields():
                places.append((message, field))
                if field.type == field.TYPE_MESSAGE:
                    pending += value if hasattr(value, "append") else [value]
        message, field = random.choice(places)
        value = getattr(message, field.name)
        if random.random() < 0.15:
            message.ClearField(field.name)
            continue
        if hasattr(value, "append"):
            choice, i = random.randrange(4), random.randrange(len(value))
            if choice == 0:
                del value[i]
            elif choice == 1:
                value.append(value[i])
            elif field.type == field.TYPE_MESSAGE:
                value[i].CopyFrom(random.choice(value))
            else:
                value[i] = _scalar(field, value[i], random)
        elif field.type != field.TYPE_MESSAGE:
            with suppress(ValueError):  # an enumeration has no such number
                setattr(message, field.name, _scalar(field, value, random))
    return model.SerializeToString()


def _scalar(field, value, random: random.Random):
    if field.type == field.TYPE_STRING:
        return random.choice(
            ("", value + "x", "x", "y", "w", "Conv", "../escape", "\n\"'", "a" * 2000, "ai.onnx.ml", "Loop")
        )
    if field.type == field.TYPE_BYTES:
        return _bytes(value, random, [value, b"\0" * 64])
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return random.choice((0.0, -1.0, float("inf"), float("nan"), 1e38, 3.5))
    bits = 31 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_ENUM) else 63
    low, high = -(2**bits), 2**bits - 1
    if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        low = 0
    return max(
        low, min(high, random.choice((0, 1, -1, 2, 3, 6, 7, 99, 2**20, 2**31, 2**40, 2**62, -(2**62), value + 1)))
    )


MUTATIONS = {
    "pt2": lambda *given: _zip(*given, _pt2_member),
    "onnx": _onnx,
    "hjson": _hjson,
    "npy": _npy,
    "npz": lambda *given: _zip(*given, lambda name, *inner: _npy(*inner)),
    "manifest": _json,
}


def mutated(corpus: dict[str, list[bytes]], seed: int, case: int) -> tuple[str, bytes]:
    """Kind and content of a case."""
    chance = random.Random(f"{seed} {case}")
    kind = KINDS[case % len(KINDS)]
    return kind, MUTATIONS[kind](chance.choice(corpus[kind]), chance, corpus[kind])


# What reads them


def _read_model(path: Path, folder: Path) -> None:
    from gen.flows.network.sw import generate_sw
    from hls.config import Config

    generate_sw(path, Config(), folder / "out", force=True)


def _read_hjson(path: Path, folder: Path) -> None:
    from hls.config import Config

    Config.load(path)


def _read_npy(path: Path, folder: Path) -> None:
    from gen.inputs import load_array

    load_array(path, "--sample", SHAPE)


def _read_npz(path: Path, folder: Path) -> None:
    from gen.flows.network.data import load_data

    load_data(path, None, SHAPE)


def _read_manifest(path: Path, folder: Path) -> None:
    """All that `heepgen run` and `heepgen xheep` compute from it, with memories full of zeros."""
    import numpy as np

    from gen.flows.measure.measured import is_comparable, places_of, report_of
    from gen.flows.measure.run import check_taps
    from gen.flows.network.application import linked_inputs
    from gen.flows.network.program import mode_of
    from gen.flows.soc.xheep import program_of
    from gen.records.result import to_json
    from sim.firmware import check_placements
    from xheep_integration import project

    application = _application_class().open(folder / "application")
    manifest, config = application.manifest, application.config
    check_taps(application, ())
    linked_inputs(application)
    symbols = dict.fromkeys(("heepgen_result_residual", "heepgen_timing_residual", "heepgen_arena_residual"), 0x8000)
    for software in (False, True):
        mode = mode_of(manifest, software)
        check_placements(config, mode["placements"])
        if not is_comparable(manifest, symbols):
            continue
        places = places_of(manifest, software, symbols, ())
        dumps = {name: np.zeros(size, np.uint8).tobytes() for name, (_, size) in places.items()}
        to_json(report_of(application, mode, dumps, software, 0, ()))
    app = program_of(application, config, folder)
    project.check_memory(config, [app])


def _application_class():
    from gen.flows.network.application import Application

    return Application


READERS = {
    "pt2": _read_model,
    "onnx": _read_model,
    "hjson": _read_hjson,
    "npy": _read_npy,
    "npz": _read_npz,
    "manifest": _read_manifest,
}

# Worker


def attempt(read: Callable[[], None]) -> tuple[str, str]:
    """Outcome and what was said."""
    from hls.errors import HeepgenError

    try:
        read()
    except HeepgenError as error:
        text = str(error)
        return (REFUSED, text) if text and "\n" not in text and len(text) < 4000 else (FAILED, f"no sentence: {text}")
    except BaseException as error:
        return FAILED, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    return ACCEPTED, ""


def _path_of(kind: str, folder: Path) -> Path:
    return folder / "application" / "gen" / "manifest.json" if kind == "manifest" else folder / f"case.{kind}"


def _work(corpus_folder: Path, folder: Path, seed: int, connection) -> None:
    """Receives numbers of cases, answers (kind, outcome, text)."""
    import resource

    os.environ["OMP_NUM_THREADS"] = "1"
    os.chdir(folder)
    import torch

    torch.set_num_threads(1)
    shutil.copytree(corpus_folder / "application", folder / "application")
    corpus = load_corpus(corpus_folder)
    for kind in ("pt2", "onnx"):  # everything is imported, and cached, before files are watched
        (folder / f"case.{kind}").write_bytes(corpus[kind][0])
        attempt(lambda kind=kind: READERS[kind](folder / f"case.{kind}", folder))
    _draw_seldom()
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    outside = _watched(folder)
    connection.send("ready")
    while True:
        case = connection.recv()
        kind, data = mutated(corpus, seed, case)
        path = _path_of(kind, folder)
        path.write_bytes(data)
        outside.clear()
        outcome, text = attempt(lambda kind=kind, path=path: READERS[kind](path, folder))
        if outside:
            outcome, text = OUTSIDE, ", ".join(outside)
        connection.send((kind, outcome, text))


def _draw_seldom() -> None:
    from firmware_gen import api

    draw, number = api.picture, itertools.count()
    api.picture = lambda *given: draw(*given) if next(number) % DRAWN == 0 else b""


def _watched(folder: Path) -> list[str]:
    """Where Python writes, deletes or starts something outside `folder`, from now on."""
    found: list[str] = []
    temporary = os.path.realpath(os.environ.get("TMPDIR", "/tmp"))

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, str | bytes | os.PathLike) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.rename", "os.symlink", "os.link", "os.chmod"):
            path = arguments[1] if event in ("os.rename", "os.symlink", "os.link") else arguments[0]
        elif event in ("os.system", "subprocess.Popen", "os.exec", "socket.connect", "ctypes.dlopen", "os.fork"):
            found.append(f"{event} {arguments}"[:300])
            return
        else:
            return
        place = os.path.realpath(os.fsdecode(path))
        if not place.startswith((str(folder), temporary + "/tmp", os.devnull)):
            found.append(f"{event} {place}")

    sys.addaudithook(hook)
    return found


def corpus_folder(folder: Path) -> Path:
    """Applications are for the hardware of today."""
    from hls.config import Config

    return folder / f"corpus-{Config().hash:08x}"


def load_corpus(folder: Path) -> dict[str, list[bytes]]:
    return {kind: [path.read_bytes() for path in sorted((folder / kind).iterdir())] for kind in KINDS}


class Worker:
    """A process that is started again when it hangs or dies."""

    def __init__(self, corpus: Path, folder: Path, seed: int):
        self._arguments = corpus.resolve(), folder.resolve(), seed
        self._process = None

    def case(self, number: int) -> tuple[str, str, str]:
        kind = KINDS[number % len(KINDS)]
        if self._process is None:
            self._start()
        self._connection.send(number)
        try:
            if self._answers():
                return self._connection.recv()
            outcome, text = HUNG, f"no answer in {SECONDS} s"
        except (EOFError, ConnectionResetError):
            self._process.join(10)
            outcome, text = DIED, f"exit status {self._process.exitcode}"
        self.stop()
        return kind, outcome, text

    def _answers(self) -> bool:
        begun, waited = self._state()[1], 0
        while not self._connection.poll(1):
            state, computed = self._state()
            waited += state != "R"
            if computed - begun + waited > SECONDS:
                return False
        return True

    def _state(self) -> tuple[str, float]:
        """The worker's state, R while it has something to do, and the seconds of the CPU that it took."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _start(self) -> None:
        corpus, folder, seed = self._arguments
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(corpus, folder, seed, other), daemon=True)
        self._process.start()
        other.close()
        self._connection.recv()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def fuzz(
    folder: Path, seed: int, count: int, minutes: float = 1e9, progress: Callable[[str], None] = lambda line: None
) -> Counter:
    """Run cases up to number `count`, for so many minutes; returns {(kind, outcome): cases} of all runs so far."""
    corpus, state = corpus_folder(folder), folder / f"seed-{seed}.json"
    if not (corpus / "onnx").is_dir():
        shutil.rmtree(corpus, ignore_errors=True)
        _corpus(corpus)
    before = json.loads(state.read_text()) if state.exists() else {"next": 0, "counts": []}
    counts = Counter({(kind, outcome): n for kind, outcome, n in before["counts"]})
    worker = Worker(corpus, folder / f"work-{os.getpid()}", seed)
    started = shown = time.monotonic()
    number = before["next"]
    contents = load_corpus(corpus)
    try:
        while number < count and time.monotonic() - started < 60 * minutes:
            kind, outcome, text = worker.case(number)
            counts[kind, outcome] += 1
            if outcome not in (ACCEPTED, REFUSED):
                name = f"{seed}-{number}.{kind}"
                (folder / name).write_bytes(mutated(contents, seed, number)[1])
                (folder / f"{name}.txt").write_text(f"{outcome}\n{text}\n", "utf-8", "backslashreplace")
            number += 1
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                _save(state, number, counts)
                bad = sum(n for (_, o), n in counts.items() if o not in (ACCEPTED, REFUSED))
                progress(f"{number:,} of {count:,} cases, {bad} failed")
    finally:
        worker.stop()
        shutil.rmtree(folder / f"work-{os.getpid()}", ignore_errors=True)
        _save(state, number, counts)
    return counts


def _save(state: Path, number: int, counts: Counter) -> None:
    part = state.with_suffix(".part")
    part.write_text(json.dumps({"next": number, "counts": [[*key, n] for key, n in counts.items()]}))
    part.replace(state)


def table(counts: Counter) -> str:
    outcomes = (ACCEPTED, REFUSED, FAILED, HUNG, DIED, OUTSIDE)
    lines = [f"{'':10}" + "".join(f"{o:>15}" for o in outcomes)]
    for kind in KINDS:
        lines.append(f"{kind:10}" + "".join(f"{counts[kind, o]:>15,}" for o in outcomes))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop then; the next run goes on")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz-files"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    counts = fuzz(
        arguments.folder,
        arguments.seed,
        arguments.count,
        arguments.minutes,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(table(counts))
    sys.exit(any(outcome not in (ACCEPTED, REFUSED) for _, outcome in counts))


if __name__ == "__main__":
    main()
