"""The whole job on one real image, offline: what the command ``demo`` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .classify.bundle import Classifier
from .classify.datasets import Crops
from .classify.training import train_classifier_iter
from .explain.attribution import explain_iter
from .explain.contours import critical_area
from .figures import class_colours, show, show_classes, show_heat
from .images import from_float
from .noise import add_gaussian
from .progress import Progress, Steps, run, within
from .recipe import Recipe
from .samples import Nuclei, ihc_nuclei

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPES = {
    "noisy": Recipe(),
    "Gaussian": Recipe(["gaussian"]),
    "median": Recipe(["median"]),
    "DnCNN": Recipe(["dncnn"]),
    "DnCNN + centre": Recipe(["dncnn", "centre"]),
}
_EXAMPLES = 4


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What the demonstration found.

    Attributes
    ----------
    table : pandas.DataFrame
        Macro-F1, accuracy and number of test nuclei, for the clean image and for each recipe on the noisy one.
    figure : matplotlib Figure
    classifier : Classifier
    """

    table: Any
    figure: Figure
    classifier: Classifier


def demonstrate_iter(sigma: float = 50.0, seed: int = 0, colour: bool = False) -> Steps[Demonstration]:
    """Train a CNN on clean nuclei, and ask what noise and denoising do to what it says.

    Parameters
    ----------
    sigma : float
        Gaussian noise added to the image, in grey levels.
    seed : int
        Of the split by field, of the training and of the noise.
    colour : bool
        Keep the colours. Since the labels come from them, the task is then so easy that noise hardly matters.

    Returns
    -------
    Demonstration
    """
    import pandas as pd
    from skimage.color import rgb2gray

    yield Progress(0.0, "finding nuclei")
    nuclei = ihc_nuclei()
    clean = nuclei.image if colour else from_float(255 * rgb2gray(nuclei.image), np.uint8)
    noisy_image = from_float(add_gaussian(clean, sigma, seed), np.uint8)
    train, test = nuclei.crops(clean).split(0.4, seed)
    where = {name: i for i, name in enumerate(test.names)}
    chosen = [i for i, name in enumerate(f"nucleus {k}" for k in nuclei.ids) if name in where]
    noisy_test = nuclei.crops(noisy_image).subset(np.array(chosen))
    classifier = yield from within(
        train_classifier_iter(train, "cnn", seed=seed, input_size=32, epochs=30, batch_size=32),
        0.05,
        0.7,
        "training a CNN",
    )
    rows = {"clean": (yield from within(classifier.evaluate_iter(test), 0.7, 0.7, "testing"))}
    for i, (name, recipe) in enumerate(RECIPES.items()):
        work = classifier.evaluate_iter(noisy_test, recipe)
        rows[name] = yield from within(work, 0.7 + 0.05 * i, 0.7 + 0.05 * (i + 1), f"testing {name}")
    table = pd.DataFrame(
        {name: {"macro_f1": e.macro_f1, "accuracy": e.accuracy, "n": e.n} for name, e in rows.items()}
    ).T.rename_axis("images")
    table["n"] = table["n"].astype(int)
    yield Progress(0.95, "drawing")
    denoised = run(RECIPES["DnCNN"].apply_iter(noisy_image, rgb=colour)).image
    figure = _draw(nuclei, noisy_image, denoised, classifier, test, noisy_test, table, sigma)
    return Demonstration(table, figure, classifier)


def _draw(
    nuclei: Nuclei,
    noisy: Any,
    denoised: Any,
    classifier: Classifier,
    test: Crops,
    noisy_test: Crops,
    table: Any,
    sigma: float,
) -> Figure:
    import pandas as pd
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 8.0), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.55, 1])
    top, bottom = parts
    axs = top.subplots(1, 4, width_ratios=[1, 1, 1, 0.8])
    show(axs[0], noisy, f"1  noisy (σ = {sigma:g})")
    show(axs[1], denoised, "2  denoised: DnCNN, blind")
    show(axs[2], denoised, f"3  classified: {len(test)} nuclei of fields never trained on")
    recipe = RECIPES["DnCNN"]
    wanted = [int(name.split()[1]) for name in noisy_test.names]
    centres = nuclei.centres[np.isin(nuclei.ids, wanted)]
    positions = pd.DataFrame(centres, columns=["y", "x"])
    positions["class"] = classifier.predict(noisy_test.images, recipe)
    show_classes(axs[2], positions, class_colours(classifier.classes), size=26)
    colours = ["#444444", *["#B0B0B0"] * (len(table) - 1)]
    axs[3].barh(table.index, table["macro_f1"], color=colours)
    for i, value in enumerate(table["macro_f1"]):
        axs[3].text(
            value - 0.03, i, f"{value:.2f}", va="center", ha="right", color="white" if i == 0 else "black", fontsize=9
        )
    axs[3].set(xlim=(0, 1), title="4  does it help?  macro-F1")
    axs[3].title.set_fontsize(9)
    axs[3].invert_yaxis()
    axs[3].spines[["top", "right"]].set_visible(False)

    panels = bottom.subplots(2, 2 * _EXAMPLES, width_ratios=[1, 1] * _EXAMPLES)
    bottom.suptitle(
        "5  why?  Grad-CAM and critical area (top 20 %) of the same nuclei: noisy above, denoised below", fontsize=9
    )
    picks = _examples(classifier, noisy_test, recipe)
    for row, (label, how) in enumerate((("noisy", RECIPES["noisy"]), ("DnCNN", recipe))):
        images = [noisy_test.images[i] for i in picks]
        shown, _ = run(classifier.prepare_iter(images, how))
        heats = run(explain_iter(classifier, images, recipe=how))
        proba = run(classifier.predict_proba_iter(images, how))
        for k, (image, heat, p) in enumerate(zip(shown, heats, proba, strict=True)):
            show(panels[row, 2 * k], image, f"{label}; truth {noisy_test.labels[picks[k]]}" if row == 0 else "")
            show(panels[row, 2 * k + 1], image, f"{classifier.classes[p.argmax()]} {p.max():.2f}")
            show_heat(panels[row, 2 * k + 1], heat, critical_area(heat))
            for ax in panels[row, 2 * k : 2 * k + 2]:
                ax.title.set_fontsize(7)
    return figure


def _examples(classifier: Classifier, noisy: Crops, recipe: Recipe) -> list[int]:
    """Choose nuclei of each class in turn, those first whose class denoising changes."""
    before = run(classifier.predict_proba_iter(noisy.images, Recipe()))
    after = run(classifier.predict_proba_iter(noisy.images, recipe))
    change = np.abs(after - before).max(axis=1)
    ranked: list[list[int]] = [
        sorted(np.flatnonzero(noisy.labels == name).tolist(), key=lambda i: -change[i]) for name in noisy.classes
    ]
    mixed = [group[k] for k in range(min(map(len, ranked))) for group in ranked]
    return mixed[:_EXAMPLES]
