# SPDX-License-Identifier: Apache-2.0
"""Loading a torch.export archive (.pt2) from an untrusted source.

torch.export.load executes what the archive asks for in many places besides torch.load: pickled custom
objects, compiled libraries, sympy expressions of dynamic shapes (evaluated as Python), imports in pytree
specifications, guard code, and operator names resolved anywhere below `torch`. TORCH_FORCE_WEIGHTS_ONLY_LOAD
covers only the first kind, and not all of it.

So nothing of the original reaches torch: an archive is read with zipfile and json, everything outside a
short allow-list is refused, and a clean copy with raw tensors, plain shapes and known ATen operators is
packed, and read by `archive`, or given to torch.export.load where the program is not one of common operators.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from firmware_gen.frontend.aten import KNOWN, is_function
from firmware_gen.frontend.exported.archive import read_program
from firmware_gen.frontend.exported.decompositions import WRITTEN_NAMES
from firmware_gen.frontend.exported.dynamic import chosen_sizes, fix_sizes, open_sizes, symbol_of
from firmware_gen.frontend.exported.hints import QUANTISED_ACTIVATIONS, hint, not_supported
from firmware_gen.frontend.exported.integers import DEQUANTISERS, know_operators
from firmware_gen.names import safe_name
from firmware_gen.refusal import refusal
from hls.errors import HeepgenError

MODEL = "models/model.json"
SAMPLE = "data/sample_inputs/model.pt"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+"
)
RAW_TENSOR = re.compile(r"(weight|tensor)_\d+")
DROPPED = re.compile(r"extra/.*|data/sample_inputs/model\.pt")

FORBIDDEN_KEYS = {
    "as_expr": "a dynamic shape",
    "expr_str": "a symbolic expression",
    "as_sym_int": "a dynamic size",
    "as_sym_ints": "a dynamic size",
    "as_sym_float": "a dynamic number",
    "as_sym_floats": "a dynamic number",
    "as_sym_bool": "a dynamic condition",
    "as_custom_obj": "a custom object",
    "custom_obj": "a custom object",
    "as_graph": "a nested graph (of torch.cond or a loop in its forward)",
    "as_operator": "an operator as an argument",
}
PLAIN_SPECS = {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", None}
WRAPPERS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Operators that run a graph as it is, and which of their arguments it is."""
WRITERS = {"copy", "fill", "zero", "index_put", "index_copy", "index_add", "masked_fill", "scatter"}
"""Loaded although not all models with them are supported, so that the refusal can name the buffer that they write."""
ATEN = KNOWN | WRITERS | WRITTEN_NAMES | {"_assert_tensor_metadata"}
TARGET = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]+)\.[A-Za-z0-9_]+")
QUANTISED = re.compile(r"torch\.ops\.(quantized_decomposed|torchao)\.([A-Za-z0-9_]+)\.[A-Za-z0-9_]+")


def load_pt2(
    path: Path, input_shape: tuple[int, ...] | None = None, batch: int | None = None
) -> torch.export.ExportedProgram:
    """The ExportedProgram in `path`, without running anything that the archive brings along; `input_shape` and `batch`
    give the sizes that it leaves open, see `dynamic.chosen_sizes`. Its `archive` is the clean copy that was read.

    Raises HeepgenError for damaged files, for anything an archive of a supported model does not need, and for
    unsupported operators, by layer name.
    """
    members = _read_members(path)
    clean = {name: data for name, data in members.items() if PLAIN.fullmatch(name)}
    weights, constants = (_checked_weights(path, _parse(path, name, members)) for name in CONFIGS)
    clean |= {name: _dump(table) for name, table in zip(CONFIGS, (weights, constants), strict=True)}
    program = _parse(path, MODEL, members)
    _inline(path, program)
    _fix_sizes(path, program, input_shape, batch)
    clean[MODEL] = _dump(_checked_program(path, program))
    know_operators({match[1] for match in QUANTISED.finditer(clean[MODEL].decode())})
    clean[SAMPLE] = b""
    packed = _packed(clean)
    loaded = None if constants["config"] else read_program(program, weights, _raw(clean))
    if loaded is None:
        with _weights_only():
            loaded = export_load(path, io.BytesIO(packed))
    loaded.archive = packed  # type: ignore[attr-defined]
    return loaded


def export_load(path: Path, file: Path | IO[bytes]) -> torch.export.ExportedProgram:
    """torch.export.load of `file`, its errors as one sentence about `path`: not safe by itself."""
    logger, logged = logging.getLogger("torch.export"), _LoggedError()
    logger.addFilter(logged)
    try:
        return torch.export.load(file)
    except Exception as error:
        cause = logged.error or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise HeepgenError(
            f"{path}: torch {torch.__version__} cannot read this archive ({reason}); export the model again "
            "with this version"
        ) from error
    finally:
        logger.removeFilter(logged)


class _LoggedError(logging.Filter):
    """Keeps the error that torch.export.load logs, with its traceback, instead of raising it."""

    error: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        self.error = record.exc_info[1] if record.exc_info else self.error
        return False


def _read_members(path: Path) -> dict[str, bytes]:
    """Archive members by name, without the top folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if not any(i.filename.partition("/")[2] == MODEL for i in infos):
                raise _incomplete(path, f"it holds no {MODEL}")
            if sum(i.file_size for i in infos) > path.stat().st_size:
                raise _unsafe(path, "compressed or overlapping members")
            members = {}
            for info in infos:
                name = info.filename.partition("/")[2]
                if name in members:
                    raise _unsafe(path, f"two members called {name}")
                if not (PLAIN.fullmatch(name) or DROPPED.fullmatch(name) or name in (MODEL, *CONFIGS)):
                    raise _unsafe(path, f"a member {info.filename}")
                members[name] = archive.read(info)
    except HeepgenError:
        raise
    except OSError as error:  # of a damaged offset too
        raise _incomplete(path, error.strerror or "it cannot be read") from error
    except Exception as error:  # zipfile, zlib and struct each have their own
        raise _incomplete(path, str(error) or type(error).__name__) from error
    return members


def _parse(path: Path, name: str, members: dict[str, bytes]) -> Any:
    try:
        return json.loads(members[name])
    except KeyError:
        raise _incomplete(path, f"it holds no {name}") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, name, error) from error


def _dump(tree: object) -> bytes:
    return json.dumps(tree).encode()


def _incomplete(path: Path, reason: str) -> HeepgenError:
    return HeepgenError(
        f"{path} is not a complete torch.export archive ({reason}); save it again with torch.export.save"
    )


def _damaged(path: Path, name: str, error: Exception) -> HeepgenError:
    return HeepgenError(
        f"{path}: its {name} is damaged ({type(error).__name__}: {error}); save it again with torch.export.save"
    )


PLAIN_MODEL = "export a plain model with fixed shapes"
PLAIN_WEIGHTS = "export a model with plain weights, those of torchao after torchao.utils.unwrap_tensor_subclass(model)"


def _unsafe(path: Path, what: str, instead: str = PLAIN_MODEL) -> HeepgenError:
    return HeepgenError(
        f"{path} holds {what}, which a supported model does not need and which might run code when loaded; "
        f"{instead}, or pass --trust-pickle if you trust the file"
    )


def _checked_weights(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Weight and constant tables: every entry must be raw bytes, none a pickle."""
    _refuse_keys(path, config)
    try:
        for name, entry in config["config"].items():
            if entry["use_pickle"] is not False or not RAW_TENSOR.fullmatch(entry["path_name"]):
                raise _unsafe(path, f"the pickled tensor or object {name}", PLAIN_WEIGHTS)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, "table of weights", error) from error
    return config


def _fix_sizes(path: Path, program: dict[str, Any], input_shape: tuple[int, ...] | None, batch: int | None) -> None:
    try:
        _, sizes = open_sizes(program)
        names = [symbol_of(size) if isinstance(size, str) else None for size in sizes]
        chosen = chosen_sizes(str(path), [None if isinstance(s, str) else s for s in sizes], input_shape, batch)
        symbols = {name: size for name, size in zip(names, chosen, strict=True) if name}
        if any(symbols[name] != size for name, size in zip(names, chosen, strict=True) if name):
            raise HeepgenError(f"{path}: --input-shape gives one dynamic size two values, {list(chosen)}")
        if symbols:
            _check_ranges(path, program["range_constraints"], symbols)
            fix_sizes(program, symbols)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise _damaged(path, MODEL, error) from error


def _check_ranges(path: Path, ranges: dict[str, Any], symbols: dict[str, int]) -> None:
    for name, size in symbols.items():
        low, high = (ranges.get(name) or {}).get("min_val"), (ranges.get(name) or {}).get("max_val")
        if (low is not None and size < low) or (high is not None and size > high):
            raise HeepgenError(
                f"{path} was exported for sizes from {low} to {high} where {size} is to be compiled: "
                "give --batch or --input-shape, or export the model again"
            )


def _inline(path: Path, program: dict[str, Any]) -> None:
    """Put what is within torch.no_grad() or torch.autocast in the place of the operator that runs it."""
    try:
        graph = program["graph_module"]["graph"]
        graph["nodes"] = list(_inlined(path, graph["nodes"], graph["tensor_values"]))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError) as error:
        raise _damaged(path, MODEL, error) from error


def _inlined(path: Path, nodes: list[dict[str, Any]], known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`known`: tensors by name, which grow by those of the graphs within; these get names that are new."""
    for node in nodes:
        name = str(node["target"]).removeprefix("torch.ops.higher_order.")
        if name not in WRAPPERS:
            yield node
            continue
        arguments = [one["arg"] for one in node["inputs"]]
        if name == "wrap_with_autocast" and arguments[2]["as_bool"] is not False:
            raise HeepgenError(f"{path} computes in torch.autocast, not in float32: export it without")
        place = WRAPPERS[name]
        inner = arguments[place]["as_graph"]["graph"]
        parts = list(_inlined(path, inner["nodes"], inner["tensor_values"]))
        taken, returned = ([one["as_tensor"]["name"] for one in inner[key]] for key in ("inputs", "outputs"))
        results = [one["as_tensor"]["name"] for one in node["outputs"]]
        names = dict(zip(taken, [one["as_tensor"]["name"] for one in arguments[place + 1 :]], strict=True))
        again = []
        for own, result in zip(returned, results, strict=True):
            if names.setdefault(own, result) != result:  # what it takes, or returns twice
                again.append((names[own], result))
        for own, tensor in inner["tensor_values"].items():
            known.setdefault(names.setdefault(own, _new_name(own, known)), tensor)
        for part in parts:
            inputs = [one | {"arg": _renamed(one["arg"], names)} for one in part["inputs"]]
            yield part | {"inputs": inputs, "outputs": _renamed(part["outputs"], names)}
        for own, result in again:
            source, copied = ({"as_tensor": {"name": name}} for name in (own, result))
            inputs = [{"name": "self", "arg": source, "kind": 1}]
            yield node | {"target": "torch.ops.aten.alias.default", "inputs": inputs, "outputs": [copied]}


def _new_name(stem: str, known: Collection[str]) -> str:
    return next(name for number in itertools.count() if (name := f"{stem}_in_{number}") not in known)


def _renamed(tree: Any, names: Mapping[str, str]) -> Any:
    """Arguments that refer to values by other names."""
    if isinstance(tree, list):
        return [_renamed(item, names) for item in tree]
    if not isinstance(tree, dict):
        return tree
    own = {"name": names.get(tree["name"], tree["name"])} if isinstance(tree.get("name"), str) else {}
    return {key: _renamed(value, names) for key, value in tree.items()} | own


def _checked_program(path: Path, program: dict[str, Any]) -> dict[str, Any]:
    _refuse_keys(path, program)
    try:
        module = program["graph_module"]
        computed = _names_in([spec.get("user_input") for spec in module["signature"]["input_specs"]])
        for node in module["graph"]["nodes"]:
            stack = _module_stack(str(node["metadata"].get("nn_module_stack") or ""))
            constant = not computed & _names_in([i["arg"] for i in node["inputs"]])
            computed |= set() if constant else _names_in(node["outputs"])
            _check_node(node, stack, constant)
            node["metadata"] = {"nn_module_stack": ";".join(map(",".join, stack))} if stack else {}
        _check_specs(path, module["module_call_graph"])
        if program.get("range_constraints") or module.get("treespec_namedtuple_fields"):
            raise _unsafe(path, "dynamic shapes or named tuples")
        module["metadata"] = {}
        program["guards_code"] = []
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, MODEL, error) from error
    return program


def _names_in(tree: object) -> set[str]:
    """Names of the values that arguments refer to."""
    if isinstance(tree, list):
        return set().union(*map(_names_in, tree))
    if not isinstance(tree, dict):
        return set()
    return {tree["name"]} if isinstance(tree.get("name"), str) else _names_in(list(tree.values()))


def _refuse_keys(path: Path, tree: object) -> None:
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key in item.keys() & FORBIDDEN_KEYS.keys():
                raise _unsafe(path, f"{FORBIDDEN_KEYS[key]} ({key})")
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


STACK = re.compile(r"[^,;]*?((?<=L__self__).*?|)(?:@\d+)?,(\1(?:@\d+)?),([\w.]+)(?:;|$)", re.DOTALL)
"""One module: a key that ends in the module's path, that path, which may hold anything, and the class."""


def _module_stack(text: str) -> list[tuple[str, str, str]]:
    """(key, path, class) of the modules around a node, in names that torch can read; none when it is something else."""
    found = list(STACK.finditer(text))
    if "".join(m[0] for m in found) != text:
        return []
    paths = [safe_name(m[2]) if m[2] else "" for m in found]
    # Keys as torch writes them: the program may be saved, and read here again.
    return [(f"{index}L__self__{path}", path, m[3]) for index, (path, m) in enumerate(zip(paths, found, strict=True))]


def _check_node(node: dict[str, Any], stack: list[tuple[str, str, str]], constant: bool) -> None:
    """`constant`: it reads nothing that depends on an input."""
    target = str(node["target"])
    match = TARGET.fullmatch(target)
    names = {match[1], match[1].rstrip("_")} if match else set()
    advised = not constant and any(map(hint, names))
    if target == "_operator.getitem" or names & ATEN or (not advised and any(map(_is_function, names))):
        return
    quantised = QUANTISED.fullmatch(target)
    if quantised and f"{quantised[1]}::{quantised[2]}" in DEQUANTISERS:
        return
    layer = (stack[-1][1] if stack else "") or str(node["name"])
    op = match[1] if match else target
    if quantised:
        raise refusal(layer, quantised[2], QUANTISED_ACTIVATIONS)
    raise refusal(layer, op, not_supported(op))


def _is_function(name: str) -> bool:
    operators = getattr(torch.ops.aten, name, None)
    return operators is not None and any(is_function(getattr(operators, o)) for o in operators.overloads())


def _check_specs(path: Path, module_call_graph: list[Any]) -> None:
    """Pytree specifications may import modules: allow only tuples, lists and dicts with string keys."""
    for entry in module_call_graph:
        for key in ("in_spec", "out_spec"):
            text = (entry.get("signature") or {}).get(key)
            if text:
                _check_spec(path, json.loads(text)[1])


def _check_spec(path: Path, spec: dict[str, Any]) -> None:
    context = spec["context"]
    keys = json.loads(context) if isinstance(context, str) else context
    plain = keys is None or (isinstance(keys, list) and all(isinstance(k, str) for k in keys))
    if spec["type"] not in PLAIN_SPECS or not plain:
        raise _unsafe(path, f"an argument structure of type {spec['type']}")
    for child in spec["children_spec"]:
        _check_spec(path, child)


def _packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"model/{name}"), data)  # without the time of day
    return buffer.getvalue()


def _raw(members: dict[str, bytes]) -> dict[str, bytes]:
    """Tensors of the weights by their names in the table."""
    folder = "data/weights/"
    return {name.removeprefix(folder): data for name, data in members.items() if name.startswith(folder)}


@contextmanager
def _weights_only() -> Iterator[None]:
    """A second line of defence: every torch.load inside is weights_only."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
