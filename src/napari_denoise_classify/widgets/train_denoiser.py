"""The panel Train denoiser: from images to weights, with the curves of the training."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from magicgui.widgets import CheckBox, ComboBox, Container, PushButton

from ..core.denoise.losses import SELF_SUPERVISED, SUPERVISED
from ..core.denoise.settings import PARAMETERS, Architecture, DenoiserTraining
from ..core.denoise.training import Epoch, train_denoiser_iter
from ..core.files import user_path
from ..core.progress import USER_ERRORS, Progress
from ..core.recipe import Recipe
from ..core.steps import get_step
from .curves import Curves
from .parameters import ParameterField
from .process import ProcessDock
from .training_data import DataFields, NoiseFields, TrainingData, file_field

if TYPE_CHECKING:
    import napari

_WIDTH = 382  # px: room for the curves
_PAUSE = 0.4  # seconds between two drawings: an epoch of a small training is faster


_LENGTH = ("epochs", "steps_per_epoch")
_ADVANCED = (
    "normalisation",
    "match_intensities",
    "outside",
    "depth",
    "features",
    "batch_size",
    "patch",
    "learning_rate",
    "seed",
)
_SIZED = {"depth": ("unet", "dncnn"), "features": ("unet", "dncnn", "irunet", "restormer")}


class TrainDenoiserDock(ProcessDock):
    """Train a denoiser on the user's own images."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, "Train", "Teach a network to denoise images like yours; it becomes a file.")
        for box in (self.image, self.lazy, self.apart):  # the image belongs to the row below the curves
            self.form.remove(box)
        self.data = DataFields(self.form)
        self.noise = NoiseFields(self.form, self.data.kind)
        self.network = ComboBox(
            name="network", label="Network", choices=[(get_step(id).title, id) for id in get_args(Architecture)]
        )
        self.upscale = ComboBox(name="upscale", label="Enlarge", choices=[("no", 1), ("to twice the size", 2)])
        self.upscale.tooltip = "Twice: the clean images must have twice the width and height of the noisy ones."
        self.output = file_field("output", "Weights file", "The .safetensors file to write.", save=True)
        self.fields = {name: ParameterField(PARAMETERS[name]) for name in (*_LENGTH, *_ADVANCED)}
        self.advanced = CheckBox(name="advanced", text="Show advanced settings", label="", value=False)
        self.loss = ComboBox(name="loss", label="Loss", choices=["auto", *SUPERVISED])
        self.loss_of_noisy = ComboBox(name="loss_of_noisy", label="Loss", choices=["auto", *SELF_SUPERVISED])
        self.loss.tooltip = "auto: MAE."
        self.loss_of_noisy.tooltip = "auto: R2R for Gaussian noise, else Neighbor2Neighbor."
        self.start_from = file_field("start_from", "Start from", "Optional: weights to train on from.", save=False)
        rows: dict[str, Any] = {name: field.widget for name, field in self.fields.items()}
        self.add(self.network, self.upscale, *(rows[name] for name in _LENGTH), self.output, self.advanced)
        self.add(self.loss, self.loss_of_noisy, *(rows[name] for name in _ADVANCED), self.start_from)
        self.apply_button = PushButton(text="Denoise with it", name="denoise_with_it")
        self.apply_button.native.setObjectName(self.apply_button.name)
        self.apply_button.tooltip = "Denoise this image layer with the weights that this panel wrote last."
        self.image.native.setAccessibleName(self.image.label)
        self.apply_row: Container[Any] = Container(
            widgets=[self.image, self.apply_button], layout="horizontal", labels=False, name="apply", visible=False
        )
        self.apply_row.margins = (0, 0, 0, 0)
        self.insert(self.index(self.copy_button), self.apply_row)
        self.curves: Curves | None = None
        self.epochs: list[Epoch] = []
        self.weights: Path | None = None
        self._run: _Run | None = None
        for choice in (self.data.kind, self.data.place, self.noise.model, self.noise.of_noisy, self.network):
            choice.changed.connect(self._on_change)
        for row in (self.advanced, self.data.mask_folder, self.data.mask_layer):
            row.changed.connect(self._on_change)
        self.apply_button.clicked.connect(self._on_apply)
        self._on_change()
        self.finish()
        self.widen(_WIDTH)

    @property
    def by_parts(self) -> bool:
        """Whether the rows for images that are processed part by part are shown: there are none here."""
        return False

    def _on_change(self) -> None:
        kind, network, advanced = self.data.kind.value, self.network.value, self.advanced.value
        self.upscale.visible = kind == "pairs" and network == "unet"
        self.loss.visible, self.loss_of_noisy.visible = advanced and kind != "noisy", advanced and kind == "noisy"
        self.start_from.visible = advanced
        for name in _ADVANCED:
            self.fields[name].widget.visible = advanced and self._applies(name)
        self.scroll.updateGeometry()

    def _applies(self, name: str) -> bool:
        if name == "match_intensities":
            return bool(self.data.kind.value == "pairs")
        if name == "outside":
            return self.data.has_mask
        return self.network.value in _SIZED.get(name, (self.network.value,))

    # --- train ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Train as the form says."""
        data, config = self.data.read(), self._config()
        output = self._output()
        start_from: Any = self.start_from.value
        code = _code(output, data, config, start_from)
        checkpoint = output.with_suffix(".checkpoint")
        work = train_denoiser_iter(
            output, config=config, start_from=start_from, command=code, resume=checkpoint.exists(), **data.images
        )
        self.launch(work, self._on_trained)
        self.code = code
        if self._run is None or self._run.output != output or not checkpoint.exists():
            self.epochs = []
        self._run = _Run(output, config.epochs, data.data != "noisy")
        self.weights = None
        self.apply_row.visible = False
        if self.curves is not None:
            self._draw()  # what was there is of another training

    def _config(self) -> DenoiserTraining:
        settings = {name: field.value for name, field in self.fields.items() if self._applies(name)}
        settings["loss"] = (self.loss_of_noisy if self.data.kind.value == "noisy" else self.loss).value
        if self.data.kind.value == "pairs" and self.network.value == "unet":
            settings["upscale"] = self.upscale.value
        return DenoiserTraining(
            network=self.network.value, samples=self.data.samples.value, noise=self.noise.value, **settings
        )

    def _output(self) -> Path:
        """Return the file to write, if that replaces nothing."""
        chosen: Any = self.output.value
        if chosen is None:
            raise ValueError("Choose a file for the weights: press Save as….")
        path = user_path(chosen)
        if path.suffix == "":
            path = path.with_suffix(".safetensors")
        if path.suffix != ".safetensors":
            raise ValueError(f"{path.name}: the weights are written as .safetensors; give such a name.")
        if not path.parent.is_dir():
            raise ValueError(f"There is no folder {path.parent}: choose another one for the weights.")
        if path.with_suffix(".checkpoint").exists():  # it is only taken up if it was begun with the same settings
            return path
        for file in (path, path.with_suffix(".json")):
            if file.exists():
                raise ValueError(f"{file} exists already: choose another name for the weights.")
        return path

    def show_data(self, data: object) -> None:
        """Draw an epoch."""
        run = self._run
        if not isinstance(data, Epoch) or run is None:
            return
        self.epochs = [*(e for e in self.epochs if e.number < data.number), data]
        if time.monotonic() - run.drawn > _PAUSE:
            self._draw()

    def _draw(self) -> None:
        if self._run is None:
            return
        if self.curves is None:
            self.curves = Curves(self.theme_colours)
            layout = self.native.layout()
            layout.insertWidget(layout.indexOf(self.status.native) + 1, self.curves.canvas, 5)
        self.curves.draw(self.epochs, self._run.total, self._run.clean)
        self._run.drawn = time.monotonic()

    def _on_report(self, progress: Progress, seconds_left: float | None) -> None:
        run = self._run
        if run is None or run.over:
            super()._on_report(progress, seconds_left)
            return
        # A training that is taken up again starts in the middle: only what is done in this run tells its speed.
        now = time.monotonic()
        if run.since is None and progress.fraction > 0:
            run.since = (progress.fraction, now)
        seconds_left = None
        if run.since is not None and now - run.since[1] > 1 and progress.fraction > run.since[0]:
            speed = (progress.fraction - run.since[0]) / (now - run.since[1])
            seconds_left = (1 - progress.fraction) / speed
        message = progress.message
        if isinstance(progress.data, Epoch):
            message = f"epoch {progress.data.number} of {run.total}, loss {progress.data.loss:.4g}"
            run.score = f", {_score(progress.data, run.clean)}"
        super()._on_report(replace(progress, message=message + run.score), seconds_left)

    def _on_end(self, how: str) -> None:
        super()._on_end(how)
        run = self._run
        if run is None or run.over:
            return
        run.over = True
        if self.epochs:
            self._draw()
        if run.output.exists() and how != "failed":
            self.weights = run.output
            self.apply_row.visible = True
        if how == "cancelled":
            self.say(self._cancelled(run))

    def _cancelled(self, run: _Run) -> str:
        name = run.output.name
        if run.output.with_suffix(".checkpoint").exists():
            after = f" after epoch {self.epochs[-1].number}" if self.epochs else ""
            return (
                f"Cancelled{after}. The best weights so far are in {name}; press Train with the same settings to go on."
            )
        if run.output.exists():
            return f"The training was over before it could be cancelled: the weights are in {name}."
        return "Cancelled before the first epoch was over: nothing was written."

    def _on_trained(self, record: dict[str, Any]) -> None:
        training = record["training"]
        unit = "" if training["data"] == "noisy" else " dB"
        named = (
            (key.replace("psnr_", "PSNR at σ ").replace("psnr", "PSNR"), v) for key, v in training["figures"].items()
        )
        figures = ", ".join(f"{key} {value:.4g}{unit}" for key, value in named)
        self.say(
            f"Trained; the best of {training['epochs_done']} epochs is {training['best_epoch']}: {figures} on images "
            f"held out. Use it: Denoise ▸ {get_step(record['step']).title} ▸ weights {record['file']}"
        )

    # --- use ------------------------------------------------------------------------------------------------------

    def recipe(self) -> Recipe:
        """Return the network that was trained last as a recipe."""
        if self.weights is None:
            raise ValueError("There are no weights yet: train first.")
        parameters: dict[str, Any] = {"weights": str(self.weights)}
        about = json.loads(self.weights.with_suffix(".json").read_text(encoding="utf-8"))
        if about["training"]["config"]["upscale"] == 2:
            parameters["upscale"] = 2
        return Recipe([(about["step"], parameters)])

    def _on_apply(self) -> None:
        try:
            super().start()
        except USER_ERRORS as error:
            self.fail(error)


class _Run:
    """A training under way, or the last one.

    Parameters
    ----------
    output : Path
    total : int
        Epochs.
    clean : bool
        Whether there are clean images to compare with.
    """

    def __init__(self, output: Path, total: int, clean: bool) -> None:
        self.output, self.total, self.clean = output, total, clean
        self.over = False
        self.drawn = 0.0
        self.score = ""
        self.since: tuple[float, float] | None = None


def _score(epoch: Epoch, clean: bool) -> str:
    return f"PSNR {epoch.score:.2f} dB" if clean else f"held out {-epoch.score:.4g}"


def _code(output: Path, data: TrainingData, config: DenoiserTraining, start_from: Path | None) -> str:
    """Return Python that trains the same."""
    usual = DenoiserTraining()
    arguments = [repr(str(output)), *(f"{role}={text}" for role, text in data.code.items())]
    arguments += [f"{key}={value!r}" for key, value in asdict(config).items() if value != getattr(usual, key)]
    if start_from is not None:
        arguments.append(f"start_from={str(start_from)!r}")
    lines = "".join(f"    {argument},\n" for argument in arguments)
    numpy = "import numpy as np\n" if "np." in data.code.get("masks", "") else ""
    return f"{numpy}import napari_denoise_classify as ndc\n\nndc.train_denoiser(\n{lines})"
