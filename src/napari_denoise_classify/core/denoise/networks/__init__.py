"""Network architectures, and how a checkpoint is recognised by its content.

Each architecture is a module with ``recognise(shapes)``, which returns its configuration or None, and ``build``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .dncnn import DnCNN


def build_from(state: Mapping[str, torch.Tensor], what: str) -> DnCNN:
    """Recognise a checkpoint's architecture from its keys and shapes, and build it with these weights.

    Parameters
    ----------
    state : mapping from key to tensor
    what : str
        The name of the checkpoint, for the message.

    Raises
    ------
    ValueError
        If it fits no architecture; names what was found.
    """
    from . import dncnn

    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    found: dict[str, Any] | None = dncnn.recognise(shapes)
    if found is None:
        listed = ", ".join(f"{key} {list(shape)}" for key, shape in list(shapes.items())[:3])
        raise ValueError(
            f"{what} holds no DnCNN: its {len(shapes)} tensors begin with {listed or 'nothing'}. "
            "A DnCNN has model.0.weight, model.0.bias, model.2.weight and so on, batch norm merged."
        )
    network = dncnn.DnCNN(**found)
    network.load_state_dict(dict(state))
    return network
