"""Every declared parameter has a widget that can be set to its default and its limits."""

from __future__ import annotations

import pytest
from magicgui.widgets import Container

import napari_denoise_classify as ndc
from napari_denoise_classify.core.steps import get_step
from napari_denoise_classify.widgets.parameters import ParameterField, StepFields

ALL = [(spec.id, p.name) for spec in ndc.steps() for p in spec.parameters]


@pytest.mark.parametrize(("step", "name"), ALL)
def test_widget_holds_default_and_limits(qtbot, step, name):
    spec = get_step(step)
    parameter = next(p for p in spec.parameters if p.name == name)
    one = ParameterField(parameter)
    assert one.value == parameter.default
    assert parameter.help in one.widget.tooltip
    for value in (parameter.minimum, parameter.maximum):
        if value is not None:
            one.value = value
            assert one.value == pytest.approx(value)
            spec.validate({name: one.value})
    if parameter.optional:
        one.value = None
        assert one.value is None


def test_fields_change_with_the_step(qtbot):
    form = Container(labels=True)
    fields = StepFields(form, "denoise", "Method", default="gaussian")
    fields.step = ("median", {"kernel_size": 7})
    assert fields.step == ("median", {"kernel_size": 7})
    fields.choice.value = "none"
    assert fields.step == ("none", {})
    assert len(form) == 1


def test_no_step_is_a_choice(qtbot):
    fields = StepFields(Container(labels=True), "mask", "Mask", nothing="None")
    assert fields.step is None
    fields.step = ("random", {"fraction": 0.25})
    assert fields.step is not None
    assert fields.step[1]["fraction"] == 0.25
    fields.step = None
    assert fields.step is None
