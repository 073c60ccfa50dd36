"""Slides open with their pixel size."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_denoise_classify.widgets.reader import get_reader, read_slide


def test_slide_opens_in_micrometres(make_napari_viewer, tmp_path):
    data = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    path = tmp_path / "slide.svs"
    tifffile.imwrite(path, data, tile=(32, 32), photometric="rgb", description="Aperio |AppMag = 20|MPP = 0.4990")
    viewer = make_napari_viewer()
    (layer,) = viewer.open(path, plugin="napari-denoise-classify")
    np.testing.assert_array_equal(layer.data, data)
    assert layer.rgb
    np.testing.assert_allclose(layer.scale, (0.499, 0.499))
    assert str(layer.units[0]) == "micrometer"


def test_pyramid_becomes_a_multiscale_layer(tmp_path):
    path = tmp_path / "pyramid.svs"
    data = np.zeros((64, 64, 3), np.uint8)
    with tifffile.TiffWriter(path) as tif:
        tif.write(data, tile=(16, 16), photometric="rgb", subifds=1)
        tif.write(data[::2, ::2], tile=(16, 16), photometric="rgb", subfiletype=1)
    ((levels, options, _),) = read_slide(str(path))
    assert options["multiscale"]
    assert [level.shape for level in levels] == [(64, 64, 3), (32, 32, 3)]


def test_other_files_are_left_to_others_and_damaged_ones_refused(tmp_path):
    assert get_reader("image.tif") is None
    assert get_reader(["a.svs", "b.svs"]) is None
    path = tmp_path / "bad.svs"
    path.write_bytes(b"no slide")
    with pytest.raises(ValueError, match=r"bad\.svs: this file cannot be read"):
        read_slide(str(path))


def test_real_slide_opens(shared_data):
    ((data, options, _),) = read_slide(str(shared_data / "histology_wsi" / "cmu_small_region.svs"))
    assert data.shape == (2967, 2220, 3)
    assert options["scale"] == (0.499, 0.499)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.99])
def test_a_slide_that_was_copied_in_part_is_refused(shared_data, tmp_path, part):
    content = (shared_data / "histology_wsi" / "cmu_small_region.svs").read_bytes()
    path = tmp_path / "part.svs"
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"part\.svs: this file cannot be read as a slide"):
        read_slide(str(path))
