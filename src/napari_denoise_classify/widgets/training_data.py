"""Rows of the panel Train denoiser: what it learns from, and the noise."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, FileEdit, LineEdit, create_widget

from ..core.denoise.settings import Data
from ..core.noise import NOISE_MODELS
from .dock import hug, layer_box, narrow
from .layers import take

if TYPE_CHECKING:
    from napari.layers import Image, Labels

FOLDERS, LAYERS = "folders", "layers"
GRAY, RGB = 1, 3


@dataclass(frozen=True)
class TrainingData:
    """What a training learns from.

    Attributes
    ----------
    data : {"pairs", "clean", "noisy"}
    images : dict
        ``inputs``, ``targets`` and ``masks``, as `train_denoiser` takes them; those that there are.
    code : dict
        Python for each of them.
    """

    data: Data
    images: dict[str, Any]
    code: dict[str, str]


def folder_field(name: str, label: str, tooltip: str) -> FileEdit:
    """Make a row for a folder of images."""
    return _path_field(name, label, tooltip, FileDialogMode.EXISTING_DIRECTORY, "Folder…")


def file_field(name: str, label: str, tooltip: str, *, save: bool) -> FileEdit:
    """Make a row for a file of weights."""
    mode = FileDialogMode.OPTIONAL_FILE if save else FileDialogMode.EXISTING_FILE
    return _path_field(name, label, tooltip, mode, "Save as…" if save else "File…", "*.safetensors")


def _path_field(name: str, label: str, tooltip: str, mode: FileDialogMode, text: str, pattern: str = "") -> FileEdit:
    field = FileEdit(name=name, label=label, mode=mode, filter=pattern or None, nullable=True, tooltip=tooltip)
    field.choose_btn.text = text
    hug(field.choose_btn)
    field.line_edit.tooltip = tooltip
    field.line_edit.native.setMinimumWidth(60)
    field.margins = (0, 0, 0, 0)
    return field


class DataFields:
    """Rows that choose the images to train on.

    Parameters
    ----------
    form : Container
    """

    def __init__(self, form: Any) -> None:
        self.kind = ComboBox(
            name="data",
            label="Learn from",
            choices=[
                ("pairs of noisy and clean images", "pairs"),
                ("clean images + noise", "clean"),
                ("noisy images only", "noisy"),
            ],
        )
        narrow(self.kind)
        self.kind.tooltip = (
            "Pairs teach most. Clean images get fresh noise of the kind that you choose.\n"
            "Noisy images alone are enough where the noise of neighbouring pixels is independent."
        )
        self.place = ComboBox(
            name="place", label="Images in", choices=[("folders", FOLDERS), ("layers of the viewer", LAYERS)]
        )
        matched = "Pairs are matched by the files' names without their endings."
        self.noisy_folder = folder_field("noisy_folder", "Noisy images", f"A folder, a file or a glob. {matched}")
        self.clean_folder = folder_field("clean_folder", "Clean images", f"A folder, a file or a glob. {matched}")
        where = "Optional: training looks where the mask is not 0."
        self.mask_folder = folder_field(
            "mask_folder", "Train only where", f"{where} Mask images of the same names and sizes."
        )
        self.noisy_layer = layer_box("Noisy image", "Image", "noisy_layer")
        self.clean_layer = layer_box("Clean image", "Image", "clean_layer")
        stacks = "Every plane of a stack is trained on; in pairs the planes belong together in their order."
        self.noisy_layer.tooltip = self.clean_layer.tooltip = stacks
        labels: Any = create_widget(
            annotation="napari.layers.Labels", label="Train only where", name="mask_layer", options={"nullable": True}
        )
        self.mask_layer = narrow(labels)
        self.mask_layer.tooltip = f"{where} One plane of labels counts for all planes of a stack."
        self.samples = ComboBox(name="samples", label="Colours", choices=[("gray", GRAY), ("RGB", RGB)])
        self.samples.tooltip = "A gray network sees the luminance of RGB images; an RGB one leaves gray images out."
        for widget in (self.kind, self.place, self.noisy_folder, self.clean_folder, self.noisy_layer):
            form.append(widget)
        for widget in (self.clean_layer, self.mask_folder, self.mask_layer, self.samples):
            form.append(widget)
        for box in (self.kind, self.place):
            box.changed.connect(self._on_change)
        for box in (self.noisy_layer, self.clean_layer):
            box.changed.connect(self._on_layer)
        self._on_change()

    def _on_change(self) -> None:
        layers = self.place.value == LAYERS
        noisy, clean = self.kind.value != "clean", self.kind.value != "noisy"
        self.noisy_folder.visible, self.clean_folder.visible = noisy and not layers, clean and not layers
        self.noisy_layer.visible, self.clean_layer.visible = noisy and layers, clean and layers
        self.mask_folder.visible, self.mask_layer.visible = not layers, layers
        self._on_layer()

    def _on_layer(self) -> None:
        layer = (self.clean_layer if self.kind.value == "clean" else self.noisy_layer).value
        if self.place.value == LAYERS and layer is not None:
            self.samples.value = RGB if layer.rgb else GRAY

    @property
    def has_mask(self) -> bool:
        """Whether there are masks."""
        return (self.mask_layer if self.place.value == LAYERS else self.mask_folder).value is not None

    def read(self) -> TrainingData:
        """Read the rows.

        Raises
        ------
        ValueError
            If images are missing.
        """
        roles = {"pairs": ("inputs", "targets"), "clean": ("targets",), "noisy": ("inputs",)}[self.kind.value]
        return self._layers(roles) if self.place.value == LAYERS else self._folders(roles)

    def _folders(self, roles: tuple[str, ...]) -> TrainingData:
        rows = {"inputs": self.noisy_folder, "targets": self.clean_folder, "masks": self.mask_folder}
        images: dict[str, Any] = {}
        for role, row in rows.items():
            if role in roles and row.value is None:
                raise ValueError(f"There is nothing to train on: choose a folder under {row.label}.")
            if role in roles or (role == "masks" and self.has_mask):
                images[role] = [str(row.value)]
        return TrainingData(self.kind.value, images, {role: repr(paths) for role, paths in images.items()})

    def _layers(self, roles: tuple[str, ...]) -> TrainingData:
        rows = {"inputs": self.noisy_layer, "targets": self.clean_layer}
        layers: dict[str, Image] = {role: rows[role].value for role in roles}
        if None in layers.values():
            raise ValueError("There is no image to train on: open one, or choose folders under Images in.")
        if len(layers) == 2 and layers["inputs"] is layers["targets"]:
            raise ValueError("The noisy and the clean image are the same layer: choose two.")
        sources = {role: take(layer) for role, layer in layers.items()}
        for source in sources.values():
            if self.samples.value == RGB and not source.image.rgb:
                raise ValueError(f"{source.name} is a gray image: choose gray under Colours.")
        first, last = sources[roles[0]], sources[roles[-1]]
        images: dict[str, Any] = {role: {first.name: source.image.data} for role, source in sources.items()}
        code = {role: f"{{{first.name!r}: {source.code}}}" for role, source in sources.items()}
        if self.has_mask:
            mask, text = _mask(self.mask_layer.value, last.image.lead_shape)
            images["masks"], code["masks"] = {first.name: mask}, f"{{{first.name!r}: {text}}}"
        return TrainingData(self.kind.value, images, code)


def _mask(layer: Labels, lead_shape: tuple[int, ...]) -> tuple[Any, str]:
    """Return a mask with a plane for each of the image's, and Python for it."""
    data, code = layer.data, f"viewer.layers[{layer.name!r}].data"
    if layer.multiscale:
        data, code = data[0], f"{code}[0]"
    if data.ndim == 2 and lead_shape:
        shape = (*lead_shape, *data.shape)
        return np.broadcast_to(np.asarray(data), shape), f"np.broadcast_to({code}, {shape})"
    return data, code


class NoiseFields:
    """Rows that say which noise clean images get, or which noisy ones have.

    Parameters
    ----------
    form : Container
    kind : ComboBox
        The row that says what is learned from.
    """

    def __init__(self, form: Any, kind: ComboBox) -> None:
        self._kind = kind
        self.model = ComboBox(
            name="noise", label="Noise", choices=[(id.replace("_", "-").capitalize(), id) for id in NOISE_MODELS]
        )
        self.model.tooltip = "Fresh noise of this kind is added to every patch."
        self.of_noisy = ComboBox(
            name="noise_of_noisy",
            label="Noise",
            choices=[("unknown", ""), ("Gaussian", "gaussian"), ("Poisson-Gaussian", "poisson_gaussian")],
        )
        self.of_noisy.tooltip = (
            "Of which kind the noise is: its level is estimated, and the loss is chosen by it.\n"
            "Unknown supposes only that the noise of neighbouring pixels is independent."
        )
        self.levels = LineEdit(name="noise_levels", label="Noise level")
        for widget in (self.model, self.of_noisy, self.levels):
            form.append(widget)
        for box in (self._kind, self.model, self.of_noisy):
            box.changed.connect(self._on_change)
        self._on_change()

    @property
    def _has_levels(self) -> bool:
        kind = self._kind.value
        return bool(kind == "clean" or (kind == "noisy" and self.of_noisy.value == "gaussian"))

    def _on_change(self) -> None:
        noisy = self._kind.value == "noisy"
        self.model.visible, self.of_noisy.visible = self._kind.value == "clean", noisy
        self.levels.visible = self._has_levels
        model = NOISE_MODELS["gaussian" if noisy else self.model.value]
        names = "\n".join(f"{f.name}: {f.metadata['help']}" for f in fields(model))
        self.levels.native.setPlaceholderText("estimated" if noisy else "")
        self.levels.value = "" if noisy else str(model()).partition(":")[2]
        what = "nothing = estimated, or a number: 25" if noisy else "a number, or a range to draw from: 25 or 0-55"
        more = "; several as name=value,name=value" if len(fields(model)) > 1 else ""
        self.levels.tooltip = f"{what.capitalize()}{more}.\n{names}\nGrey levels are of an intensity range of 0 to 255."

    @property
    def value(self) -> str:
        """The noise as `parse_noise` reads it; empty for none."""
        if self._kind.value == "pairs":
            return ""
        model = str(self.of_noisy.value if self._kind.value == "noisy" else self.model.value)
        levels = self.levels.value.strip() if self._has_levels else ""
        return f"{model}:{levels}" if model and levels else model
