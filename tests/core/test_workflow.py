"""Classifying and explaining whole planes and crops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile

import napari_denoise_classify as ndc
from napari_denoise_classify.core.files import ImageFile
from napari_denoise_classify.core.progress import run
from napari_denoise_classify.core.results import save_result
from napari_denoise_classify.core.samples import ihc_nuclei
from napari_denoise_classify.core.workflow import classify_iter


@pytest.fixture(scope="module")
def example():
    return ndc.load_classifier(ndc.example_classifier())


@pytest.fixture(scope="module")
def nuclei():
    return ihc_nuclei()


def test_crops_are_classified_as_the_same_crops_alone(example, nuclei):
    result = ndc.classify(nuclei.image, example, rgb=True, centres=nuclei.centres)
    alone = example.predict_proba(nuclei.crops().images)
    np.testing.assert_allclose(result.table[["p_DAB-negative", "p_DAB-positive"]], alone, atol=1e-6)
    assert (result.table["class"].to_numpy() == nuclei.classes).mean() > 0.95
    np.testing.assert_array_equal(result.image, nuclei.image)
    assert result.record["recipe_matches_training"]


def test_recipe_is_applied_to_each_crop(example, nuclei):
    recipe = ndc.Recipe(["gaussian", "centre"])
    centres = np.array([[100.0, 100.0], [200.0, 300.0]])
    result = ndc.classify(nuclei.image, example, rgb=True, centres=centres, recipe=recipe)
    assert not result.record["recipe_matches_training"]
    for y, x in centres.astype(int):
        area = (slice(y - 16, y + 16), slice(x - 16, x + 16))
        np.testing.assert_array_equal(result.image[area], recipe.apply(nuclei.image[area], rgb=True))
    outside = np.ones(nuclei.image.shape[:2], bool)
    outside[84:116, 84:116] = outside[184:216, 284:316] = False
    np.testing.assert_array_equal(result.image[outside], nuclei.image[outside])
    circle = ndc.mask(np.ones((32, 32)), "centre", return_mask=True).mask
    assert result.kept == pytest.approx(circle.mean())
    assert result.mask.sum() == 2 * circle.sum()


def test_masks_that_depend_on_the_content_are_those_of_each_crop(example, nuclei):
    recipe = ndc.Recipe([("gaussian", {"kernel_size": 3}), ("kmeans", {"clusters": 2, "keep": "darkest"})])
    centres = np.array([[100.0, 100.0], [200.0, 300.0]])
    result = ndc.classify(nuclei.image, example, rgb=True, centres=centres, recipe=recipe)
    scale = example.intensity_range
    kept = []
    for y, x in centres.astype(int):
        area = (slice(y - 16, y + 16), slice(x - 16, x + 16))
        alone = run(recipe.apply_iter(nuclei.image[area], rgb=True, intensity_range=scale))
        np.testing.assert_array_equal(result.image[area], alone.image)
        np.testing.assert_array_equal(result.mask[area], alone.mask)
        kept.append(alone.kept)
    assert kept[0] != kept[1]
    assert result.kept == pytest.approx(np.mean(kept))
    assert result.mask.sum() == pytest.approx(32 * 32 * sum(kept))
    assert not result.image[84:116, 84:116][~result.mask[84:116, 84:116]].any()
    whole = ndc.classify(nuclei.image[:64, :64], example, rgb=True, recipe=recipe)
    alone = run(recipe.apply_iter(nuclei.image[:64, :64], rgb=True, intensity_range=scale))
    np.testing.assert_array_equal(whole.mask, alone.mask)
    assert whole.kept == pytest.approx(alone.kept)


def test_without_masks_everything_is_kept(example, nuclei):
    result = ndc.classify(nuclei.image[:40, :40], example, rgb=True, recipe=ndc.Recipe(["median"]))
    assert result.mask is None
    assert result.kept == 1


def test_planes_of_a_stack_in_any_axis_order(example, nuclei):
    planes = np.stack([nuclei.image[:64, :64], nuclei.image[300:364, 430:494]])
    one = ndc.classify(planes, example, axes="TYXS", explain="gradcam")
    other = ndc.classify(planes.transpose(3, 1, 2, 0), example, axes="SYXT", explain="gradcam")
    pd.testing.assert_frame_equal(one.table, other.table)
    assert one.heat.shape == (2, 64, 64)
    np.testing.assert_array_equal(one.heat, other.heat.transpose(2, 0, 1))
    assert one.table["t"].tolist() == [0, 1]


def test_outlines_stay_on_the_image(example, nuclei):
    centres = np.array([[0.0, 0.0], [511.0, 511.0], [0.0, 511.0]])
    result = ndc.classify(nuclei.image, example, rgb=True, centres=centres, explain="gradcam")
    for _, contour in result.contours:
        assert contour.min() >= -0.5
        assert contour.max() <= 511.5


def test_cancel_between_any_two_steps(example, nuclei):
    work = classify_iter(nuclei.image, example, rgb=True, centres=nuclei.centres[:3], explain="gradcam")
    next(work)
    work.close()
    with pytest.raises(StopIteration):
        next(work)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"centres": np.zeros((0, 2))}, "no positions"),
        ({"centres": np.array([[1.0, 600.0]])}, "outside the image"),
        ({"centres": np.array([[1.0, 2.0, 3.0]])}, "2 coordinates"),
        ({"target": "nobody"}, "target='nobody' is not allowed"),
        ({"explain": "magic"}, "'magic' is not an explain step"),
        ({"centres": [[9, 9], [20, 20]], "ids": [1]}, "There are 2 samples, but ids has the shape"),
        ({"centres": [[9, 9], [20, 20]], "groups": ["a", "b", "c"]}, "2 samples, but groups has the shape"),
    ],
)
def test_bad_input_is_refused(example, nuclei, arguments, words):
    with pytest.raises(ValueError, match=words):
        ndc.classify(nuclei.image, example, rgb=True, **arguments)


def test_results_are_saved_once_and_whole(example, nuclei, tmp_path):
    result = ndc.classify(
        nuclei.image, example, axes="YXS", centres=nuclei.centres[:10], recipe=ndc.Recipe(["centre"]), explain="gradcam"
    )
    source = ImageFile(nuclei.image, "YXS", tmp_path / "ihc.tif", (2.0, 2.0), "centimeter")
    paths = save_result(tmp_path, "ihc", source, result, example.classes)
    assert set(paths) == {"image", "table", "figure", "record", "mask", "heat", "contours"}
    np.testing.assert_array_equal(tifffile.imread(paths["image"]), result.image)
    np.testing.assert_array_equal(tifffile.imread(paths["heat"]), result.heat)
    pd.testing.assert_frame_equal(pd.read_csv(paths["table"]), result.table, check_dtype=False)
    contours = pd.read_csv(paths["contours"])
    assert len(contours) == sum(len(c) for _, c in result.contours)
    with pytest.raises(FileExistsError, match="exists already"):
        save_result(tmp_path, "ihc", source, result, example.classes)


def test_sixteen_bit_image_of_another_dtype_is_scaled_by_its_own_range(nuclei):
    gray = nuclei.image.mean(axis=-1)
    data = ndc.Crops(
        [c.mean(axis=-1).astype(np.uint8) for c in nuclei.crops().images],
        nuclei.classes,
        None,
        list(map(str, nuclei.ids)),
    )
    clf = ndc.train_classifier(data, "random_forest", trees=30, input_size=8)
    wide = (gray / gray.max() * 60000).astype(np.uint16)
    found = run(classify_iter(wide, clf, centres=nuclei.centres)).table["class"].to_numpy()
    assert (found == nuclei.classes).mean() > 0.85
