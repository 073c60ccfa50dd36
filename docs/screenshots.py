"""Make the screenshots of the documentation: each panel is driven in a real window, on real images.

    xvfb-run -s "-screen 0 1600x1100x24" python docs/screenshots.py DATA            # all of them, about ten minutes
    xvfb-run -s "-screen 0 1600x1100x24" python docs/screenshots.py DATA mask study

DATA holds ``histology_wsi/cmu_small_region.svs`` (OpenSlide's CMU-1-Small-Region, CC0),
``stacks/C1-MAX_mitosis_TYX.tif``, ``stacks/pollen_ZYX.tif`` (ImageJ's samples) and the crops of CRCHistoPhenotypes in
``cells_crc``; everything else is a sample of the plugin or of scikit-image. The images go to ``docs/images``, or to
``--output``. Look at them afterwards.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import tifffile
from PIL import Image
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QApplication, QDockWidget

import napari_denoise_classify as ndc
from napari_denoise_classify.core.demonstration import demonstrate_iter
from napari_denoise_classify.core.noise import add_gaussian
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.widgets.classify import APPLY, TRAIN
from napari_denoise_classify.widgets.labelled import OBJECTS, PAINTED
from napari_denoise_classify.widgets.session import session

PLUGIN = "napari-denoise-classify"
SIZE = (1400, 900)


class Window:
    """napari's window with one panel, and the moves of somebody who uses it."""

    def __init__(self, panel: str, data: Path, size: tuple[int, int] = SIZE) -> None:
        self.viewer, self.data = napari.Viewer(), data
        self.viewer.window.resize(*size)
        self.panel: Any = self.viewer.window.add_plugin_dock_widget(PLUGIN, panel)[1]
        self.settle(1)

    def settle(self, seconds: float = 0.5) -> None:
        """Let the window work for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)

    def press(self, button: Any = None) -> None:
        """Press a button, the one that runs if none is named, and wait for the end of the run."""
        (button or self.panel.run_button).native.click()
        self.settle()
        while self.panel.job is not None:
            self.settle(0.2)
        self.settle()

    def sample(self, name: str) -> list[Any]:
        """Open a sample of the plugin, as File ▸ Open Sample does."""
        return list(self.viewer.open_sample(PLUGIN, name))

    def look_at(self, y: float, x: float, zoom: float) -> None:
        """Move the camera."""
        scene: Any = getattr(self.viewer, "scene", self.viewer)
        scene.camera.center = (0, y, x)
        scene.camera.zoom = zoom
        self.settle()


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    """Add Gaussian noise in grey levels, seed 0, and round."""
    return np.clip(np.rint(add_gaussian(image, sigma, 0)), 0, 255).astype(np.uint8)


def nuclei_of(rgb: np.ndarray) -> np.ndarray:
    """Find the middles of nuclei: maxima of haematoxylin."""
    from skimage.color import rgb2hed
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian, threshold_otsu

    stain = gaussian(rgb2hed(rgb)[..., 0], 3)
    return peak_local_max(stain, min_distance=8, threshold_abs=threshold_otsu(stain), exclude_border=16)


def tissue(window: Window) -> tuple[Any, Any]:
    """Show a part of a slide and its nuclei, and have a CNN that was trained on nuclei of other slides."""
    slide = tifffile.imread(window.data / "histology_wsi" / "cmu_small_region.svs")[650:1050, 990:1390]
    image = window.viewer.add_image(slide, name="cmu_small_region", rgb=True)
    points = window.viewer.add_points(nuclei_of(slide), name="nuclei", size=6, visible=False)
    if "colon_cnn" not in session.names():
        crops = ndc.load_crops(window.data / "cells_crc" / "crops.csv", group="image")
        session.add("colon_cnn", ndc.train_classifier(crops, "cnn", input_size=32, epochs=15))
    return image, points


# --- the scenes -------------------------------------------------------------------------------------------------------


def workflow(data: Path) -> Window:
    window = Window("Workflow", data)
    panel = window.panel
    _, points = tissue(window)
    panel.target.where.value, panel.target.points.value = "points", points
    panel.classifier.choice.value = "colon_cnn"
    panel.as_trained.value = False
    panel.denoiser.choice.value = "dncnn"
    window.press()
    return window


def stack(data: Path) -> Window:
    from scipy.ndimage import gaussian_filter

    window = Window("Workflow", data)
    panel, viewer = window.panel, window.viewer
    movie = tifffile.imread(data / "stacks" / "C1-MAX_mitosis_TYX.tif")
    brightest = [np.unravel_index(gaussian_filter(plane.astype(float), 4).argmax(), plane.shape) for plane in movie]
    limits = np.percentile(movie[30], (1, 99.5))
    viewer.add_image(movie, name="mitosis", axis_labels=("t", "y", "x"), contrast_limits=limits)
    points = [(t, *where) for t, where in enumerate(brightest)]
    session.add("demo_model", run(demonstrate_iter()).classifier)
    panel.target.where.value = "points"
    panel.target.points.value = viewer.add_points(points, name="brightest", size=6, visible=False)
    panel.classifier.choice.value = "demo_model"
    panel.as_trained.value = False
    panel.denoiser.choice.value = "dncnn"
    viewer.dims.set_point(0, 30)
    window.press()
    viewer.dims.set_point(0, 30)
    return window


def denoise(data: Path) -> Window:
    window = Window("Denoise", data, (1200, 760))
    image = tifffile.imread(data / "stacks" / "pollen_ZYX.tif")
    limits = np.percentile(image, (1, 99.5))
    window.viewer.add_image(image, name="pollen", axis_labels=("z", "y", "x"), contrast_limits=limits)
    window.viewer.dims.set_point(0, 15)
    window.look_at(120, 130, 3.4)
    window.panel.preview_box.value = True
    window.settle(8)  # it grows to what is done in time
    return window


def mask(data: Path) -> Window:
    window = Window("Mask", data)
    window.sample("ihc")
    window.viewer.layers[-1].visible = False
    window.panel.image.value = window.viewer.layers[0]
    window.panel.method.choice.value = "kmeans"
    window.press()
    return window


def clusters(data: Path) -> Window:
    window = Window("Mask", data)
    window.sample("ihc")
    window.viewer.layers[-1].visible = False
    panel = window.panel
    panel.image.value = window.viewer.layers[0]
    panel.method.choice.value = "kmeans"
    panel.form.get_widget("keep").value = "darkest"
    panel.add_clusters.value = True
    window.press()
    window.press(panel.scores_button)
    window.viewer.reset_view()
    return window


def train_denoiser(data: Path) -> Window:
    from skimage.color import rgb2gray
    from skimage.data import immunohistochemistry

    window = Window("Train denoiser", data, (1200, 960))
    panel = window.panel
    clean = np.rint(255 * rgb2gray(immunohistochemistry())).astype(np.uint8)
    panel.data.kind.value = "pairs"
    panel.data.place.value = "layers"
    panel.data.noisy_layer.value = window.viewer.add_image(noisy(clean, 40), name="noisy")
    panel.data.clean_layer.value = window.viewer.add_image(clean, name="clean")
    panel.fields["epochs"].widget.value = 16
    panel.fields["steps_per_epoch"].widget.value = 20
    panel.output.value = Path(tempfile.mkdtemp()) / "tissue.safetensors"
    window.press()
    window.press(panel.apply_button)
    window.look_at(256, 256, 2.4)
    return window


def quality(data: Path) -> Window:
    from skimage.data import coins

    window = Window("Quality", data)
    panel, viewer = window.panel, window.viewer
    clean = coins()
    panel.reference.value = viewer.add_image(clean, name="clean")
    panel.before.value = viewer.add_image(noisy(clean, 20), name="noisy")
    panel.after.value = viewer.add_image(ndc.denoise(noisy(clean, 20), "gaussian", blur_sigma=2), name="noisy gaussian")
    panel.add_residual.value = True
    window.press()
    return window


def _teach(window: Window) -> tuple[Any, Any]:
    """Paint some nuclei in the colours of two classes, and set the panel Classify to learn from them."""
    panel = window.panel
    image, labels, points = window.sample("ihc")
    names = sorted(set(points.features["class"]))
    painted = np.zeros(labels.data.shape, np.uint8)
    for (y, x), name in list(zip(points.data.astype(int), points.features["class"], strict=True))[::4]:
        rows, columns = np.ogrid[: painted.shape[0], : painted.shape[1]]
        painted[(rows - y) ** 2 + (columns - x) ** 2 <= 25] = 1 + names.index(name)
    labels.visible = True
    layer = window.viewer.add_labels(painted, name="painted", opacity=0.7)
    panel.task.value = TRAIN
    fields = panel.labelled
    fields.samples.value = OBJECTS
    fields.image.value, fields.objects.value = image, labels
    fields.marked.value = PAINTED
    fields.painted.value = layer
    fields.names.names = dict(enumerate(names, 1))
    panel.method.choice.value = "random_forest"
    window.settle()
    return image, labels


def classify_train(data: Path) -> Window:
    window = Window("Classify", data, (1380, 990))
    _teach(window)
    return window


def _taught(window: Window) -> Any:
    """Teach, and set the panel to use what was learnt."""
    _, labels = _teach(window)
    window.press()
    for layer in window.viewer.layers[1:]:
        layer.visible = False
    window.panel.task.value = APPLY
    return labels


def classify(data: Path) -> Window:
    window = Window("Classify", data)
    labels = _taught(window)
    window.panel.target.where.value, window.panel.target.objects.value = "objects", labels
    window.press()
    return window


def class_map(data: Path) -> Window:
    window = Window("Classify", data)
    _taught(window)
    window.panel.target.where.value = "tiles"
    window.panel.target.stride.value = 8
    window.press()
    return window


def explain(data: Path) -> Window:
    window = Window("Explain", data)
    panel = window.panel
    _, points = tissue(window)
    panel.classifier.choice.value = "colon_cnn"
    panel.target.where.value, panel.target.points.value = "points", points
    panel.explain.statistics.value = True
    window.press()
    return window


def study(data: Path) -> Window:
    window = Window("Study", data, (1560, 1040))
    panel = window.panel
    panel.source.value = "synthetic:cells"
    panel.preset.value = "custom"
    panel.recipes.value = "raw\nblurred = gaussian:kernel_size=5\nmedian:kernel_size=5\ncentre"
    panel.classifiers.value = "random_forest:trees=50; knn"
    panel.noise.value = "gaussian:50"
    panel.design.value = "cross-validation:folds=5"
    window.press()
    results: Any = window.viewer.window._qt_window.findChild(QDockWidget, "Study results")
    results.setFloating(False)  # a window of its own is not in the picture
    choice = panel.table.figure_choice
    choice.setCurrentIndex(choice.findText("Differences", Qt.MatchFlag.MatchStartsWith))
    window.viewer.window._qt_window.resizeDocks([results], [560], Qt.Orientation.Vertical)
    return window


def preview(data: Path) -> Window:
    window = Window("Denoise", data)
    slide = tifffile.imread(data / "histology_wsi" / "cmu_small_region.svs")
    coloured = noisy(slide, 25)
    levels = [coloured, coloured[::2, ::2], coloured[::4, ::4]]
    window.viewer.add_image(levels, name="slide", rgb=True)
    window.look_at(1000, 1400, 1.2)
    window.panel.preview_box.value = True
    while "preview" not in window.viewer.layers:
        window.settle()
    return window


SCENES: dict[str, Callable[[Path], Window]] = {
    "workflow": workflow,
    "stack": stack,
    "denoise": denoise,
    "mask": mask,
    "clusters": clusters,
    "train_denoiser": train_denoiser,
    "quality": quality,
    "classify_train": classify_train,
    "classify": classify,
    "class_map": class_map,
    "explain": explain,
    "study": study,
    "preview": preview,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(SCENES))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images")
    arguments = parser.parse_args()
    os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "settings.yaml")  # nobody's own theme and size
    for name in arguments.scenes or SCENES:
        window = SCENES[name](arguments.data.resolve())
        window.settle(1.5)
        picture = Image.fromarray(window.viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
        picture.quantize(256).save(arguments.output / f"{name}.png", optimize=True)  # a third of the size
        window.viewer.close()
        QThreadPool.globalInstance().waitForDone()  # a preview may be under way
        print(name)


if __name__ == "__main__":
    main()
