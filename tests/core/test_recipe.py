"""Recipes: saved, compared, replayed, applied."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_denoise_classify as ndc
from napari_denoise_classify import Recipe
from napari_denoise_classify.core.images import PlaneImage
from napari_denoise_classify.core.parameters import Parameter
from napari_denoise_classify.core.progress import run


def values(p: Parameter) -> st.SearchStrategy[Any]:
    if p.choices:
        found: st.SearchStrategy[Any] = st.sampled_from(p.choices)
    elif p.type is bool:
        found = st.booleans()
    elif p.type is int:
        found = st.integers(int(p.minimum or 0), int(p.maximum or 10**6))
        found = found.filter(lambda v: v % 2 == 1) if p.odd else found
    elif p.type is float:
        found = st.floats(p.minimum, p.maximum)
    else:
        found = st.text(min_size=1)
    return st.none() | found if p.optional else found


def one_step(spec: Any) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(spec.id), st.fixed_dictionaries({}, optional={p.name: values(p) for p in spec.parameters}))


ranges = st.sampled_from(["image", "stack", "plane"]) | st.tuples(
    st.floats(-1e6, 0), st.floats(0, 1e6, exclude_min=True)
)
recipes = st.builds(
    Recipe,
    st.lists(st.one_of([one_step(s) for kind in ("denoise", "mask") for s in ndc.steps(kind)]), max_size=4),
    ranges,
)


@given(recipes)
def test_json_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert hash(Recipe.from_json(recipe.to_json())) == hash(recipe)


@given(recipes)
def test_pickle_and_repr_round_trip(recipe: Recipe) -> None:
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert eval(repr(recipe), {"Recipe": Recipe}) == recipe


@given(recipes)
def test_python_code_replays_the_recipe(recipe: Recipe) -> None:
    lines = recipe.to_python(axes="ZYX").splitlines()
    assert lines[-1] == "result = recipe.apply(image, axes='ZYX')"
    names: dict[str, Any] = {}
    exec("\n".join(lines[:-1]), names)
    assert names["recipe"] == recipe


def test_python_code_runs() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    recipe = Recipe([("median", {"kernel_size": 3}), "centre"])
    names = {"image": image}
    exec(recipe.to_python(rgb=True), names)
    np.testing.assert_array_equal(names["result"], recipe.apply(image, rgb=True))


def test_files_round_trip(tmp_path: Path) -> None:
    recipe = Recipe(["gaussian", ("random", {"seed": 3})], (0, 4095))
    path = tmp_path / "new folder" / "recipe.json"
    recipe.to_json(path)
    assert Recipe.from_json(path) == Recipe.from_json(str(path)) == recipe
    assert [p.name for p in path.parent.iterdir()] == ["recipe.json"]


def test_recipes_with_other_parameters_differ() -> None:
    assert Recipe(["gaussian"]) == Recipe([("gaussian", {"kernel_size": 5})]) == Recipe("gaussian")
    assert Recipe(["gaussian"]) != Recipe([("gaussian", {"kernel_size": 7})])
    assert Recipe(["gaussian", "centre"]) != Recipe(["centre", "gaussian"])
    assert Recipe(["none"]) != Recipe(["none"], "plane")


def test_recipes_cannot_be_changed() -> None:
    recipe = Recipe(["gaussian"])
    with pytest.raises(AttributeError):
        recipe.steps = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        recipe.steps[0].parameters["kernel_size"] = 7  # type: ignore[index]


def test_titles() -> None:
    assert Recipe().title == "raw"
    assert Recipe(["median", "centre"]).title == "median + centre"
    assert not Recipe()
    assert not Recipe(["median"]).masks
    assert Recipe(["median", "centre"]).masks


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (["blur"], "'blur' is not a denoise or mask step"),
        (["cnn"], "'cnn' is not a denoise or mask step"),
        ([("gaussian", {"kernel_size": 4})], "gaussian: kernel_size=4 is not allowed; give an odd whole number"),
        ([("gaussian", {"size": 4})], "gaussian has no parameter 'size'"),
        ([("gaussian", {1: 4})], "gaussian has no parameter '1'"),
        ([("gaussian",)], "is not a step"),
        ([("gaussian", 5)], "is not a step"),
        ([7], "7 is not a step"),
    ],
)
def test_bad_steps(steps: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recipe(steps)


GOOD = Recipe(["gaussian"]).to_dict()


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ([], "not a recipe"),
        ({"steps": []}, "not a recipe"),
        ({**GOOD, "version": 99}, "version 99"),
        ({**GOOD, "version": "1"}, "version '1'"),
        ({**GOOD, "steps": None}, "damaged"),
        ({**GOOD, "steps": ["gaussian"]}, "damaged"),
        ({**GOOD, "steps": [{"step": "gaussian"}]}, "damaged"),
        ({**GOOD, "steps": [{"step": "gaussian", "parameters": 3}]}, "is not a step"),
        ({**GOOD, "steps": [{"step": ["x"], "parameters": {}}]}, "is not a denoise or mask step"),
        ({**GOOD, "intensity_range": [3, 1]}, "intensity_range="),
    ],
)
def test_bad_saved_recipes(saved: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recipe.from_dict(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b'"text"', b"{}"])
def test_bad_recipe_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="recipe"):
        Recipe.from_json(path)


def test_missing_recipe_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        Recipe.from_json(tmp_path / "none.json")


# --- applying -------------------------------------------------------------------------------------------------------


def test_steps_run_in_their_order() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    blurred_first = Recipe(["gaussian", "centre"]).apply(image)
    masked_first = Recipe(["centre", "gaussian"]).apply(image)
    np.testing.assert_array_equal(blurred_first, ndc.mask(ndc.denoise(image, "gaussian"), "centre"))
    np.testing.assert_array_equal(masked_first, ndc.denoise(ndc.mask(image, "centre"), "gaussian"))
    assert (blurred_first != masked_first).any()


def test_masks_of_a_recipe_add_up() -> None:
    image = np.ones((2, 3, 60, 60), np.uint8)
    both = run(Recipe(["centre", ("random", {"seed": 1})]).apply_iter(image, "ZCYX"))
    circle = ndc.mask(image, "centre", return_mask=True)
    cells = ndc.mask(image, "random", seed=1, return_mask=True)
    np.testing.assert_array_equal(both.mask, circle.mask & cells.mask)
    np.testing.assert_array_equal(both.image, both.mask)
    assert both.kept == pytest.approx(both.mask.mean())


def test_the_source_is_not_changed() -> None:
    image = np.random.default_rng(0).random((2, 24, 24), np.float32)
    before = image.copy()
    for step in ("none", "gaussian", "median", "centre", "random"):
        Recipe([step]).apply(image)[...] = 0
    np.testing.assert_array_equal(image, before)


def test_progress_never_goes_back() -> None:
    seen: list[float] = []
    image = np.broadcast_to(np.uint8(3), (9, 1024, 1024))  # more than a group of planes
    run(Recipe([("median", {"kernel_size": 3}), "centre"]).apply_iter(image), lambda p: seen.append(p.fraction))
    assert seen == sorted(seen)
    assert 0 <= seen[0] < seen[-1] <= 1
    assert len(seen) > 4


def test_cancelling_stops_the_work() -> None:
    work = Recipe(["median"]).apply_iter(PlaneImage.wrap(np.ones((8, 8))))
    next(work)
    work.close()
    with pytest.raises(StopIteration):
        next(work)


def test_the_record_tells_version_and_weights() -> None:
    record = Recipe(["median", "dncnn"]).record(samples=1)
    assert record["package_version"] == ndc.__version__
    assert record["recipe"] == Recipe(["median", "dncnn"]).to_dict()
    assert record["details"][0] == {}
    assert len(record["details"][1]["sha256"]) == 64


def test_paths_and_numbers_of_numpy_are_taken(tmp_path):
    recipe = Recipe(
        [
            ("gaussian", {"kernel_size": np.int64(7), "blur_sigma": np.float32(1.5)}),
            ("dncnn", {"weights": tmp_path / "some.pth"}),
            ("centre", {"equal_area": np.bool_(True)}),
        ]
    )
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.steps[1].parameters["weights"] == str(tmp_path / "some.pth")


# --- enlarging ------------------------------------------------------------------------------------------------------


def twice(path: Path, samples: int) -> tuple[str, dict[str, Any]]:
    """Make the step that enlarges, with weights that do something."""
    import torch
    from safetensors.torch import save_file

    from napari_denoise_classify.core.denoise.networks.unet import UNet

    torch.manual_seed(0)
    net = UNet(samples, 2, 1, upscale=2)
    torch.nn.init.normal_(net.tail.weight, std=0.2)
    save_file(net.state_dict(), path / "twice.safetensors")
    return ("unet", {"upscale": 2, "weights": str(path / "twice.safetensors")})


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    ("axes", "shape", "samples", "expected"),
    [
        ("YX", (9, 14), 1, (18, 28)),
        ("TCZYX", (2, 2, 3, 9, 14), 1, (2, 2, 3, 18, 28)),
        ("XYZ", (14, 9, 2), 1, (28, 18, 2)),
        ("YXS", (9, 14, 3), 3, (18, 28, 3)),
        ("ZYXS", (2, 9, 14, 4), 3, (2, 18, 28, 4)),
        ("SYX", (3, 9, 14), 1, (3, 18, 28)),
    ],
)
def test_enlarging(
    tmp_path: Path, dtype: str, axes: str, shape: tuple[int, ...], samples: int, expected: tuple[int, ...]
) -> None:
    import dask.array

    image = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
    recipe = Recipe([twice(tmp_path, samples)])
    assert recipe.upscale == 2
    out = recipe.apply(image, axes)
    assert (out.shape, out.dtype) == (expected, image.dtype)
    lazy = recipe.apply(dask.array.from_array(image, chunks=5), axes)
    assert (lazy.shape, lazy.dtype) == (expected, image.dtype)
    np.testing.assert_allclose(lazy.compute().astype(float), out.astype(float), atol=0.01 if dtype == "float32" else 1)
    coarse = [slice(None, None, 2) if letter in "YX" else slice(None) for letter in axes]
    if shape[-1] == 4:
        np.testing.assert_array_equal(out[tuple(coarse)][..., 3], image[..., 3])  # alpha is carried along


def test_masks_after_enlarging_are_larger(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1, 250, (2, 40, 50), np.uint8)
    step = twice(tmp_path, 1)
    for steps in ([step, "centre"], ["centre", step], ["centre", step, "centre"]):
        found = run(Recipe(steps).apply_iter(image))
        assert found.image.shape == found.mask.shape == (2, 80, 100)
        assert found.kept == pytest.approx(found.mask.mean())
    after = run(Recipe([step, "centre"]).apply_iter(image))
    assert (after.image[~after.mask] == 0).all()
    np.testing.assert_array_equal(after.mask, ndc.mask(np.ones((2, 80, 100), np.uint8), "centre") > 0)
    before = run(Recipe(["centre", step]).apply_iter(image))
    np.testing.assert_array_equal(
        before.mask, (ndc.mask(np.ones_like(image), "centre") > 0).repeat(2, axis=1).repeat(2, axis=2)
    )


def test_enlarging_multiplies(tmp_path: Path) -> None:
    step = twice(tmp_path, 1)
    assert Recipe(["median", step, step]).upscale == 4
    assert Recipe(["median", "centre"]).upscale == 1
    assert Recipe([step, step]).apply(np.zeros((6, 7), np.uint8)).shape == (24, 28)


def test_weights_that_enlarge_need_to_be_asked_to(tmp_path: Path) -> None:
    _, parameters = twice(tmp_path, 1)
    with pytest.raises(ValueError, match=r"unet: weights=.* are for upscale=2: set that"):
        Recipe([("unet", {**parameters, "upscale": 1})]).apply(np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match="unet: upscale=3 is not allowed; give a whole number from 1 to 2"):
        Recipe([("unet", {**parameters, "upscale": 3})])


def test_steps_may_ask_for_the_intensity_ranges() -> None:
    """What a step gets beside the planes are the intensities that 0 and 1 stand for, plane by plane."""
    import napari_denoise_classify.core.steps as steps

    seen: list[Any] = []

    def look(planes: Any, ranges: Any) -> Any:
        """Look."""
        seen.append(ranges.copy())
        return planes * 1

    image = np.stack([np.full((8, 8), 100), np.tile(np.arange(8), (8, 1))]).astype(np.float32)
    try:
        steps.step("look", kind="denoise", title="Look")(look)
        for how, expected in (((5, 9), [[5, 9], [5, 9]]), ("plane", [[100, 101], [0, 7]]), ("image", [[0, 100]] * 2)):
            out = Recipe(["look"]).apply(image, intensity_range=how)
            np.testing.assert_allclose(np.concatenate(seen), expected)
            np.testing.assert_allclose(out, image, atol=1e-4)
            seen.clear()
    finally:
        steps._registry.pop("look", None)
