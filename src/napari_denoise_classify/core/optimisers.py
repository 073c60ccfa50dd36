"""What moves the weights of a network in training: Adam, and Muon for the convolutions of plain chains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_NARROW = 8  # maps: a matrix of fewer rows or columns has little to make orthogonal


def make_optimisers(network: torch.nn.Module, learning_rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Return the optimisers that train a network, each for its own share of the parameters.

    AdamW trains everything, except in networks that set ``orthogonal = True``: there Muon trains the kernels between
    hidden layers. Its steps are orthogonal matrices, so that no direction of a layer is left behind, and a deep chain
    of convolutions needs no batch normalisation; their size is that of Adam's, for which one learning rate serves both.

    Parameters
    ----------
    network : torch.nn.Module
        On its device and in its memory layout already. One with ``parameter_groups(learning_rate)`` decides itself
        which of its parts learn how fast.
    learning_rate, weight_decay : float

    References
    ----------
    Loshchilov and Hutter, Decoupled weight decay regularization, ICLR (2019). Jordan et al., Muon: an optimizer for
    hidden layers in neural networks (2024); Liu et al., Muon is scalable for LLM training, arXiv:2502.16982 (2025).
    """
    import torch

    grouped: Any = getattr(network, "parameter_groups", None)
    if grouped is not None:
        return [torch.optim.AdamW(grouped(learning_rate), lr=learning_rate, weight_decay=weight_decay)]
    kernels = [p for p in network.parameters() if _is_hidden(p)] if getattr(network, "orthogonal", False) else []
    chosen = {id(p) for p in kernels}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=learning_rate, weight_decay=weight_decay)]
    if kernels:
        found.append(_muon(kernels, learning_rate, weight_decay))
    return found


def _is_hidden(parameter: torch.Tensor) -> bool:
    return parameter.ndim == 4 and min(parameter.shape[:2]) >= _NARROW


def _muon(kernels: list[torch.nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return Muon for convolutions: it sees each (out, in, y, x) as the matrix (out, the rest), in the same memory."""
    import torch

    matrices = [torch.nn.Parameter(_flat(kernel.detach(), kernel)) for kernel in kernels]
    muon = torch.optim.Muon(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def hand_over(*_: Any) -> None:
        for kernel, matrix in zip(kernels, matrices, strict=True):
            matrix.grad = None if kernel.grad is None else _flat(kernel.grad, kernel)

    muon.register_step_pre_hook(hand_over)
    return muon


def _flat(tensor: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Return a kernel or its gradient as a matrix, in the order of the kernel's memory: of the kernel it is a view."""
    import torch

    last = kernel.is_contiguous(memory_format=torch.channels_last)
    return (tensor.permute(0, 2, 3, 1) if last else tensor).flatten(1)
