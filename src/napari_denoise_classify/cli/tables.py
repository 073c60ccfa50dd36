"""The option ``--output`` of commands that print a table: the same table in a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ..core.files import user_path
from ..core.whole import write_whole
from .common import check_new, check_suffix, guarded, say

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the table to this CSV file as well.", show_default=False)
]


def check_table(output: Path | None, overwrite: bool) -> None:
    """Refuse a name that is not a table's, or that is taken.

    Raises
    ------
    ValueError
    """
    if output is not None:
        check_suffix(output, [".csv"], "tables")
        check_new([user_path(output)], overwrite)


def write_tables(tables: list[pd.DataFrame], output: Path | None) -> None:
    """Write what was found, one table below the other; also where some files failed."""
    if output is None or not tables:
        return
    import pandas as pd

    table = pd.concat(tables, ignore_index=True)
    guarded(lambda: write_whole(user_path(output), lambda path: table.to_csv(path, index=False)))
    say(str(output))
