"""Whether a heat map can be trusted: it must beat dummies, and depend on what the network learned."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..images import FloatArray
from ..progress import Steps, run, within
from .attribution import Method, heats_iter, read_method, targets_iter
from .contours import critical_mask
from .deletion import areas_under, curves_iter, dummies
from .drift import overlap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..classify.bundle import Classifier
    from ..recipe import Recipe

RANDOM_NETWORKS = 3
FEWEST = 10
"""With fewer samples an interval says nothing."""
LEVERAGE = 0.05
"""Where blurring everything changes the probability by less than this, nothing can be learnt from deleting."""
SIMILAR = 0.5
"""A rank correlation above this means that the map hardly depends on the weights."""


@dataclass(frozen=True, eq=False)
class ExplanationCheck:
    """What `check_explanation` found.

    Attributes
    ----------
    table : pandas.DataFrame
        A row for each kind of map: ``map``, the mean area under the ``deletion`` curve (low is good) and the
        ``insertion`` curve (high is good), their ``difference``, and the mean of the paired ``advantage`` of the
        method over it with the 95 % interval ``low`` to ``high``.
    samples : pandas.DataFrame
        A row for each sample and kind of map: ``sample``, ``map``, ``deletion``, ``insertion``, ``difference``.
    randomised : pandas.DataFrame or None
        A row for each sample: ``spearman`` and ``iou`` between the maps of the trained network and of random ones;
        None for classifiers that are no network.
    beats_dummies : bool or None
        None where there are too few samples to tell, or what decides survives the blur.
    depends_on_network : bool or None
        None where it was not tested or there are too few samples.
    without_evidence : int
        How many samples had a map of zeros; they count, with their pixels in a random order.
    verdict : str
        In words.
    curves : dict
        From kind of map to the mean deletion and insertion curves, (2, levels).
    example : list of (str, (Y, X[, 3]) array)
        One sample, and its maps by the trained and a random network.
    """

    table: Any
    samples: Any
    randomised: Any
    beats_dummies: bool | None
    depends_on_network: bool | None
    without_evidence: int
    verdict: str
    curves: dict[str, npt.NDArray[np.float64]] = field(repr=False)
    example: list[tuple[str, npt.NDArray[Any]]] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.table.to_string(index=False, float_format=lambda v: f'{v:z.3f}')}\n{self.verdict}"

    def figure(self, **how: Any) -> Figure:
        """Draw the curves and an example; ``background`` and ``text`` are colours, ``wide`` puts all in one row."""
        from .trust_figure import draw

        return draw(self, **how)


def check_explanation(
    classifier: Classifier,
    images: Any,
    method: Method = "gradcam",
    target: str | None = None,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    **parameters: Any,
) -> ExplanationCheck:
    """Test whether a classifier's heat maps can be trusted.

    *Deletion and insertion* (Petsiuk, Das and Saenko, RISE, BMVC 2018): the hottest pixels are replaced by the blurred
    image one twentieth after the other, or put back onto it; a good map makes the class's probability fall early, or
    rise early. The method must beat two dummies that know nothing: a Gaussian in the centre, and smooth noise.
    *Model randomisation* (Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018): maps of the same network with
    random weights must look different. It needs a network: other classifiers are tested by deletion and insertion only.

    Parameters
    ----------
    classifier : Classifier
    images : array or sequence of array
        As for `Classifier.predict`. At least ten; better fifty, of images that the classifier was not trained on.
    method : str or (str, mapping)
    target : str, optional
        One class for all images; default: for each the predicted one.
    recipe : Recipe, optional
        Instead of the classifier's own.
    seed : int
        Of the dummies and the random weights.
    **parameters
        Of the method: see ``steps("explain")``.

    Returns
    -------
    ExplanationCheck
        Its ``verdict`` says it in words, ``table`` in numbers and ``figure()`` draws it.

    Raises
    ------
    ValueError
        As for `explain`.

    Examples
    --------
    >>> from napari_denoise_classify import check_explanation
    >>> check = check_explanation(clf, test.images, "occlusion")  # doctest: +SKIP
    >>> print(check.verdict)  # doctest: +SKIP
    """
    work = check_explanation_iter(classifier, images, method, target, recipe=recipe, seed=seed, **parameters)
    return run(work)


def check_explanation_iter(
    classifier: Classifier,
    images: Any,
    method: Method = "gradcam",
    target: str | None = None,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    **parameters: Any,
) -> Steps[ExplanationCheck]:
    """As `check_explanation`, with progress."""
    spec, checked = read_method(method, parameters)
    _, scaled = yield from within(classifier.prepare_iter(images, recipe), 0.0, 0.1)
    work = check_scaled_iter(classifier, scaled, (spec.id, checked), target, seed)
    return (yield from within(work, 0.1, 1.0))


def check_scaled_iter(
    classifier: Classifier, scaled: Sequence[FloatArray], method: Method, target: str | None = None, seed: int = 0
) -> Steps[ExplanationCheck]:
    """Check the heat maps of what `Classifier.prepare_iter` returned; see `check_explanation`."""
    title = read_method(method)[0].title
    targets = yield from within(targets_iter(classifier, scaled, target), 0.0, 0.05)
    heats = yield from within(heats_iter(classifier, scaled, method, targets), 0.05, 0.2, title)
    seen = [i for i, heat in enumerate(heats) if heat.any()]
    missing = len(heats) - len(seen)
    if not seen:
        raise ValueError("No map shows any evidence: nothing in these images speaks for the class; choose another one.")
    curves: dict[str, npt.NDArray[np.float64]] = {}
    for k, (name, maps) in enumerate({title: heats, **dummies([heat.shape for heat in heats], seed)}.items()):
        work = curves_iter(classifier, scaled, maps, targets, seed)
        curves[name] = yield from within(work, 0.2 + 0.2 * k, 0.4 + 0.2 * k, f"deleting and inserting, {name}")
    randomised = None
    example = [("sample", scaled[seen[0]]), (title, heats[seen[0]])]
    if hasattr(classifier.estimator, "network_"):
        others = _randomised_iter(classifier, scaled, method, targets, heats, seed)
        randomised, other = yield from within(others, 0.8, 1.0, "random networks")
        example.append(("random weights", other[seen[0]]))
    table, samples = _tables(curves)
    ends = curves[title][0]
    leverage = float(np.abs(ends[:, 0] - ends[:, -1]).mean())
    beats, depends, verdict = _verdict(table, randomised, classifier.method, len(scaled), leverage)
    if missing:
        verdict += f" {missing} of {len(scaled)} maps show no evidence: their pixels count in a random order."
    return ExplanationCheck(
        table=table,
        samples=samples,
        randomised=randomised,
        beats_dummies=beats,
        depends_on_network=depends,
        without_evidence=missing,
        verdict=verdict,
        curves={name: values.mean(axis=1) for name, values in curves.items()},
        example=example,
    )


def _randomised_iter(
    classifier: Classifier,
    scaled: Sequence[FloatArray],
    method: Method,
    targets: npt.NDArray[np.intp],
    heats: list[FloatArray],
    seed: int,
) -> Steps[tuple[Any, list[FloatArray]]]:
    """Compare maps with those of networks with random weights; a table, and the last network's maps."""
    import pandas as pd
    from scipy.stats import rankdata

    trained = [critical_mask(heat) for heat in heats]
    ranks = [rankdata(heat) for heat in heats]
    spearman, iou = np.zeros((2, RANDOM_NETWORKS, len(heats)))
    others = heats
    for k in range(RANDOM_NETWORKS):
        other = with_random_weights(classifier, seed + k)
        work = heats_iter(other, scaled, method, targets)
        others = yield from within(work, k / RANDOM_NETWORKS, (k + 1) / RANDOM_NETWORKS)
        spearman[k] = [_correlation(a, rankdata(heat)) for a, heat in zip(ranks, others, strict=True)]
        iou[k] = [overlap(mask, critical_mask(heat)) for mask, heat in zip(trained, others, strict=True)]
    iou = np.nan_to_num(iou)  # where neither shows evidence, they have nothing in common
    return pd.DataFrame({"spearman": spearman.mean(axis=0), "iou": iou.mean(axis=0)}), others


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Correlate ranks; a map that is the same everywhere has nothing to do with any other: 0."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def with_random_weights(classifier: Classifier, seed: int) -> Classifier:
    """Return a copy of a classifier whose network is as it was before any training.

    Parameters
    ----------
    classifier : Classifier
        Of a network.
    seed : int
    """
    import torch

    estimator = copy.copy(classifier.estimator)
    estimator.network_ = copy.deepcopy(classifier.estimator.network_)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = estimator.network_.to("cpu")
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    other = copy.copy(classifier)
    other.estimator = estimator
    other.__dict__.pop("payload", None)  # those of the trained weights
    other.__dict__.pop("sha256", None)
    return other


def _tables(curves: dict[str, npt.NDArray[np.float64]]) -> tuple[Any, Any]:
    """Make the table of means, with intervals of the paired advantage, and that of samples."""
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    samples: list[Any] = []
    differences: dict[str, npt.NDArray[np.float64]] = {}
    for name, values in curves.items():
        deletion, insertion = areas_under(values)
        differences[name] = insertion - deletion
        samples.append(
            pd.DataFrame(
                {
                    "sample": np.arange(len(deletion)),
                    "map": name,
                    "deletion": deletion,
                    "insertion": insertion,
                    "difference": insertion - deletion,
                }
            )
        )
        advantage = next(iter(differences.values())) - differences[name]
        mean, low, high = mean_interval(advantage) if len(rows) else (np.nan,) * 3
        rows.append((name, deletion.mean(), insertion.mean(), differences[name].mean(), mean, low, high))
    columns = ["map", "deletion", "insertion", "difference", "advantage", "low", "high"]
    return pd.DataFrame(rows, columns=columns), pd.concat(samples, ignore_index=True)


def mean_interval(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return mean and 95 % interval (Student's t); NaN for the interval of one value."""
    from scipy.stats import t

    n, mean = len(values), float(values.mean())
    half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return mean, mean - half, mean + half


def _verdict(
    table: Any, randomised: Any, method: str, count: int, leverage: float
) -> tuple[bool | None, bool | None, str]:
    """Say whether the map beats the dummies, whether it depends on the network, and both in words."""
    first, *others = table.to_dict("records")
    figures = ", ".join(f"{row['map']} {row['difference']:z.2f}" for row in (first, *others))
    words = f"Insertion − deletion: {figures}."
    if count < FEWEST:
        return None, None, f"{words} {count} samples are too few to tell: take {FEWEST} or more."
    unbeaten = [row["map"] for row in others if not row["low"] > 0]
    beats = None if leverage < LEVERAGE else not unbeaten
    if beats is None:
        words += (
            f" Blurring the whole image changes the probability by {leverage:.2f} only: what decides survives the "
            f"blur, so that deletion cannot judge {first['map']}"
        )
    else:
        words += f" {first['map']} " + ("beats both dummies" if beats else f"does not beat {' and '.join(unbeaten)}")
    if randomised is None:
        words += (
            f". Whether it depends on what was learned can only be tested with a network, and the method is {method}."
        )
        return beats, None, words
    spearman, _, high = mean_interval(randomised["spearman"].to_numpy())
    depends = bool(high < SIMILAR)
    join = ". It" if beats is None else " and" if beats == depends else " but"
    words += f"{join} {'depends' if depends else 'hardly depends'} on trained weights"
    words += (
        f": with random ones the rank correlation is {spearman:z.2f} and the critical areas' intersection over union "
        f"{randomised['iou'].mean():.2f} (by chance 0.11)."
    )
    if beats and depends:
        words += " Both checks are passed."
    elif not depends or beats is False:
        words += " Do not rely on this map."
    return beats, depends, words
