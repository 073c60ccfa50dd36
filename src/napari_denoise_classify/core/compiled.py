"""Networks compiled for this computer's processor by OpenVINO, where it is installed.

On a CPU, OpenVINO runs the convolutions of every network here about half as fast again as PyTorch, to the same result
(``benchmarks/speed.py``): it keeps blocked layouts between layers and does activations in the same pass.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .device import processors, trim

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)
_lock = RLock()


@dataclass
class _Model:
    """A compiled network, or None where it could not be compiled; of which weights, and how many are using it."""

    model: Any
    weights: list[tuple[int, int]]
    users: int = 0


_models: WeakKeyDictionary[Any, dict[bool, _Model]] = WeakKeyDictionary()


class Compiled:
    """A compiled network on loan: call it as the network itself, and close it when the work is done.

    A request to compute cannot be shared between threads, so everybody who borrows a network has one of their own.
    """

    def __init__(self, entry: _Model) -> None:
        self._entry = entry
        entry.users += 1
        self._request = entry.model.create_infer_request()

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Run the network on tensors in main memory."""
        import torch

        self._request.infer([tensor.detach().contiguous().numpy() for tensor in tensors], share_inputs=True)
        return torch.from_numpy(self._request.get_output_tensor(0).data.copy())

    def close(self) -> None:
        """Give the memory of intermediate results back, unless somebody else is using the network."""
        with _lock:
            del self._request
            self._entry.users -= 1
            if self._entry.users == 0:
                self._entry.model.release_memory()
                trim()


def compiled(
    network: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    fast: bool = False,
    convert: Callable[[Any], Any] | None = None,
) -> Compiled | None:
    """Compile a network, or take what was compiled before, unless its weights have changed since.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, on the CPU.
    example : tuple of tensor
        The arguments of a call: (N, S, Y, X) and whatever else. Their sizes do not matter later, except S.
    fast : bool
        Whether to compute in bfloat16 where the processor can.
    convert : callable, optional
        From the network to an ``openvino.Model``, for many networks: PyTorch never gives back the memory that it takes
        to trace one, and building the graph layer by layer takes a third of the time.

    Returns
    -------
    Compiled or None
        None where OpenVINO is missing, or does not know what the network does.
    """
    with _lock:
        found = _models.setdefault(network, {})
        weights = _versions(network)
        if fast not in found or found[fast].weights != weights:
            entry = found[fast] = _Model(None, weights)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # PyTorch's, while it traces
                    model = _traced(network, example) if convert is None else convert(network)
                entry.model = _compile(model, fast)
            except Exception:  # it only makes the same result faster
                _log.debug("%s is not compiled", type(network).__name__, exc_info=True)
        return None if found[fast].model is None else Compiled(found[fast])


def forget() -> None:
    """Give back the memory of all compiled networks."""
    with _lock:
        _models.clear()


def _versions(network: torch.nn.Module) -> list[tuple[int, int]]:
    """Return what tells whether weights have changed; PyTorch counts changes in place."""
    weights = chain(network.parameters(), network.buffers())
    return [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in weights]


def _traced(network: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> Any:
    # The frontend itself instead of openvino.convert_model, which reports its use to the makers of OpenVINO.
    from openvino import PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(network, example_input=example)  # nobody else keeps it alive
    model = frontend.convert(frontend.load(decoder))
    for port, tensor in zip(model.inputs, example, strict=True):
        node = port.get_node()
        node.set_element_type(Type.f32)
        node.set_partial_shape(PartialShape([-1, tensor.shape[1], -1, -1] if tensor.ndim == 4 else list(tensor.shape)))
    model.validate_nodes_and_infer_types()
    return model


def _compile(model: Any, fast: bool) -> Any:
    from openvino import Core

    settings = {"INFERENCE_NUM_THREADS": processors(), "INFERENCE_PRECISION_HINT": "bf16" if fast else "f32"}
    return Core().compile_model(model, "CPU", settings)
