"""Commands of the program: run in this process, or started in one of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from typer.testing import CliRunner

from napari_denoise_classify.cli import app

PROGRAM = [sys.executable, "-c", "from napari_denoise_classify.cli import main; main()"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*arguments: object, code: int = 0) -> str:
    """Run a command here; returns what it prints."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def said(*arguments: object, code: int = 0) -> str:
    """Run a command here; returns its words in one line, wherever the terminal broke them."""
    return " ".join(run(*arguments, code=code).split())


def start(*arguments: object, folder: Path | None = None) -> subprocess.Popen[str]:
    """Start a command in a process of its own, in a folder."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=folder,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # shells ignore it for background jobs
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Wait for a command that was started; returns what it printed as results and as messages."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, (out, err)
    assert "Traceback" not in err
    return out, err
