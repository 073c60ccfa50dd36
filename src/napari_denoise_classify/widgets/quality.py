"""The panel Quality: figures beside a reference, and what the denoiser took away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from magicgui.widgets import CheckBox, ComboBox, Container, Label, PushButton
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QSizePolicy, QTableWidget, QTableWidgetItem

from ..core.estimation import NoiseEstimate, estimate_noise_iter
from ..core.progress import USER_ERRORS, Steps, within
from ..core.quality import (
    NOT_FOR_QUANTIFICATION,
    ResidualStructure,
    compare_iter,
    residual_iter,
    residual_structure_iter,
)
from ..core.whole import write_whole
from .dock import Dock, keeping, layer_box, narrow
from .layers import METADATA_KEY, Source, take
from .saving import ask_path

if TYPE_CHECKING:
    import napari
    import pandas as pd

_ROWS = {
    "psnr": ("PSNR (dB)", "Peak signal-to-noise ratio."),
    "psnr_matched": ("PSNR, matched (dB)", "After a · image + b was fitted to the reference."),
    "ssim": ("SSIM", "Structural similarity, at most 1."),
    "rmse": ("RMSE", "Root mean squared error, in the reference's units."),
    "nrmse": ("NRMSE", "RMSE over the standard deviation of the reference."),
    "range": ("Range", "The peak of PSNR and SSIM."),
    "sigma": ("Noise σ (of 255)", "Estimated from each image alone."),
}


@dataclass(frozen=True)
class _Found:
    noise: dict[str, NoiseEstimate]
    structure: ResidualStructure
    table: pd.DataFrame | None
    residual: npt.NDArray[np.float32] | None


def _examine(reference: Source | None, before: Source, after: Source, keep: bool) -> Steps[_Found]:
    """Do what the panel does, in a thread."""
    structure = yield from within(residual_structure_iter(before.image, after.image), 0.0, 0.2)
    table = None
    if reference is not None:
        images = {before.name: before.image, after.name: after.image}
        table = yield from within(compare_iter(reference.image, images), 0.2, 0.6)
    noise = {}
    for k, source in enumerate((before, after)):
        work = estimate_noise_iter(source.image)
        noise[source.name] = yield from within(work, 0.6 + 0.15 * k, 0.75 + 0.15 * k)
    left = None
    if keep:
        left = yield from within(residual_iter(before.image, after.image), 0.9, 1.0)
    return _Found(noise, structure, table, left)


class QualityDock(Dock):
    """Compare a denoised image with the noisy one, and both with a reference."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Compare", "See what a denoiser changed, and how good the result is.")
        self.before = layer_box("Noisy", "Image", "before")
        self.after = layer_box("Denoised", "Image", "after")
        self.reference = self._reference_box()
        self.add_residual = CheckBox(text="Add the residual as a layer", name="add_residual")
        self.add_residual.tooltip = "Noisy − denoised."
        self.add_residual.value = True
        self.add(self.before, self.after, self.reference, self.add_residual)
        self.frame: pd.DataFrame | None = None
        self.table: Any = QTableWidget(0, 0)
        self.table.setObjectName("figures")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setTabKeyNavigation(False)
        self.table.setAccessibleName("Figures")
        self.table.setVisible(False)
        self.copy_table_button = PushButton(text="Copy table", name="copy_table", enabled=False)
        self.save_table_button = PushButton(text="Save table…", name="save_table", enabled=False)
        self.table_buttons: Container[Any] = Container(
            widgets=[self.copy_table_button, self.save_table_button], layout="horizontal", labels=False
        )
        self.table_buttons.margins = (0, 0, 0, 0)
        self.note = Label(value=NOT_FOR_QUANTIFICATION, name="note")
        self.note.native.setWordWrap(True)
        self.note.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        place = self.index(self.status) + 1
        self.insert(place, self.table_buttons)
        self.append(self.note)
        layout = self.native.layout()
        layout.insertWidget(layout.indexOf(self.table_buttons.native), self.table)
        for widget in (self.copy_table_button, self.save_table_button, self.note):
            widget.native.setObjectName(widget.name)
        self.copy_table_button.clicked.connect(self._on_copy_table)
        self.save_table_button.clicked.connect(self._on_save_table)
        for box in (self.before, self.after, self.reference):
            box.changed.connect(self._clear)
        self.finish()

    def _reference_box(self) -> ComboBox:
        from magicgui.widgets import create_widget

        options = {"nullable": True}
        box: Any = create_widget(annotation="napari.layers.Image", label="Reference", name="reference", options=options)
        box.tooltip = "A clean image of the same field, if there is one: without it there are no PSNR and SSIM."
        return keeping(narrow(box))

    def _clear(self) -> None:
        """Take the figures away: they are of other layers."""
        self.frame = None
        self.table.setVisible(False)
        self.copy_table_button.enabled = self.save_table_button.enabled = False

    def start(self) -> None:
        """Compare the chosen layers."""
        self._clear()
        if self.before.value is None or self.after.value is None:
            raise ValueError("There is nothing to compare: open or make two images, a noisy and a denoised one.")
        if self.before.value is self.after.value:
            raise ValueError("Noisy and Denoised are the same layer: choose two.")
        reference = take(self.reference.value) if self.reference.value is not None else None
        before, after = take(self.before.value), take(self.after.value)
        _check_fit({self.before.label: before, self.after.label: after})
        if reference is not None:
            _check_fit({self.before.label: before, self.reference.label: reference})
        self.code = _code(reference, before, after)
        code, keep = self.code, bool(self.add_residual.value)
        self.launch(_examine(reference, before, after, keep), lambda found: self._show(before, found, code))

    def _show(self, before: Source, found: _Found, code: str) -> None:
        self.frame = found.table
        self._fill(found)
        words = found.structure.sentence
        if found.residual is not None:
            layer = _add_residual(self.viewer, before, found.residual, {"source": before.name, "python": code})
            words += f" Added {layer.name}."
        self.say(words)

    def _fill(self, found: _Found) -> None:
        """Show a column for each image; of several planes the mean."""
        names = list(found.noise)
        keys = [key for key in _ROWS if found.table is not None or key == "sigma"]
        self.table.setRowCount(len(keys))
        self.table.setColumnCount(len(names))
        self.table.setHorizontalHeaderLabels(["Noisy", "Denoised"])
        self.table.setVerticalHeaderLabels([_ROWS[key][0] for key in keys])
        for column, name in enumerate(names):
            self.table.horizontalHeaderItem(column).setToolTip(name)
            # The last row of an image is its mean, or its only plane.
            figures = {} if found.table is None else found.table[found.table["image"] == name].iloc[-1].to_dict()
            figures["sigma"] = found.noise[name].sigma
            for row, key in enumerate(keys):
                item = QTableWidgetItem(f"{figures[key]:.4g}")
                item.setToolTip(_ROWS[key][1])
                self.table.setItem(row, column, item)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.setVisible(True)
        self.table.resizeRowsToContents()
        height = self.table.horizontalHeader().sizeHint().height() + sum(
            self.table.rowHeight(row) for row in range(len(keys))
        )
        self.table.setFixedHeight(height + 2 * self.table.frameWidth() + 2)
        self.copy_table_button.enabled = True
        self.save_table_button.enabled = found.table is not None
        self.save_table_button.tooltip = "Every plane, as CSV." if found.table is not None else "Needs a reference."

    def _on_copy_table(self) -> None:
        rows = [["", *(self.table.horizontalHeaderItem(c).text() for c in range(self.table.columnCount()))]]
        for r in range(self.table.rowCount()):
            cells = [self.table.item(r, c).text() for c in range(self.table.columnCount())]
            rows.append([self.table.verticalHeaderItem(r).text(), *cells])
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText("\n".join("\t".join(row) for row in rows))
        show_info("Copied: paste it into a spreadsheet.")

    def _on_save_table(self) -> None:
        try:
            if path := ask_path(self.native, "Save the table", "quality.csv", "Tables", ".csv"):
                self.save_table(path)
        except USER_ERRORS as error:
            self.fail(error)

    def save_table(self, path: Path) -> None:
        """Write the figures of every plane."""
        frame = self.frame
        if frame is not None:
            write_whole(path, lambda p: frame.to_csv(p, index=False))
            self.say(f"Saved {path}.")


def _check_fit(chosen: dict[str, Source]) -> None:
    """Refuse images of two rows that are not of the same size and colours, in the words of the panel."""
    (_, one), (_, other) = chosen.items()
    if one.image.data.shape != other.image.data.shape or one.image.rgb != other.image.rgb:
        named = " and ".join(f"{row} ({source.name}: {_in_words(source)})" for row, source in chosen.items())
        raise ValueError(f"{named} do not fit: choose two images of the same size and the same colours.")


def _in_words(source: Source) -> str:
    image = source.image
    sides = (*image.lead_shape, *image.plane_shape)
    colours = {3: "RGB", 4: "RGBA"}[image.data.shape[-1]] if image.rgb else "gray"
    return f"{' × '.join(map(str, sides))} px, {colours}"


def _add_residual(viewer: napari.Viewer, before: Source, left: npt.NDArray[np.float32], record: dict[str, Any]) -> Any:
    """Add the residual in two colours around 0; of colour images the mean of the samples."""
    if before.image.rgb:
        left = left.mean(axis=before.image.axes.index("S"))
    limit = float(np.quantile(np.abs(left.ravel()[:: max(1, left.size // 1_000_000)]), 0.999))
    return viewer.add_image(
        left,
        name=f"{before.name} residual",
        colormap="PiYG",
        contrast_limits=(-limit, limit) if limit > 0 else (-1, 1),
        metadata={METADATA_KEY: record},
        **before.transform,
    )


def _code(reference: Source | None, before: Source, after: Source) -> str:
    """Return the Python that finds the same."""
    how = f"axes={before.axes!r}" if before.axes else f"rgb={before.image.rgb}"
    lines = ["import napari_denoise_classify as ndc", f"before = {before.code}", f"after = {after.code}"]
    if reference is not None:
        named = f"{{{before.name!r}: before, {after.name!r}: after}}"
        lines += [f"reference = {reference.code}", f"table = ndc.compare(reference, {named}, {how})"]
    lines += [
        f"residual = ndc.residual(before, after, {how})",
        f"print(ndc.residual_structure(before, after, {how}).sentence)",
    ]
    return "\n".join(lines)
