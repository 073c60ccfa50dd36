"""The command ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Output, Overwrite, check_new, guarded, say, with_bar


def demo(
    output: Output = Path("results"),
    sigma: Annotated[float, typer.Option(min=0, max=255, help="Noise added to the image, in grey levels.")] = 50.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    colour: Annotated[bool, typer.Option("--colour", help="Keep the colours: the task is then much easier.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Run the whole job on a real tissue image, offline: denoise, mask, classify and see why."""

    def work() -> None:
        from ..core.demonstration import demonstrate_iter
        from ..core.figures import save
        from ..core.whole import write_whole

        figure, table, model = (output / name for name in ("demo.png", "demo.csv", "demo_model.ndc"))
        check_new([figure, table, model], overwrite)
        found = with_bar(demonstrate_iter(sigma, seed, colour), "demo")
        write_whole(table, lambda path: found.table.to_csv(path))
        found.classifier.save(model)
        save(found.figure, figure)
        say(found.table.to_string(float_format="{:.3f}".format))
        say(f"\nThe figure: {figure}\nThe table:  {table}\nThe model:  {model}")

    guarded(work)
