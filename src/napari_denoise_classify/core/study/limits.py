"""What a report says in words: the answer, the protocol, and what the study cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .differences import FEW_GROUPS, GROUPS, SAMPLES
from .statistics import DECISIONS, tests
from .tables import classes_of, condition_name

if TYPE_CHECKING:
    from .result import StudyResult


def title(result: StudyResult) -> str:
    """Return the question that the study asks."""
    recipes = [recipe for name, recipe in result.study.recipes.items() if name != result.study.reference]
    kinds = {step.spec.kind for recipe in recipes for step in recipe.steps}
    what = "denoising" if kinds == {"denoise"} else "masking" if kinds == {"mask"} else "denoising or masking"
    return f"Does {what} help this classification?"


def answers(result: StudyResult) -> list[str]:
    """Return the answer: one sentence over all, then one for each comparison, those that show something first."""
    table = tests(result)
    if not len(table):
        return ["There is one recipe only, so nothing is compared."]
    counts = [int((table["decision"] == decision).sum()) for decision in DECISIONS]
    holds = int((table["decision"].isin(DECISIONS[:2]) & (table["p_holm"] <= 0.05)).sum())
    total = len(table)
    margin = f"{result.study.margin:g} points"
    words = (
        (counts[0], "raises macro-F1", "raise macro-F1"),
        (counts[1], "lowers macro-F1", "lower macro-F1"),
        (counts[3], f"stays within the margin of {margin}", f"stay within the margin of {margin}"),
        (counts[2], "shows no effect", "show no effect"),
    )
    said = [f"{count} {one if count == 1 else many}" for count, one, many in words if count]
    head = f"Of {total} comparison{'s' if total > 1 else ''} with {result.study.reference!r}, {_and(said)}."
    shown = counts[0] + counts[1]
    if shown and total > 1:
        if shown == 1:
            head += (
                f" That effect {'holds' if holds else 'does not hold'} up to correction for the number of comparisons."
            )
        else:
            verb = "holds" if holds == 1 else "hold"
            head += f" {holds} of these {shown} effects {verb} up to correction for the number of comparisons."
    order = {decision: rank for rank, decision in enumerate((*DECISIONS[:2], DECISIONS[3], DECISIONS[2]))}
    ranked = sorted(table.to_dict("records"), key=lambda row: order[row["decision"]])
    return [head, *(str(row["sentence"]) for row in ranked)]


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def protocol(result: StudyResult) -> dict[str, str]:
    """Return what was done, from name to words."""
    study, design = result.study, result.study.design
    times = "once" if design.repeats == 1 else f"{design.repeats} times, with other random parts each time"
    parts = max(int(result.cells["fold"].nunique()), 1)
    layout = {
        "partitions": f"trained on {1 - design.test_fraction:.0%}, tested on {parts} equal partitions of "
        f"the rest, {times}",
        "holdout": f"trained on {1 - design.test_fraction:.0%}, tested on the rest, {times}",
        "cross-validation": f"stratified cross-validation with {parts} folds, {times}",
    }[design.layout]
    training = {
        "matched": "matched: training and test images go through the same noise and recipe",
        "mismatched": "mismatched: trained on clean, unprocessed images, tested on noisy and processed ones",
    }[study.training]
    return {
        "preset": study.preset,
        "design": layout,
        "splits": "the same for every recipe and classifier"
        + ("; a group is never on two sides" if study.data.groups else "; there are no groups"),
        "training": training,
        "noise": ", ".join(condition_name(name) for name in study.noise) + " (fresh for every image)"
        if any(study.noise)
        else "none added",
        "augmentation": ", ".join(text or "none" for text in study.augmentation),
        **{
            f"recipe {name}": (" + ".join(_step(step) for step in recipe.steps) or "the image as it is")
            + _kept(result, name)
            for name, recipe in study.recipes.items()
        },
        **{f"classifier {name}": _candidate(candidate) for name, candidate in study.classifiers.items()},
        "reference": study.reference,
        "margin": f"{study.margin:g} points of macro-F1",
        "explanation": study.explain or "none",
        "seed": str(study.seed),
    }


def _step(step: Any) -> str:
    return f"{step.id}{_parameters(step.parameters)}"


def _candidate(candidate: Any) -> str:
    tuned = {name: list(values) for name, values in candidate.grid.items()}
    text = f"{candidate.method}{_parameters({k: v for k, v in candidate.parameters.items() if k not in tuned})}"
    return text + (f"; tuned on training samples: {_parameters(tuned)[2:-1]}" if tuned else "")


def _parameters(parameters: Any) -> str:
    listed = ", ".join(f"{name}={value}" for name, value in parameters.items() if value is not None)
    return f" ({listed})" if listed else ""


def _kept(result: StudyResult, name: str) -> str:
    kept = result.record.get("kept", {}).get(name)
    return "" if kept is None else f"; keeps {float(kept):.1%} of the pixels"


def data_facts(result: StudyResult) -> dict[str, str]:
    """Return what the data are, from name to words."""
    data = result.study.data
    tested = result.predictions.drop_duplicates("sample")
    counts = tested["truth"].value_counts()
    return {
        "source": data.path or "given as arrays",
        "samples": ", ".join(f"{name}: {count}" for name, count in data.counts.items()),
        "tested": ", ".join(f"{name}: {int(counts.get(name, 0))}" for name in classes_of(result)),
        "groups": f"{data.groups} (by {data.group})"
        if data.groups and data.group
        else str(data.groups or "none given"),
        "SHA-256 of pixels, labels and groups": data.sha256,
    }


def limits(result: StudyResult) -> list[str]:
    """Say what this study cannot say, from what it is."""
    study, data = result.study, result.study.data
    methods = set(tests(result)["method"]) if len(study.recipes) > 1 else set()
    found = [
        "One data set was studied. Other tissues, stains, microscopes and cameras may give other differences, even of "
        "another sign."
    ]
    if not data.groups:
        found.append(
            "No groups were given. If several samples are of one patient, slide or field, they are more alike than the "
            "intervals take them for: the intervals are then too narrow and all scores too high."
        )
    else:
        found.append(
            f"The samples are of {data.groups} groups; the result speaks for groups like these. "
            + ("That is a small number to generalise from." if data.groups < 20 else "")
        )
    if study.training == "matched":
        found.append(
            "Training was matched: it says whether a classifier trained on processed images does better, not whether "
            "processing rescues a classifier that was trained on clean images; ask that with mismatched training."
        )
    else:
        found.append(
            "Training was mismatched: it says whether processing brings degraded images nearer to the clean training "
            "images, not whether a classifier trained on processed images does better; ask that with matched training."
        )
    if any(study.noise):
        found.append("Noise was added by a model; that of a real camera may be of another kind, or correlated.")
    if methods & {SAMPLES, GROUPS, FEW_GROUPS}:
        found.append("Training happened once: the chance of that training is in no interval.")
    found += [
        "Settings of denoisers and classifiers were those stated above; others may rank differently, and none was "
        "tuned unless it says so.",
        "'No effect shown' is not 'no effect': see how wide the interval is. Only 'equivalent within the margin' "
        "rules out differences that matter.",
    ]
    if any(example["heats"] for example in result.examples):
        found.append("A heat map shows where a classifier looks, not whether it is right to look there.")
    if any(step.spec.kind != "mask" for recipe in study.recipes.values() for step in recipe.steps):
        found.append("Denoised intensities are not for quantification unless checked.")
    return [text.strip() for text in found]


def provenance(result: StudyResult) -> dict[str, str]:
    """Return versions, weights, machine and times, from name to words."""
    record = result.record
    found = {str(name): str(version) for name, version in record.get("versions", {}).items()}
    for name, made in record.get("recipes", {}).items():
        for key, value in _hashes(made):
            found[f"{key}, recipe {name}"] = value
    machine = record.get("machine", {})
    if isinstance(machine, dict):
        machine = ", ".join(f"{name} {value}" for name, value in machine.items())
    found["machine"] = str(machine)
    seconds = record.get("seconds", {})
    if isinstance(seconds, dict):
        found |= {f"seconds, {name.replace('_', ' ')}": f"{value:.1f}" for name, value in seconds.items()}
    else:
        found["seconds"] = f"{seconds:.1f}"
    cache = record.get("cache", {})
    if cache:
        found["cache"] = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in cache.items())
    return found


def _hashes(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Find the SHA-256 of weights in a recipe's record."""
    if isinstance(value, dict):
        title = str(value.get("weights", value.get("name", name)))
        found = []
        for key, inner in value.items():
            if "sha256" in str(key).lower() and isinstance(inner, str):
                found.append((f"SHA-256 of {title or 'the weights'}", inner))
            else:
                found += _hashes(inner, title if key == "weights" else "")
        return found
    if isinstance(value, list):
        return [pair for item in value for pair in _hashes(item, name)]
    return []


def rerun(result: StudyResult) -> list[str]:
    """Return the command and the Python code that run the study again."""
    command = "napari-denoise-classify study study.json -o again"
    if result.study.data.path:
        return [
            command,
            'import napari_denoise_classify as ndc\n\nresult = ndc.study("study.json")\nresult.report("report.html")',
        ]
    return [
        "import napari_denoise_classify as ndc\n\n"
        "# crops: the same samples, in the same order; they came from no file\n"
        'study = ndc.Study.from_json("study.json")\n'
        "result = ndc.study(crops, study.recipes, "
        "{name: (c.method, dict(c.parameters)) for name, c in study.classifiers.items()}, study.design, "
        "reference=study.reference, training=study.training, noise=study.noise, augmentation=study.augmentation, "
        "margin=study.margin, seed=study.seed)"
    ]
