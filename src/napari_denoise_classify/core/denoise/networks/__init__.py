"""Network architectures, and how a checkpoint is recognised by its content.

Each architecture is a module with ``recognise(shapes)``, which returns its arguments or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .network import Network

TITLES = {"dncnn": "DnCNN", "drunet": "DRUNet", "irunet": "IRUNet", "restormer": "Restormer", "unet": "U-Net"}


def build(architecture: str, **arguments: Any) -> Network:
    """Build a network with random weights.

    Parameters
    ----------
    architecture : {"dncnn", "drunet", "irunet", "restormer", "unet"}
    **arguments
        Of the network; ``samples`` is 1 for gray and 3 for RGB.

    Raises
    ------
    ValueError
        If the architecture is unknown, or does not have an argument.
    """
    from . import dncnn, drunet, irunet, restormer, unet

    builders: dict[str, Callable[..., Network]] = {
        "dncnn": dncnn.DnCNN,
        "drunet": drunet.build,
        "irunet": irunet.IRUNet,
        "restormer": restormer.build,
        "unet": unet.UNet,
    }
    if architecture not in builders:
        raise ValueError(f"network={architecture!r} is not allowed: give one of {', '.join(builders)}.")
    try:
        return builders[architecture](**arguments)
    except TypeError as error:
        raise ValueError(f"{TITLES[architecture]} cannot be built with {arguments}: {error}.") from None


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, dict[str, Any]] | None:
    """Tell which architecture a checkpoint of these shapes is of, and with which arguments; None if of none."""
    from . import dncnn, drunet, irunet, restormer, unet

    for architecture, module in (
        ("dncnn", dncnn),
        ("drunet", drunet),
        ("irunet", irunet),
        ("restormer", restormer),
        ("unet", unet),
    ):
        arguments = module.recognise(shapes)
        if arguments is not None:
            return architecture, arguments
    return None


def build_from(state: Mapping[str, torch.Tensor], what: str) -> Network:
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
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if any(0 in shape for shape in shapes.values()):
        raise ValueError(f"{what} holds no network: some of its {len(shapes)} tensors are empty.")
    found = recognise(shapes)
    if found is None:
        listed = ", ".join(f"{key} {list(shape)}" for key, shape in list(shapes.items())[:3])
        raise ValueError(
            f"{what} holds no network that is known here ({', '.join(TITLES.values())}): its {len(shapes)} tensors "
            f"begin with {listed or 'nothing'}."
        )
    architecture, arguments = found
    title = TITLES[architecture]
    if arguments["samples"] not in (1, 3):
        raise ValueError(f"{what} is a {title} for images of {arguments['samples']} channels: gray (1) or RGB (3) fit.")
    largest = max((max(shape, default=0) for shape in shapes.values()), default=0)
    if largest > 4096 or len(shapes) > 4096:
        raise ValueError(f"{what} is larger than any {title}: up to {largest} channels in {len(shapes)} tensors.")
    expected = _shapes(architecture, arguments)
    for key in sorted(set(expected) | set(shapes)):
        if expected.get(key) != shapes.get(key):
            wanted, got = (list(s[key]) if key in s else "nothing" for s in (expected, shapes))
            raise ValueError(
                f"{what} looks like a {title}, but does not fit it: {key} should be {wanted}, and is {got}."
            )
    network = build(architecture, **arguments)
    network.load_state_dict(dict(state))
    return network


def _shapes(architecture: str, arguments: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tell the shapes of a network's tensors without the memory that they take: a forged file may claim any size."""
    import torch

    from ...deepinverse import import_deepinv

    if architecture in ("drunet", "restormer"):
        import_deepinv()  # not below: what modules make when they are loaded has to be real
    with torch.device("meta"):
        network = build(architecture, **arguments)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
