# SPDX-License-Identifier: Apache-2.0
"""An nn.Sequential with INT8 weights: as PyTorch modules, and as a function of matrices."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import parametrize

from heepstorch import quantization
from heepstorch.errors import HeepstorchError
from heepstorch.quantization import QuantizationScheme

WEIGHTED = (nn.Linear, nn.Conv2d)


class NetworkMode(Enum):
    CONV = "conv"  # one image
    LINEAR = "linear"  # any number of vectors


@dataclass(frozen=True)
class ImageDimensions:
    height: int
    width: int

    def num_pixels(self) -> int:
        return self.height * self.width


class _Dequantised(nn.Module):
    """A weight of the module that it is registered in, computed from INT8 codes; heepgen keeps such codes."""

    scale: torch.Tensor

    def __init__(self, scale: torch.Tensor):
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.to(torch.float32) * self.scale


class Module:
    """A layer, with its weights as INT8 where it has any.

    weights_quantized: (inputs, outputs) int8, weight_scale: its scale, or (outputs,) scales; None without weights. Of a
    convolution, the inputs are channels, rows and columns of the kernel, in this order.
    """

    def __init__(self, torch_module: nn.Module, name: str, qscheme: QuantizationScheme = QuantizationScheme.DEFAULT):
        self.name = name
        self.torch_module = torch_module
        self.quantized_torch_module = copy.deepcopy(torch_module)
        self.weights_quantized: npt.NDArray[np.int8] | None = None
        self.weight_scale: Any = None
        if isinstance(torch_module, WEIGHTED):
            weight = torch_module.weight.detach()
            if weight.dtype != torch.float32:
                raise HeepstorchError(f"layer {name}: its weights are {weight.dtype}; call model.float() first.")
            try:
                matrix = weight.cpu().numpy().reshape(len(weight), -1).T
                self.weights_quantized, self.weight_scale = quantization.quantize(matrix, qscheme)
            except HeepstorchError as error:
                raise HeepstorchError(f"layer {name}: {error}") from None
            rounded = quantization.dequantize(self.weights_quantized, self.weight_scale, qscheme)
            self.quantized_torch_module.weight.data = self._like_weight(rounded).to(weight.device)

    def get_name(self) -> str:
        return self.name

    def get_quantized_torch_module(self) -> nn.Module:
        return self.quantized_torch_module

    def module_of_integers(self) -> nn.Module:
        """The quantised module, on the CPU, computing its weights from their INT8 codes."""
        module = copy.deepcopy(self.quantized_torch_module).cpu()
        if self.weights_quantized is not None:
            module.weight = nn.Parameter(self._like_weight(self.weights_quantized), requires_grad=False)
            scale = torch.from_numpy(np.asarray(self.weight_scale, np.float32))
            if scale.ndim:
                scale = scale.reshape(-1, *[1] * (module.weight.ndim - 1))
            parametrize.register_parametrization(module, "weight", _Dequantised(scale), unsafe=True)
        return module

    def _like_weight(self, matrix: npt.NDArray[Any]) -> torch.Tensor:
        assert isinstance(self.torch_module, WEIGHTED)
        return torch.from_numpy(np.ascontiguousarray(matrix.T)).reshape(self.torch_module.weight.shape)


class SequentialNetwork:
    """Layers by name, in order; called with a matrix, it computes with the INT8 weights.

    A network with a Conv2d or a Flatten takes one image, as a matrix (height * width, channels); any other takes
    vectors, (batch, features). `example_shape` is that of a tensor for PyTorch, with a batch of 1.
    """

    def __init__(
        self,
        modules: OrderedDict[str, Module],
        input_dimensions: ImageDimensions | None = None,
        input_channels: int | None = None,
    ):
        self.modules = modules
        self.input_dimensions = input_dimensions
        self.input_channels = input_channels
        self.example_shape = self._example_shape()
        self._check_layers()

    @staticmethod
    def from_torch_sequential(
        seq: nn.Sequential,
        input_height: int | None = None,
        input_width: int | None = None,
        input_channels: int | None = None,
        *,
        qscheme: QuantizationScheme = QuantizationScheme.DEFAULT,
    ) -> SequentialNetwork:
        """The network of an nn.Sequential; its weights are copied. Dropout is left out.

        The input's sizes are for networks with a Conv2d or a Flatten, which need them all, and for no other. Raises
        HeepstorchError, which is a ValueError, naming the layer, for what cannot be quantised.
        """
        if not isinstance(seq, nn.Sequential):
            raise HeepstorchError(
                f"a {type(seq).__name__} is no nn.Sequential; heepgen itself takes any, see docs/from-heepstor.md."
            )
        sizes = (input_height, input_width, input_channels)
        takes_image = any(isinstance(m, nn.Conv2d | nn.Flatten) for m in seq)
        if takes_image and not all(isinstance(size, int) and size > 0 for size in sizes):
            raise HeepstorchError(
                "a network with Conv2d or Flatten needs the height, width and channels of its input, in this order, "
                f"and was given {sizes}."
            )
        if not takes_image and any(size is not None for size in sizes):
            raise HeepstorchError(
                "a network without Conv2d and Flatten takes vectors: leave height, width and channels out."
            )
        modules: OrderedDict[str, Module] = OrderedDict()
        for name, layer in seq._modules.items():
            assert layer is not None
            if isinstance(layer, nn.Dropout):
                continue
            if sanitized(name) in modules:
                raise HeepstorchError(f"two layers are called {sanitized(name)}: give {name} another name.")
            _check_supported(name, layer)
            modules[sanitized(name)] = Module(layer, name, qscheme)
        dimensions = ImageDimensions(sizes[0], sizes[1]) if takes_image and sizes[0] and sizes[1] else None
        return SequentialNetwork(modules, dimensions, input_channels)

    def get_quantized_torch_module(self) -> nn.Sequential:
        """The layers with INT8 weights times their scale; they share nothing with the original."""
        return nn.Sequential(OrderedDict((name, m.get_quantized_torch_module()) for name, m in self.modules.items()))

    def module_of_integers(self) -> nn.Sequential:
        """`get_quantized_torch_module` for the code generator: on the CPU, in evaluation mode, with weights that are
        computed from INT8 codes, which heepgen takes as they are."""
        return nn.Sequential(OrderedDict((name, m.module_of_integers()) for name, m in self.modules.items())).eval()

    def get_module_by_name(self, name: str) -> Module:
        return self.modules[name]

    def supports_batching(self) -> bool:
        """Whether it takes several inputs at once: when these are vectors."""
        return self.input_dimensions is None

    def to_tensor(self, matrix: npt.NDArray[Any]) -> torch.Tensor:
        """A matrix as the tensor that PyTorch takes, (batch, features) or (1, channels, height, width). Raises
        HeepstorchError when it has another shape."""
        array = np.asarray(matrix, np.float32)
        expected = self.example_shape[1:]
        if self.input_dimensions is not None:
            expected = (self.input_dimensions.num_pixels(), self.example_shape[1])
        if array.ndim != 2 or not len(array) or array.shape[-len(expected) :] != expected:
            raise HeepstorchError(
                f"the input matrix has shape {array.shape}, the network takes "
                + (f"(batch, {expected[0]})." if self.supports_batching() else f"{expected}, pixels by channels.")
            )
        array = array if self.supports_batching() else array.T.reshape(self.example_shape)
        return torch.from_numpy(np.ascontiguousarray(array))

    def forward(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The output for an input matrix: (batch, features), or (height * width, channels) where it is an image."""
        with torch.no_grad():
            output: npt.NDArray[np.float32] = self.module_of_integers()(self.to_tensor(x)).numpy()
        return output if output.ndim == 2 else output.reshape(output.shape[1], -1).T

    __call__ = forward

    def _example_shape(self) -> tuple[int, ...]:
        if self.input_dimensions is not None and self.input_channels is not None:
            return (1, self.input_channels, self.input_dimensions.height, self.input_dimensions.width)
        linear = next((m.torch_module for m in self.modules.values() if isinstance(m.torch_module, nn.Linear)), None)
        if linear is None:
            raise HeepstorchError("the network has neither a Linear nor a Conv2d: there is nothing to quantise.")
        return (1, linear.in_features)

    def _check_layers(self) -> None:
        """Every layer must take what the one before it gives."""
        x = torch.zeros(self.example_shape)
        for name, module in zip(self.modules, self.module_of_integers(), strict=True):
            shape = tuple(x.shape[1:])
            try:
                with torch.no_grad():
                    x = module(x)
            except (RuntimeError, ValueError, IndexError) as error:
                raise HeepstorchError(
                    f"layer {name} ({type(self.modules[name].torch_module).__name__}) does not take {shape}, which the "
                    f"layers before it give: {str(error).splitlines()[0]}."
                ) from None


def sanitized(name: str) -> str:
    """A layer's name as HEEPstor has it in C++."""
    text = re.sub(r"_+", "_", re.sub(r"[^a-zA-Z0-9_]", "_", name)) or "_empty"
    return f"_{text}" if text[0].isdigit() else text


def _check_supported(name: str, layer: nn.Module) -> None:
    if isinstance(layer, (*WEIGHTED, nn.BatchNorm2d)):
        return
    if any(True for _ in layer.parameters()) or any(True for _ in layer.children()):
        raise HeepstorchError(
            f"layer {name} is a {type(layer).__name__}; Linear, Conv2d, BatchNorm2d and layers without weights are "
            "supported here, and by heepgen itself more, see docs/from-heepstor.md."
        )
