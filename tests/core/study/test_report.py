"""The report: one valid HTML file that needs nothing else, and says what the study found and what it cannot say."""

from __future__ import annotations

import base64
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from napari_denoise_classify import Recipe
from napari_denoise_classify.core.study import statistics
from napari_denoise_classify.core.study.limits import answers, limits, title
from napari_denoise_classify.core.study.report import write_report, write_tables

from .fabricated import make_result

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced and nothing is fetched; collects texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"{tag} has an attribute twice"
        self.tags.append((tag, attributes))
        assert tag not in ("script", "iframe", "object", "link")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    result = make_result(effects={("knn", "dncnn"): 0.5}, n=600, groups=30, examples=1)
    result.record["recipes"] = {name: recipe.record(3) for name, recipe in result.study.recipes.items()}
    path = write_report(result, tmp_path_factory.mktemp("report") / "new" / "report.html")
    text = path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return text, Page(text)


def test_it_is_one_valid_page(written: tuple[str, Page]) -> None:
    text, page = written
    assert text.startswith("<!DOCTYPE html>")
    tags = [tag for tag, _ in page.tags]
    for tag in ("title", "h1", "main", "body"):
        assert tags.count(tag) == 1, tag
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert not re.search(r"url\(|@import|https?:", text.split("</head>")[0])
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_figure_is_inside_and_described(written: tuple[str, Page]) -> None:
    images = [attributes for tag, attributes in written[1].tags if tag == "img"]
    assert len(images) == 6  # box plot, differences, confusion, ROC, reliability, examples
    assert len({image["alt"] for image in images}) == 6
    for image in images:
        head, _, body = str(image["src"]).partition(",")
        content = base64.b64decode(body, validate=True)
        assert content.startswith(b"\x89PNG" if "png" in head else b"<?xml")
        assert b"http://" not in content.replace(b"http://www.w3.org", b"").replace(b"http://purl.org", b"").replace(
            b"http://creativecommons.org", b""
        )


def test_it_says_what_was_found_and_how(written: tuple[str, Page]) -> None:
    text = written[1].text
    assert "Does denoising help this classification?" in text
    assert "dncnn raises KNN's macro-F1 by" in text
    for heading in ("Before you believe it", "Protocol", "Data", "Limits of interpretation", "How to run it again"):
        assert heading in text
    assert "exact copy among the others" in text  # the notes of the run
    assert "trained on 50%, tested on 10 equal partitions of the rest, once" in text
    assert "majority class" in text
    assert "ab" * 32 in text  # of the data
    sha256 = Recipe(["dncnn"]).record(3)["details"][0]["sha256"]
    assert sha256 in text
    assert "napari-denoise-classify study study.json" in text
    assert '"seed": 0' in text


def test_tables_have_heads_and_captions(written: tuple[str, Page]) -> None:
    tags = [tag for tag, _ in written[1].tags]
    assert tags.count("table") == tags.count("caption") == tags.count("thead") >= 4
    assert all(attributes.get("scope") == "col" for tag, attributes in written[1].tags if tag == "th")


def test_a_study_of_one_recipe_has_a_report(tmp_path: Path) -> None:
    result = make_result("cross-validation:folds=3", recipes=("none",), classifiers=("knn",), n=60)
    text = Page(write_report(result, tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "nothing is compared" in text
    assert "Differences to" not in text


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script> & co'
    result = make_result("holdout", recipes=("none", evil), classifiers=("knn",), n=80, classes=("a<b", "c&d"))
    result = replace(result, notes=["<b>bold</b>"], record={"versions": {"<i>": "<u>"}})
    text = write_report(result, tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert evil in page.text
    assert "<b>bold</b>" in page.text
    assert "a<b" in page.text
    assert "<script" not in text


def test_a_report_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    result = make_result("holdout", classifiers=("knn",), n=80)
    with pytest.raises(KeyError):
        write_report(replace(result, predictions=result.predictions.drop(columns="truth")), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_tables_are_those_of_the_statistics(tmp_path: Path) -> None:
    result = make_result("holdout", noise=("", "gaussian:25"), n=120)
    names = {path.stem for path in write_tables(result, tmp_path)}
    assert names == {"summary", "tests", "confusion", "cells", "predictions", "quality", "drift"}
    tests = pd.read_csv(tmp_path / "tests.csv", keep_default_na=False, na_values=["nan"])
    expected = statistics.tests(result)
    macro = tests[tests["metric"] == "macro_f1"]
    assert list(macro["sentence"]) == list(expected["sentence"])
    assert macro["low"].to_numpy(float) == pytest.approx(expected["low"].to_numpy(float))
    assert set(tests["metric"]) == {"macro_f1", "accuracy", "balanced_accuracy", "roc_auc", "ece", "brier"}
    confusion = pd.read_csv(tmp_path / "confusion.csv", keep_default_na=False)
    assert confusion["samples"].sum() == len(result.predictions)


@pytest.mark.parametrize(
    ("recipes", "question"),
    [
        (("none", "dncnn"), "denoising"),
        (("none", "centre"), "masking"),
        (("none", "centre", "dncnn"), "denoising or masking"),
    ],
)
def test_the_question_is_that_of_the_recipes(recipes: tuple[str, ...], question: str) -> None:
    assert title(make_result("holdout", recipes=recipes, n=80)) == f"Does {question} help this classification?"


def test_limits_are_those_of_the_study() -> None:
    once = " ".join(limits(make_result("holdout", n=80)))
    assert "No groups were given" in once
    assert "Training happened once" in once
    assert "Training was matched" in once
    folds = make_result("cross-validation:folds=4", groups=12, n=80, training="mismatched", noise=("gaussian:25",))
    other = " ".join(limits(folds))
    assert "12 groups" in other
    assert "small number" in other
    assert "Training was mismatched" in other
    assert "Noise was added" in other
    assert "Training happened once" not in other


def test_the_answer_counts_and_puts_effects_first() -> None:
    result = make_result(n=2000, effects={("knn", "dncnn"): 0.6}, own=0.3, recipes=("none", "dncnn"))
    head, first, *_ = answers(result)
    assert head.startswith("Of 2 comparisons with 'none', 1 raises macro-F1 and 1 ")
    assert "That effect holds up to correction" in head
    assert first.startswith("dncnn raises KNN's macro-F1")
    assert answers(make_result("holdout", recipes=("none",), n=80)) == [
        "There is one recipe only, so nothing is compared."
    ]
