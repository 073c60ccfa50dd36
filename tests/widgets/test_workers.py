"""What happens to work in a thread: results, errors, cancelling."""

from __future__ import annotations

import time

import pytest

from napari_denoise_classify.core.progress import Progress
from napari_denoise_classify.widgets import workers
from napari_denoise_classify.widgets.workers import Job


def drive(qtbot, work):
    log = {"progress": [], "result": None, "ended": None}
    job = Job(
        work,
        lambda progress, left: log["progress"].append((progress.fraction, left)),
        lambda result: log.__setitem__("result", result),
        lambda how: log.__setitem__("ended", how),
    )
    return job, log


def test_result_comes_after_progress(qtbot):
    def work():
        for i in range(3):
            yield Progress((i + 1) / 3)
        return "done it"

    _, log = drive(qtbot, work())
    qtbot.waitUntil(lambda: log["ended"] is not None)
    assert log["result"] == "done it"
    assert [fraction for fraction, _ in log["progress"]] == pytest.approx([1 / 3, 2 / 3, 1])


def test_time_left_is_told_once_it_can_be(qtbot):
    def work():
        for i in range(8):
            time.sleep(0.2)
            yield Progress((i + 1) / 8)

    _, log = drive(qtbot, work())
    qtbot.waitUntil(lambda: log["ended"] is not None)
    assert log["progress"][0][1] is None
    assert 0 <= log["progress"][-2][1] < 2


def test_time_left_leaves_out_what_came_before_the_first_part(qtbot):
    def work():
        yield Progress(0.0, "loading")
        time.sleep(1.5)
        yield Progress(0.0, "begins")
        time.sleep(0.3)
        yield Progress(0.25)
        time.sleep(1.0)
        yield Progress(0.5)

    _, log = drive(qtbot, work())
    qtbot.waitUntil(lambda: log["ended"] is not None)
    assert log["progress"][2][1] is None
    assert log["progress"][3][1] == pytest.approx(1.3, abs=0.5)


def test_user_error_is_a_notification(qtbot, monkeypatch):
    shown: list[str] = []
    monkeypatch.setattr(workers, "show_error", shown.append)

    def work():
        yield Progress(0.1)
        raise ValueError("Give a smaller number.")

    _, log = drive(qtbot, work())
    qtbot.waitUntil(lambda: log["ended"] is not None)
    assert log["ended"] == "failed"
    assert shown == ["Give a smaller number."]


def test_defect_is_not_swallowed(qtbot):
    def work():
        yield Progress(0.1)
        raise RuntimeError("a defect")

    with qtbot.captureExceptions() as caught:
        _, log = drive(qtbot, work())
        qtbot.waitUntil(lambda: log["ended"] is not None)
        qtbot.waitUntil(lambda: bool(caught))
    assert log["ended"] == "failed"
    assert "a defect" in str(caught[0][1])


def test_cancel_closes_the_work(qtbot):
    closed = []

    def work():
        try:
            while True:
                time.sleep(0.01)
                yield Progress(0.5)
        finally:
            closed.append(True)

    job, log = drive(qtbot, work())
    qtbot.waitUntil(lambda: len(log["progress"]) > 2)
    job.cancel()
    qtbot.waitUntil(lambda: log["ended"] is not None)
    assert log["ended"] == "cancelled"
    assert log["result"] is None
    assert closed


def test_cancel_after_the_last_yield_still_ends(qtbot):
    def work():
        yield Progress(1.0)
        time.sleep(0.3)
        return "too late"

    job, log = drive(qtbot, work())
    qtbot.waitUntil(lambda: bool(log["progress"]))
    job.cancel()
    qtbot.waitUntil(lambda: log["ended"] is not None)
    assert log["ended"] == "cancelled"
