# SPDX-License-Identifier: Apache-2.0
"""A network as an application that `heepgen run`, `sw` and `xheep` take, and a main that compares with PyTorch."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import firmware_gen
from firmware_gen.architectures.registry import load_config
from firmware_gen.emit.folder import MAIN
from gen.flags import DEFAULT_CONFIG
from gen.flows.accelerator.hardware import geometry
from gen.flows.network.application import Application, linked_inputs
from gen.flows.network.sw import SEED
from heepstorch.errors import HeepstorchError
from heepstorch.example_main import Example, author_of, render, signed
from heepstorch.module import SequentialNetwork
from hls.config import System
from hls.errors import HeepgenError
from hls.output import write_file

HEEPSTOR_C_APPS_DIR = Path("sw/applications")
"""Where applications are written, below the current folder."""

OWN = "generate_example_main"
"""Author of a main that is no first one."""


class CodeGenerator:
    """Writes the application `project_name` of a network to the folder of this name in `applications`.

    config: of the accelerator; by default that of heepstor_cfg.hjson in the current folder, where there is one.
    """

    def __init__(
        self,
        project_name: str,
        sequential_network: SequentialNetwork,
        *,
        config: System | None = None,
        applications: str | Path = HEEPSTOR_C_APPS_DIR,
    ):
        if not re.fullmatch(r"\w[\w.-]*", project_name):
            raise HeepstorchError(f"project {project_name!r}: use letters, digits, - and _, it names a folder.")
        self.project_name = project_name
        self.sequential_network = sequential_network
        default = DEFAULT_CONFIG if Path(DEFAULT_CONFIG).is_file() else None
        self.config = config or load_config(default)
        self.folder = Path(applications) / project_name

    def generate_code(self, append_final_softmax: bool, overwrite_existing_generated_files: bool = False) -> Path:
        """Write the application; returns its folder. Its input is that of the application it replaces, or else random.

        Only what heepgen wrote is replaced, and that with `overwrite_existing_generated_files`. Raises HeepgenError.
        """
        before = self._application()
        if before is not None and not overwrite_existing_generated_files:
            raise HeepstorchError(
                f"{self.folder} exists; generate_code(..., overwrite_existing_generated_files=True) generates it again."
            )
        shape = self.sequential_network.example_shape
        if before is not None and tuple(before.manifest["inputs"][0]["shape"][1:]) == shape[1:]:
            (sample,) = linked_inputs(before)
        else:
            sample = np.random.default_rng(SEED).standard_normal(shape, np.float32)
        self._generate(sample, append_final_softmax)
        main = self.folder / MAIN
        if before is None and main.is_file():
            write_file(main, signed(main.read_text(encoding="utf-8"), "generate_code"), MAIN)
        print(f"generated {self.folder}; heepgen run {self.folder} runs it")
        return self.folder

    def generate_example_main(
        self,
        filename: str,
        input_matrix: npt.NDArray[Any],
        expected_output_matrix: npt.NDArray[Any],
        expected_predictions: Sequence[int],
        true_label_values: Sequence[int],
        overwrite_existing_generated_files: bool,
    ) -> Path:
        """Generate the application again for all inputs of `input_matrix` at once, and write a main that prints outputs
        and predictions beside the expected ones, and the labels; returns its path.

        The matrices are those of `SequentialNetwork`: (batch, features), or one image (height * width, channels), and
        (batch, outputs). A main that was edited is never replaced. Raises HeepgenError.
        """
        if Path(filename).name != filename or Path(filename).suffix not in (".cpp", ".cc", ".cxx"):
            raise HeepstorchError(f"filename={filename!r}: name a C++ file without folders, such as main.cpp.")
        before = self._application()
        if before is None:
            raise HeepstorchError(f"there is no application in {self.folder} yet: call generate_code first.")
        sample = self.sequential_network.to_tensor(input_matrix).numpy()
        example = Example(
            self.project_name,
            geometry(self.config),
            _matrix(expected_output_matrix, len(sample), before.manifest["outputs"][0]["shape"][1:]),
            _indices("expected_predictions", expected_predictions, len(sample)),
            _indices("true_label_values", true_label_values, len(sample)),
        )
        path = self.folder / filename
        self._check_main(path, overwrite_existing_generated_files)
        self._generate(sample, before.options.append_final_softmax)
        write_file(path, signed(render(example), OWN), "filename")
        return path

    def _application(self) -> Application | None:
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return None
        try:
            return Application.open(self.folder)
        except HeepgenError as error:
            raise HeepstorchError(str(error)) from None

    def _generate(self, sample: npt.NDArray[np.float32], softmax: bool) -> None:
        module = self.sequential_network.module_of_integers()
        generator = firmware_gen.CodeGenerator(module, sample, self.folder, self.config, name=self.project_name)
        generator.generate_code(softmax)

    def _check_main(self, path: Path, overwrite: bool) -> None:
        if not path.exists():
            return
        author = author_of(path.read_text(encoding="utf-8", errors="replace"))
        if author is None:
            raise HeepstorchError(f"{path} was edited: move it away, or give another filename.")
        if author == OWN and not overwrite:
            raise HeepstorchError(f"{path} exists; overwrite_existing_generated_files=True writes it again.")


def flatten_input_to_matrix(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An image (channels, height, width), or a batch of one, as the matrix (height * width, channels)."""
    array = np.asarray(x)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3:
        raise HeepstorchError(
            f"an array of shape {array.shape} is no image: give (channels, height, width), or one of these."
        )
    return array.reshape(len(array), -1).T


def _matrix(matrix: npt.NDArray[Any], rows: int, row_shape: Sequence[int]) -> npt.NDArray[np.float32]:
    array, expected = np.asarray(matrix, np.float32), (rows, *row_shape)
    if array.shape != expected or array.ndim != 2:
        raise HeepstorchError(f"expected_output_matrix has shape {array.shape}, the network gives {expected}.")
    if not np.isfinite(array).all():
        raise HeepstorchError("expected_output_matrix holds NaN or infinity.")
    return array


def _indices(what: str, values: Sequence[int], rows: int) -> tuple[int, ...]:
    try:
        indices = tuple(map(operator.index, values))
    except TypeError:
        raise HeepstorchError(f"{what} has to be a list of {rows} integers, this is {values!r}.") from None
    if len(indices) != rows:
        raise HeepstorchError(f"{what} has {len(indices)} entries, there are {rows} inputs: give one for each.")
    return indices
