"""Sample images that need no download."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .classify.datasets import Crops
from .classify.neighbours import Places
from .classify.sampling import crop_around, object_centres
from .images import PlaneImage

CROP_SIZE = 32
CLASSES = ("DAB-negative", "DAB-positive")
_FIELD = 128  # the image is cut into fields of this side, which stand for groups when samples are split


@dataclass(frozen=True, eq=False)
class Nuclei:
    """A real image with its nuclei found and named by colour.

    Attributes
    ----------
    image : (512, 512, 3) uint8
    labels : (512, 512) int32
        One number for each nucleus.
    ids, centres, classes, fields : arrays
        Of each nucleus: its number, centre (Y, X) in pixels, class, and the field of 128 × 128 pixels it lies in.
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    ids: npt.NDArray[np.intp]
    centres: npt.NDArray[np.float64]
    classes: npt.NDArray[np.str_]
    fields: npt.NDArray[np.str_]

    def crops(self, image: npt.NDArray[Any] | None = None) -> Crops:
        """Cut a crop around every nucleus, from this image or another version of it."""
        image = self.image if image is None else image
        cut = crop_around(PlaneImage.wrap(image, rgb=image.ndim == 3), self.centres, CROP_SIZE)
        names = [f"nucleus {i}" for i in self.ids]
        return Crops(cut, self.classes, self.fields, names, places=Places.of(self.centres))


@lru_cache(maxsize=1)
def ihc_nuclei() -> Nuclei:
    """Return the immunohistochemistry image that scikit-image ships, its nuclei found by colour deconvolution.

    Colon tissue, FHIT in brown (DAB), nuclei in blue (haematoxylin). A nucleus counts as DAB-positive where the stain
    in and around it is above Otsu's threshold. The labels come from colour, not from a pathologist: they serve to
    show the program, not to judge a classifier.
    """
    from scipy import ndimage as ndi
    from skimage import color, data, feature, filters, measure, morphology, segmentation

    image: npt.NDArray[np.uint8] = data.immunohistochemistry()
    stains = color.rgb2hed(image)
    haematoxylin = filters.gaussian(stains[..., 0], 1.5)
    local = filters.threshold_local(haematoxylin, 51)  # in the brown glands everything is above a global threshold
    foreground = (haematoxylin > local) & (haematoxylin > filters.threshold_otsu(haematoxylin))
    foreground = morphology.opening(foreground, morphology.disk(2))
    foreground = morphology.remove_small_objects(ndi.binary_fill_holes(foreground), max_size=60)
    distance = filters.gaussian(ndi.distance_transform_edt(foreground), 1)
    peaks = feature.peak_local_max(distance, min_distance=7, labels=measure.label(foreground), exclude_border=False)
    seeds = np.zeros(distance.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = segmentation.watershed(-distance, seeds, mask=foreground).astype(np.int32)
    sizes = np.bincount(labels.ravel())
    labels[(sizes < 60)[labels]] = 0
    labels = segmentation.relabel_sequential(labels)[0].astype(np.int32)
    ids, centres = object_centres(labels)
    dab = filters.gaussian(stains[..., 2], 8)
    around = dab[tuple(np.rint(centres).astype(int).T)]
    classes = np.where(around > filters.threshold_otsu(around), CLASSES[1], CLASSES[0])
    rows, columns = (centres // _FIELD).astype(int).T
    fields = np.array([f"field {r}-{c}" for r, c in zip(rows, columns, strict=True)])
    return Nuclei(image, labels, ids, centres, classes, fields)
