"""The figure of a training: loss and score over the epochs, and a patch before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.denoise.training import Epoch

_LOSS, _SCORE = "#4c9be8", "#f0913a"
_SMALL = 8


class Curves:
    """Draws epochs on a canvas for Qt.

    Parameters
    ----------
    colours : callable
        Returns the colours of background and text, as matplotlib takes them; asked at every drawing.
    """

    def __init__(self, colours: Callable[[], tuple[Any, Any]]) -> None:
        # Only here: panels open without waiting for matplotlib.
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from qtpy.QtWidgets import QSizePolicy

        self._colours = colours
        # Little room between the curves and the patches: panels are narrow.
        layout = ConstrainedLayoutEngine(h_pad=0.02, hspace=0.02)
        self.figure: Any = Figure(figsize=(3.6, 3.4), layout=layout)
        canvas: Any = FigureCanvasQTAgg  # matplotlib has no types for it
        self.canvas = canvas(self.figure)
        self.canvas.setObjectName("curves")
        self.canvas.setMinimumHeight(230)
        self.canvas.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def draw(self, epochs: Sequence[Epoch], total: int, clean: bool) -> None:
        """Draw all epochs so far, and the example of the last one.

        Parameters
        ----------
        epochs : sequence of Epoch
        total : int
            How many there will be.
        clean : bool
            Whether there are clean images, so that scores are PSNR; else they are negative losses.
        """
        background, text = self._colours()
        self.figure.clear()
        planes = epochs[-1].example if epochs else ()
        above: Any = self.figure
        if planes:
            above, below = self.figure.subfigures(2, 1, height_ratios=(1.1, 1))
            captions = ("input", f"output, epoch {epochs[-1].number}", "clean")
            for k, plane in enumerate(planes):
                axes = below.add_subplot(1, len(planes), k + 1)
                axes.imshow(plane[..., 0] if plane.shape[-1] == 1 else plane, cmap="gray", vmin=0, vmax=1)
                axes.set_axis_off()
                axes.set_title(captions[k], fontsize=_SMALL, color=text, pad=3)
        self._draw_curves(above, epochs, total, clean)
        for part in (self.figure, *self.figure.subfigs):
            part.set_facecolor(background)
        self.canvas.draw()

    def _draw_curves(self, figure: Any, epochs: Sequence[Epoch], total: int, clean: bool) -> None:
        from matplotlib.ticker import MaxNLocator

        background, text = self._colours()
        axes = figure.add_subplot()
        numbers = [e.number for e in epochs]
        style = {"marker": ".", "markersize": 4, "linewidth": 1.2}
        axes.plot(numbers, [e.loss for e in epochs], color=_LOSS, label="training", **style)
        axes.set_xlabel("epoch", fontsize=_SMALL, color=text)
        axes.set_xlim(0.5, max(total, 1) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if clean:
            axes.set_ylabel("training loss", fontsize=_SMALL, color=_LOSS)
            second = axes.twinx()
            second.plot(numbers, [e.score for e in epochs], color=_SCORE, **style)
            second.set_ylabel("PSNR (dB)", fontsize=_SMALL, color=_SCORE)
            second.yaxis.set_major_locator(MaxNLocator(5))
            second.ticklabel_format(useOffset=False)
        else:  # the score is minus the loss: one scale holds both
            axes.plot(numbers, [-e.score for e in epochs], color=_SCORE, label="held out", **style)
            axes.set_ylabel("loss", fontsize=_SMALL, color=text)
            axes.legend(fontsize=_SMALL - 1, labelcolor=text, frameon=False)
        for one in figure.axes:
            one.set_facecolor(background)
            one.tick_params(colors=text, labelsize=_SMALL - 1)
            for spine in one.spines.values():
                spine.set_color(text)
