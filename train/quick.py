"""A quicker forward pass on a CPU: a network's layers compiled by OpenVINO, where it is installed and agrees.

What is compiled are the layers before the head, and those of the head's modules that take one feature map
each, which are its convolutions. What the head does with their outputs stays PyTorch's, so that every head
that Ultralytics has works as it is. On two cores, a pass of yolo11n at 320 pixels takes 11 ms instead of 26.

The first image of every shape is computed by both, and OpenVINO is left where the two differ.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any

import numpy as np
import torch
from ultralytics.nn.tasks import BaseModel

# Largest difference to PyTorch's value, in units of an output's standard deviation, but at least of 1. Sums
# in another order differ by about 1e-5; half precision, which OpenVINO takes by itself on some CPUs, by more
# than 1e-2.
TOLERANCE = 1e-3
# Set to "torch", nothing is compiled.
SWITCH = "SHIFTSCOPE_BACKEND"
_TRACING = Lock()


class _HeadLayer(torch.nn.Module):
    """A module of the head that gives what was computed elsewhere, and what it computes itself where nothing
    was.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self.given: torch.Tensor | None = None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The output for a feature map."""
        output: torch.Tensor = self.module(features) if self.given is None else self.given
        return output


class _Layers(torch.nn.Module):
    """A network without its head: the maps that enter it, the mean of the last of its layers, and the outputs
    of the head's modules that take one map each.
    """

    def __init__(self, network: Any, from_maps: list[tuple[torch.nn.Module, int]]) -> None:
        super().__init__()
        *layers, head = network.model
        self.layers: Any = torch.nn.ModuleList(layers)
        self.save, self.sources = set(network.save), list(head.f)
        self.from_maps = torch.nn.ModuleList(module for module, _ in from_maps)
        self.levels = [level for _, level in from_maps]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """All outputs for images (N, 3, H, W), as `ultralytics.nn.tasks.BaseModel` computes them."""
        current: Any = images
        outputs: list[Any] = []
        for layer in self.layers:
            if layer.f != -1:
                current = (
                    outputs[layer.f]
                    if isinstance(layer.f, int)
                    else [current if source == -1 else outputs[source] for source in layer.f]
                )
            current = layer(current)
            outputs.append(current if layer.i in self.save else None)
        maps = [
            current if source in (-1, len(self.layers) - 1) else outputs[source] for source in self.sources
        ]
        heads = [module(maps[level]) for module, level in zip(self.from_maps, self.levels, strict=True)]
        return (*maps, current.mean((2, 3)), *heads)


class QuickNetwork:
    """A network whose forward pass OpenVINO computes, boxes excepted.

    Parameters
    ----------
    network
        A fused `ultralytics.nn.tasks.BaseModel` on the CPU that `can_compile` takes; its forward pass is
        replaced.
    keep_embedding
        Called with the mean of the layer before the head, (N, C), which a hook on that layer would no longer
        see.
    threads
        Of a forward pass.

    Attributes
    ----------
    problem : str
        Why PyTorch computes everything again, "" while OpenVINO does.
    """

    def __init__(self, network: Any, keep_embedding: Callable[[torch.Tensor], None], threads: int) -> None:
        self.network, self.keep_embedding, self.threads, self.problem = network, keep_embedding, threads, ""
        self._plain = network.forward
        self._layers: list[_HeadLayer] = []
        self._request: Any = None
        self._agreed: set[tuple[int, ...]] = set()
        network.forward = self._forward

    def stop(self, problem: str) -> None:
        """Let PyTorch compute everything again, and say why."""
        self.problem = problem
        self.network.forward = self._plain

    def _forward(self, images: torch.Tensor, *args: Any, **options: Any) -> Any:
        """The head's output, as the network itself gives it."""
        try:
            if self._request is None:
                # PyTorch traces one network at a time.
                with _TRACING:
                    self._compile(images)
            # OpenVINO's next pass overwrites what this one gives, and users of the maps may keep them.
            outputs = [
                torch.from_numpy(np.array(output))
                for output in self._request.infer([images.numpy()]).values()
            ]
        except Exception as error:  # OpenVINO raises whatever its converters and its compiler raise
            self.stop(f"OpenVINO cannot run this network ({str(error).strip().splitlines()[0][:200]})")
            return self._plain(images, *args, **options)
        if tuple(images.shape) not in self._agreed:
            difference = self._difference(images, outputs)
            if not difference <= TOLERANCE:
                self.stop(f"OpenVINO's values differ from PyTorch's by {difference:.1g}")
                return self._plain(images, *args, **options)
            self._agreed.add(tuple(images.shape))
        maps, embedding, given = self._split(outputs)
        self.keep_embedding(embedding)
        for layer, output in zip(self._layers, given, strict=True):
            layer.given = output
        try:
            return self.network.model[-1](maps)
        finally:
            for layer in self._layers:
                layer.given = None

    def _split(
        self, outputs: list[torch.Tensor]
    ) -> tuple[list[torch.Tensor], torch.Tensor, list[torch.Tensor]]:
        """The maps that enter the head, the embedding, and the outputs of the head's layers."""
        count = len(self.network.model[-1].f)
        return outputs[:count], outputs[count], outputs[count + 1 :]

    def _compile(self, images: torch.Tensor) -> None:
        """Trace the layers and compile them for inputs of every shape."""
        # OpenVINO's own convert_model does the same and reports to its makers that it was used.
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        from_maps = self._head_layers(images)
        layers = _Layers(self.network, [(layer.module, level) for layer, level in from_maps]).eval()
        with torch.no_grad(), warnings.catch_warnings():
            # PyTorch calls its tracer deprecated; OpenVINO reads its successor's result too, after a minute.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(layers, images, check_trace=False)  # type: ignore[no-untyped-call]
        front_end = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=images)
        model = front_end.convert(front_end.load(decoder))
        model.reshape([-1, 3, -1, -1])
        compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": self.threads,
                # A thread that is bound to a core waits for whatever else runs on it.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._request = compiled.create_infer_request()
        self._layers = [layer for layer, _ in from_maps]

    def _head_layers(self, images: torch.Tensor) -> list[tuple[_HeadLayer, int]]:
        """The head's modules that take one map each, replaced by `_HeadLayer`, and the map of each; found by
        watching the head work.
        """
        head = self.network.model[-1]
        found: dict[str, tuple[int, Any]] = {}
        maps: list[torch.Tensor] = []
        handles = [head.register_forward_pre_hook(lambda _, inputs: maps.extend(inputs[0]))]

        def watch(name: str) -> Callable[..., None]:
            def hook(
                module: torch.nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any
            ) -> None:
                level = next(
                    (i for i, level in enumerate(maps) if len(inputs) == 1 and inputs[0] is level), None
                )
                if level is not None and not options and isinstance(output, torch.Tensor):
                    # Called twice, it is of no use: the second output may be another one.
                    found[name] = (-1 if name in found else level, module)

            return hook

        for name, module in head.named_modules():
            if name:
                handles.append(module.register_forward_hook(watch(name), with_kwargs=True))
        self._watch(images, handles)
        layers = []
        for name, (level, module) in found.items():
            inside = any(name.startswith(f"{other}.") for other in found)
            if level >= 0 and not inside:
                layer = _HeadLayer(module).eval()
                parent, _, own = name.rpartition(".")
                setattr(head.get_submodule(parent), own, layer)
                layers.append((layer, level))
        return layers

    def _watch(self, images: torch.Tensor, handles: list[Any]) -> None:
        """Let PyTorch compute a forward pass under hooks, and take them away."""
        try:
            with torch.no_grad():
                self._plain(images)
        finally:
            for handle in handles:
                handle.remove()

    def _difference(self, images: torch.Tensor, outputs: list[torch.Tensor]) -> float:
        """Largest difference between OpenVINO's outputs and PyTorch's, see TOLERANCE."""
        plain: list[torch.Tensor] = []
        results: dict[int, torch.Tensor] = {}
        embeddings: list[torch.Tensor] = []
        *_, last, head = self.network.model
        handles = [
            head.register_forward_pre_hook(lambda _, inputs: plain.extend(m.clone() for m in inputs[0])),
            *(
                layer.register_forward_hook(
                    lambda _, __, output, at=at: results.__setitem__(at, output.clone())
                )
                for at, layer in enumerate(self._layers)
            ),
            last.register_forward_hook(lambda _, __, output: embeddings.append(output.mean((2, 3)))),
        ]
        self._watch(images, handles)
        expected = [*plain, embeddings[-1], *(results[at] for at in range(len(self._layers)))]
        return max(
            float((ours - theirs).abs().max()) / max(1.0, float(theirs.std()))
            for ours, theirs in zip(outputs, expected, strict=True)
        )


def can_compile(network: Any) -> bool:
    """Whether OpenVINO is there, is wanted, and can take a network.

    Networks that pass more than feature maps between their layers, such as YOLO-World's text, are left to
    PyTorch.
    """
    if os.environ.get(SWITCH) == "torch" or not isinstance(network, BaseModel):
        return False
    if (
        type(network).predict is not BaseModel.predict
        or type(network)._predict_once is not BaseModel._predict_once
    ):
        return False
    layers: Any = network.model
    with suppress(ImportError):
        import openvino  # noqa: F401

        return isinstance(layers[-1].f, list)
    return False
