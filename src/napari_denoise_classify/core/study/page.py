"""Pieces of a self-contained HTML page: everything escaped, figures inline, no scripts, nothing fetched."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 68rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid #bbb; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, ul { margin: .4rem 0 .8rem; max-width: 52rem; }
li { margin: .2rem 0; }
a { color: #00507f; }
.lead { color: #444; }
.answer { border-left: 4px solid #0072b2; padding: .3rem 0 .3rem 1rem; }
.answer .main { font-weight: 600; }
.caution { border-left: 4px solid #d55e00; background: #fdf3ec; padding: .5rem 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; margin: .3rem 0 1rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .22rem .6rem; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; }
td { white-space: nowrap; }
th.text, td.text { text-align: left; }
td.text { white-space: normal; }
tr.shown td { font-weight: 600; }
figure { margin: 1rem 0 1.6rem; }
figure img { max-width: 100%; height: auto; }
figcaption { font-size: .84rem; color: #444; max-width: 52rem; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .2rem 1.2rem; font-size: .92rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: #f4f4f4; padding: .6rem .9rem; overflow-x: auto; font-size: .84rem; white-space: pre-wrap; }
code { font-family: ui-monospace, Consolas, monospace; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  table { font-size: 7pt; }
  th, td { padding: .15rem .35rem; }
  figure img { max-height: 22cm; }
  figcaption { font-size: 8.5pt; }
  details { display: none; }
  .wide { overflow: visible; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""


def escape(value: Any) -> str:
    """Make a text safe inside elements and attributes."""
    return html.escape(str(value), quote=True)


def element(name: str, content: str = "", **attributes: str) -> str:
    """Return an element around HTML that is already escaped.

    Attributes are escaped here; ``class_`` stands for class, ``aria_label`` for aria-label.
    """
    listed = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{listed}>{content}</{name}>"


def paragraph(text: str, **attributes: str) -> str:
    """Return a paragraph of plain text."""
    return element("p", escape(text), **attributes)


def listing(texts: Iterable[str]) -> str:
    """Return plain texts as a list; nothing if there are none."""
    items = [element("li", escape(text)) for text in texts]
    return element("ul", "\n".join(items)) if items else ""


def definitions(pairs: Mapping[str, Any]) -> str:
    """Return names and what they stand for; those without a value are left out."""
    found = [
        element("dt", escape(name)) + element("dd", escape(value))
        for name, value in pairs.items()
        if value is not None and str(value) != ""
    ]
    return element("dl", "\n".join(found))


def table(
    frame: pd.DataFrame,
    caption: str,
    names: Mapping[str, str],
    formats: Mapping[str, Callable[[Any], str]],
    shown: Sequence[bool] = (),
) -> str:
    """Return a table.

    Parameters
    ----------
    frame : pandas.DataFrame
        Its columns that ``names`` has are written, in the order of ``names``.
    caption : str
    names : dict
        From column to its heading.
    formats : dict
        From column to what writes a value; columns without one are text.
    shown : sequence of bool, optional
        Which rows stand out.
    """
    columns = [name for name in names if name in frame.columns]
    head = "".join(
        element("th", escape(names[c]), scope="col", **({} if c in formats else {"class_": "text"})) for c in columns
    )
    rows = []
    for i, record in enumerate(frame.to_dict("records")):
        cells = "".join(
            element("td", escape(formats[c](record[c])))
            if c in formats
            else element("td", escape(record[c]), class_="text")
            for c in columns
        )
        rows.append(element("tr", cells, **({"class_": "shown"} if i < len(shown) and shown[i] else {})))
    body = element("caption", escape(caption)) + element("thead", element("tr", head))
    whole = element("table", body + element("tbody", "\n".join(rows)))
    return element("div", whole, class_="wide", tabindex="0", role="region", aria_label=caption)


def image(figure: Figure, alt: str, caption: str, bitmap: bool = False) -> str:
    """Return a figure inline: SVG, or PNG where it is made of pixels."""
    buffer = io.BytesIO()
    if bitmap:
        figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    else:
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    kind = "png" if bitmap else "svg+xml"
    source = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    picture = f'<img src="{source}" alt="{escape(alt)}">'
    return element("figure", picture + element("figcaption", escape(caption)))


def document(title: str, body: Iterable[str]) -> str:
    """Return the page."""
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{element('title', escape(title))}\n<style>{STYLE}</style>"
    )
    content = "\n".join(part for part in body if part)
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{content}\n</body>\n</html>\n'


def fixed(digits: int) -> Callable[[Any], str]:
    """Return what writes numbers with so many digits; nothing for NaN."""
    return lambda value: "" if missing(value) else f"{float(value):.{digits}f}".replace("-", "−")


def p_value(value: Any) -> str:
    """Write a p value."""
    return "" if missing(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def missing(value: Any) -> bool:
    """Whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))
