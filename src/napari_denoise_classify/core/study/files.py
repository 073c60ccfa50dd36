"""The folder of a study: whether it may be used, and everything that is written into it."""

from __future__ import annotations

import os
from pathlib import Path

from ..classify.datasets import Crops
from ..progress import Progress, Steps, within
from .declaration import Study
from .report import write_report
from .result import RESULT_FILES, STUDY_FILE, StudyResult
from .sources import load_source

REPORT = "report.html"
SHARED_DATA = ".crops.npz"
"""The data, for other processes, as long as they work."""
FIGURES = "figures"
TABLES = "tables"


def declared_in(path: str | Path) -> tuple[Study, Crops | None]:
    """Read a study file and its data.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    study : Study
    data : Crops or None
        None if the study was made of crops that came from no file.

    Raises
    ------
    ValueError
        If the file or its data cannot be read.
    """
    study = Study.from_json(Path(path))
    return study, load_source(study.data.path, study.data.group)[0] if study.data.path else None


def prepare_folder(folder: str | Path, study: Study, overwrite: bool = False) -> None:
    """Make the folder of a study, and refuse one that holds another study, or files that it would replace.

    Parameters
    ----------
    folder : str or Path
    study : Study
    overwrite : bool
        Allow another study's results to be replaced; cells that both have are still reused.

    Raises
    ------
    ValueError
        If it cannot be made or written to, or holds another study or other files of the same names and ``overwrite``
        is off.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"The folder {folder} cannot be made: {error.strerror}. Choose another one.") from None
    if not os.access(folder, os.W_OK):
        raise ValueError(f"Nothing can be written into {folder}: choose another folder.")
    if (folder / STUDY_FILE).is_file() and not overwrite:
        if not _holds(folder, study):
            raise ValueError(f"{folder} holds another study: choose another folder, or move it away.")
    elif not overwrite:
        foreign = [name for name in (*RESULT_FILES, REPORT) if (folder / name).exists()]
        if foreign:
            raise ValueError(
                f"{folder} holds a file {foreign[0]} that is of no study: choose another folder, or move it away."
            )


def begin(folder: Path, study: Study) -> None:
    """Write the study into its folder; the results of another one, whose numbers are not its own, go."""
    if not _holds(folder, study):
        for name in (*RESULT_FILES, REPORT):
            (folder / name).unlink(missing_ok=True)
    (folder / SHARED_DATA).unlink(missing_ok=True)  # of processes that were killed
    study.to_json(folder / STUDY_FILE)


def _holds(folder: Path, study: Study) -> bool:
    try:
        return Study.from_json(folder / STUDY_FILE).to_dict() == study.to_dict()
    except (OSError, ValueError):
        return False


def save_all_iter(work: Steps[StudyResult], folder: str | Path) -> Steps[StudyResult]:
    """Run a study, then write its figures, tables and report beside it.

    Parameters
    ----------
    work : generator
        From `study_iter`, with the same folder.
    folder : str or Path
    """
    folder = Path(folder)
    result: StudyResult = yield from within(work, 0.0, 0.97)
    yield Progress(0.97, "drawing the figures")
    result.figures(folder / FIGURES)
    yield Progress(0.99, "writing the report")
    write_report(result, folder / REPORT, tables=folder / TABLES)
    return result
