"""The figures of a study: what they draw, and that nothing overlaps or is cut off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.integrate import trapezoid
from sklearn.metrics import confusion_matrix, roc_auc_score

from napari_denoise_classify.core.study import figures, statistics
from napari_denoise_classify.core.study.cell_figures import macro_curve
from napari_denoise_classify.core.study.result import StudyResult

from .fabricated import CLASSES, make_result

MANY = ("none", "gaussian", "median", "dncnn", "centre", "random", "Restormer, blind", "centre after DnCNN")


@pytest.fixture(scope="module")
def small() -> StudyResult:
    return make_result(effects={("knn", "dncnn"): 0.5}, n=600, examples=2)


@pytest.fixture(scope="module")
def noisy() -> StudyResult:
    return make_result("holdout", noise=("", "gaussian:10", "gaussian:25"), recipes=("none", "dncnn"))


@pytest.fixture(scope="module")
def large() -> StudyResult:
    classifiers = ("cnn", "svm", "random_forest", "knn")
    return make_result(recipes=MANY, classifiers=classifiers, examples=3, n=300)


def texts_of(figure: Figure) -> list[Text]:
    """Return the texts that are drawn: matplotlib keeps hidden ones, too."""
    figure.set_canvas(FigureCanvasAgg(figure))
    figure.draw_without_rendering()
    hidden = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                outside = not low - 1e-9 <= tick.get_loc() <= high + 1e-9
                hidden |= {id(tick.label2)} | ({id(tick.label1)} if outside or not ax.axison else set())
    found = []
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        drawn = text.get_visible() and (text.axes is None or text.axes.get_visible()) and id(text) not in hidden
        if drawn and text.get_text().strip():
            found.append(text)
    return found


def check_layout(figure: Figure) -> None:
    """No text leaves the figure, and no two texts that are not turned overlap by more than a hair."""
    texts = texts_of(figure)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = figure.canvas.get_width_height()
    boxes = []
    for text in texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= -2, text
        assert box.y0 >= -2, text
        assert box.x1 <= width + 2, text
        assert box.y1 <= height + 2, text
        if text.get_rotation() % 90 == 0:
            boxes.append((text, box))
    for i, (text, box) in enumerate(boxes):
        for other, second in boxes[:i]:
            x = min(box.x1, second.x1) - max(box.x0, second.x0)
            y = min(box.y1, second.y1) - max(box.y0, second.y0)
            same = text.get_text() == other.get_text() and abs(box.x0 - second.x0) < 1
            assert same or x <= 3 or y <= 3, (text, other)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_nothing_overlaps_in_small_studies(name: str, small: StudyResult, noisy: StudyResult) -> None:
    figure = figures.FIGURES[name](noisy if name == "robustness" else small)
    assert figure is not None
    check_layout(figure)


@pytest.mark.parametrize("name", [name for name in figures.FIGURES if name != "robustness"])
def test_nothing_overlaps_in_large_studies(name: str, large: StudyResult) -> None:
    figure = figures.FIGURES[name](large)
    assert figure is not None
    check_layout(figure)


def test_box_plots_show_every_fold_and_the_mean(small: StudyResult) -> None:
    figure = figures.box_plot(small)
    assert figure is not None
    lines = figure.axes[0].get_lines()
    dots = [line for line in lines if line.get_marker() == "o"]
    means = [line for line in lines if line.get_marker() == "D"]
    expected = small.cells.groupby(["classifier", "recipe"], sort=False)["macro_f1"]
    assert sorted(len(line.get_ydata()) for line in dots) == [10] * 6
    np.testing.assert_allclose(
        sorted(float(np.asarray(line.get_ydata())[0]) for line in means), sorted(expected.mean())
    )


def test_differences_show_the_intervals_of_the_tests(small: StudyResult) -> None:
    figure = figures.difference_plot(small)
    assert figure is not None
    table = statistics.tests(small)
    drawn = {
        tuple(np.round(np.asarray(line.get_xdata(), float), 6))
        for ax in figure.axes
        for line in ax.get_lines()
        if line.get_marker() == "None" and len(np.asarray(line.get_xdata())) == 2
    }
    for low, high in zip(table["low"], table["high"], strict=True):
        assert (round(low, 6), round(high, 6)) in drawn
    shown = " ".join(text.get_text() for text in texts_of(figure))
    best = table.loc[table["difference"].idxmax()]
    assert f"{best['difference']:.1f} [{best['low']:.1f}, {best['high']:.1f}]" in shown


def test_an_interval_that_does_not_fit_ends_in_an_arrow(small: StudyResult, monkeypatch: pytest.MonkeyPatch) -> None:
    table = statistics.tests(small)
    table.loc[table.index[0], "low"] = -20 * table[["low", "high"]].abs().max(axis=None)
    monkeypatch.setattr(figures, "tests", lambda *_: table)
    figure = figures.difference_plot(small)
    assert figure is not None
    arrows = [line for ax in figure.axes for line in ax.get_lines() if line.get_marker() in ("<", ">")]
    assert [line.get_marker() for line in arrows] == ["<"]
    low, high = figure.axes[0].get_xlim()
    assert low < float(np.asarray(arrows[0].get_xdata())[0]) < high


def test_confusion_matrices_hold_the_counts(small: StudyResult) -> None:
    figure = figures.confusion_matrices(small, "knn", "dncnn")
    assert figure is not None
    chosen = small.predictions[(small.predictions["classifier"] == "knn") & (small.predictions["recipe"] == "dncnn")]
    counts = confusion_matrix(chosen["truth"], chosen["predicted"], labels=list(CLASSES))
    shares = np.asarray(figure.axes[0].get_images()[0].get_array())
    np.testing.assert_allclose(shares, counts / counts.sum(axis=1, keepdims=True))
    written = [int(text.get_text().split("\n")[1]) for text in figure.axes[0].texts]
    np.testing.assert_array_equal(written, counts.ravel())


def test_roc_curves_hold_the_area(small: StudyResult) -> None:
    chosen = small.predictions[(small.predictions["classifier"] == "cnn") & (small.predictions["recipe"] == "none")]
    proba = chosen[[f"p_{name}" for name in CLASSES]].to_numpy()
    truth = np.array([CLASSES.index(name) for name in chosen["truth"]])
    area = np.mean([roc_auc_score(truth == c, proba[:, c]) for c in range(len(CLASSES))])
    assert trapezoid(*macro_curve(truth, proba)[::-1]) == pytest.approx(area, abs=0.01)
    figure = figures.roc_curves(small, "cnn", "none")
    assert figure is not None
    legend = figure.axes[0].get_legend()
    assert legend is not None
    said = [text.get_text() for text in legend.get_texts()]
    assert f"mean, {area:.3f}" in said
    assert len(said) == 1 + len(CLASSES)


def test_reliability_diagrams_say_the_error(small: StudyResult) -> None:
    figure = figures.reliability_diagrams(small, "cnn", "none")
    assert figure is not None
    chosen = small.predictions[(small.predictions["classifier"] == "cnn") & (small.predictions["recipe"] == "none")]
    confidence = chosen[[f"p_{name}" for name in CLASSES]].max(axis=1).to_numpy()
    right = (chosen["truth"] == chosen["predicted"]).to_numpy()
    bins = np.ceil(confidence * 15)
    error = sum(abs((confidence - right)[bins == k].sum()) for k in range(1, 16)) / len(chosen)
    assert f"ECE {error:.3f}" in figure.axes[0].get_title()


def test_examples_outline_the_critical_area_and_mark_what_is_wrong(small: StudyResult) -> None:
    figure = figures.example_images(small)
    assert figure is not None
    example = small.examples[0]
    heat = figure.axes[3]  # below the first image of three
    outline = heat.get_lines()[0]
    np.testing.assert_allclose(outline.get_xdata(), example["contours"]["none"][0][:, 1])
    for j, recipe in enumerate(("none", "gaussian", "dncnn")):
        label = figure.axes[3 + j].xaxis.label
        said, probability = example["predicted"][recipe]
        assert label.get_text() == f"{said} {probability:.2f}"
        assert (label.get_color() == "black") == (said == example["label"])
    assert figures.example_images(replace(small, examples=[])) is None


def test_robustness_curves_follow_the_noise(noisy: StudyResult) -> None:
    figure = figures.robustness_curves(noisy)
    assert figure is not None
    titles = {ax.get_title(): ax for ax in figure.axes}
    means = noisy.cells[(noisy.cells["classifier"] == "knn") & (noisy.cells["recipe"] == "dncnn")]["macro_f1"]
    line = titles["macro-F1, KNN"].get_lines()[1]
    np.testing.assert_allclose(line.get_xdata(), [0, 10, 25])
    np.testing.assert_allclose(line.get_ydata(), means)
    assert {"PSNR (dB)", "SSIM"} <= set(titles)
    assert figures.robustness_curves(make_result("holdout")) is None


@pytest.mark.parametrize(
    ("conditions", "places"),
    [(["", "gaussian:10"], [0, 10]), (["", "poisson:2", "gaussian:10"], [0, 1, 2]), (["", "gaussian:1-5"], [0, 1])],
)
def test_only_noise_of_one_kind_has_an_axis_of_levels(conditions: list[str], places: list[float]) -> None:
    labels, found, _ = figures.noise_axis(conditions)
    assert found == places
    assert len(set(labels)) == len(conditions)


def test_figures_are_saved_twice_and_named(tmp_path: Path) -> None:
    result = make_result("holdout", recipes=("none", "dncnn"), classifiers=("knn",), noise=("", "gaussian:25"), n=80)
    written = figures.save_figures(result, tmp_path / "new")
    names = {path.name for path in written}
    assert {"box_plot.svg", "box_plot_gaussian-25.png", "robustness.svg", "roc_curves.png"} <= names
    assert names == {path.name for path in (tmp_path / "new").iterdir()}
    assert all(path.stat().st_size > 2000 for path in written)


def test_failed_cells_leave_gaps(small: StudyResult) -> None:
    failed = small.cells["recipe"] == "dncnn"
    cells = small.cells.assign(status=np.where(failed, "failed", "done"))
    cells.loc[failed, ["macro_f1", "accuracy", "balanced_accuracy"]] = np.nan
    result = replace(small, cells=cells, predictions=small.predictions[small.predictions["recipe"] != "dncnn"])
    for name, draw in figures.FIGURES.items():
        assert (draw(result) is None) == (name == "robustness"), name
