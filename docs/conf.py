import sys
from pathlib import Path

from napari_denoise_classify import __version__

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "napari-denoise-classify"
author = "The napari-denoise-classify developers"
copyright = author
version = release = __version__

# No intersphinx: the documentation builds offline.
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "steps_table"]
exclude_patterns = ["_build", "studies/*/results.md"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"  # `name` in a docstring links to it
autodoc_typehints = "none"  # the docstrings say it in words
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"{project} {version}"
