"""How long a study took over all of its runs: one that was interrupted and resumed had several."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..whole import write_whole
from .declaration import Study

NAME = "seconds.json"


@dataclass(frozen=True)
class Spent:
    """What the runs of a study before this one took.

    Attributes
    ----------
    file : Path or None
        None keeps nothing.
    study : str
        SHA-256 of the study's declaration: another one in the same folder starts at nothing.
    before : dict
        Seconds by name.
    runs : int
        How many runs there were before.
    """

    file: Path | None
    study: str
    before: Mapping[str, float] = field(default_factory=dict)
    runs: int = 0

    @classmethod
    def read(cls, folder: Path | None, study: Study) -> Spent:
        """Read what was kept in a folder; nothing, if that is damaged or of another study."""
        name = hashlib.sha256(json.dumps(study.to_dict(), sort_keys=True).encode()).hexdigest()
        if folder is None:
            return cls(None, name)
        file = folder / NAME
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
            if saved["study"] == name:
                before = {str(key): float(value) for key, value in saved["seconds"].items()}
                return cls(file, name, before, int(saved["runs"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        return cls(file, name)

    def add(self, now: Mapping[str, float]) -> dict[str, float]:
        """Return what this run and those before took together, and keep it for the next."""
        total = {key: self.before.get(key, 0.0) + value for key, value in now.items()}
        if self.file is not None:
            text = json.dumps({"study": self.study, "runs": self.runs + 1, "seconds": total})
            with contextlib.suppress(OSError):  # a figure is no reason to lose a study
                write_whole(self.file, lambda path: path.write_text(text + "\n", encoding="utf-8"))
        return total
