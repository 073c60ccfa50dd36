"""Steps: one declaration, checked parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pytest

import napari_denoise_classify as ndc
from napari_denoise_classify.core.parameters import ODD, Parameter, param
from napari_denoise_classify.core.steps import StepSpec, get_step, step, steps

ALL = pytest.mark.parametrize("spec", ndc.steps(), ids=lambda spec: spec.id)


def test_what_there_is() -> None:
    ids = {kind: {s.id for s in steps(kind)} for kind in ("denoise", "mask", "classifier", "explain", "area")}
    assert {"none", "gaussian", "median", "dncnn"} <= ids["denoise"]
    assert {"centre", "non_centre", "random"} <= ids["mask"]
    assert {"cnn", "svm", "random_forest", "knn"} <= ids["classifier"]
    assert "gradcam" in ids["explain"]
    assert sum(map(len, ids.values())) == len(steps())


@ALL
def test_every_step_describes_itself(spec: StepSpec) -> None:
    assert spec.title
    assert spec.summary.endswith(".")
    assert "\n" not in spec.summary
    for p in spec.parameters:
        assert p.help
        assert p.allowed
        assert p.label
        assert p.type in (int, float, bool, str)


@ALL
def test_defaults_are_allowed(spec: StepSpec) -> None:
    assert spec.validate({}) == spec.defaults()
    assert spec.validate(spec.defaults()) == spec.defaults()


LIMITS = [
    (spec, p.name, bad)
    for spec in ndc.steps()
    for p in spec.parameters
    for bad in (
        *([p.minimum - 1] if p.minimum is not None else []),
        *([p.maximum + 1] if p.maximum is not None else []),
        *([float("nan"), float("inf"), "many", [1]] if p.type in (int, float) else []),
        *(["neither"] if p.choices or p.type is bool else []),
        *([4] if p.odd else []),
        *([] if p.optional else [None]),
    )
]


@pytest.mark.parametrize(("spec", "name", "bad"), LIMITS, ids=[f"{s.id}-{n}={b}" for s, n, b in LIMITS])
def test_values_out_of_range_are_named(spec: StepSpec, name: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=f"{spec.id}: {name}=.* is not allowed; give "):
        spec.validate({name: bad})


@ALL
def test_limits_themselves_are_allowed(spec: StepSpec) -> None:
    for p in spec.parameters:
        for limit in (p.minimum, p.maximum):
            if limit is not None and not (p.odd and limit % 2 == 0):
                assert spec.validate({p.name: limit})[p.name] == limit


@ALL
def test_unknown_parameters_are_named(spec: StepSpec) -> None:
    with pytest.raises(ValueError, match=f"{spec.id} has no parameter 'colour'"):
        spec.validate({"colour": 1})


def test_texts_become_numbers() -> None:
    assert get_step("gaussian").validate({"kernel_size": "7"})["kernel_size"] == 7
    assert get_step("centre").validate({"equal_area": "true"})["equal_area"] is True


@pytest.mark.parametrize("id", ["nonsense", "", None, 3, ["median"]])
def test_unknown_steps(id: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a known step; there are: .*none, gaussian, "):
        get_step(id)


def test_steps_of_another_kind() -> None:
    with pytest.raises(ValueError, match="'centre' is not a denoise step"):
        get_step("centre", "denoise")


def test_an_id_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'median' exists already"):
        step("median", kind="denoise", title="Again")(lambda planes: planes)
    assert get_step("median").title == "Median"


def test_a_step_is_declared_in_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_denoise_classify.core import steps as module

    monkeypatch.setattr(module, "_registry", {})

    @step("shift", kind="denoise", title="Shift")
    def shift(
        planes: np.ndarray,
        *,
        by: Annotated[int, param("How far.", unit="px", ge=1, le=9, step=2), ODD] = 3,
        where: Annotated[Literal["left", "right"], param("Where to.")] = "left",
        until: Annotated[float | None, param("Stop.", ge=0)] = None,
    ) -> np.ndarray:
        """Move pixels.

        Not shown.
        """
        return planes

    spec = get_step("shift")
    by, where, until = spec.parameters
    assert spec.summary == "Move pixels."
    assert (by.type, by.minimum, by.maximum, by.step, by.odd, by.label) == (int, 1, 9, 2, True, "By (px)")
    assert by.allowed == "an odd whole number from 1 to 9"
    assert (where.type, where.choices, where.allowed) == (str, ("left", "right"), "one of 'left', 'right'")
    assert (until.type, until.optional, until.allowed) == (float, True, "a number of at least 0, or nothing")
    assert spec.validate({"by": 5}) == {"by": 5, "where": "left", "until": None}


@pytest.mark.parametrize(
    ("hint", "allowed", "refused"),
    [
        (Annotated[int, param("", ge=1, le=4)], [1, 4, np.int32(2)], [0, 5, 10**400, 2.0, "2", True, None]),
        (Annotated[int, param("", ge=0)], [0, 10**400], [-1]),
        (Annotated[float, param("", ge=0, le=1)], [0, 1.0, np.float32(0.5)], [-0.1, float("nan"), "0.5", None]),
        (Annotated[float | None, param("")], [None, -3.5], [float("inf"), "x"]),
        (Annotated[int, param(""), ODD], [3], [4]),
        (Annotated[bool, param("")], [True, False], [1, None, "true"]),
        (Annotated[Literal["a", "b"], param("")], ["a"], ["c", 1, None]),
        (Annotated[str, param("")], ["", "x"], [1, None]),
    ],
)
def test_what_a_declaration_allows(hint: Any, allowed: list[Any], refused: list[Any]) -> None:
    parameter = Parameter.declared("name", hint, None)
    assert [value for value in allowed if not parameter.allows(value)] == []
    assert [value for value in refused if parameter.allows(value)] == []
