"""Several devices at once: results in order, errors in their places, ctrl-C for all."""

import threading
import time

import pytest

from edgekit.errors import DeviceError
from edgekit.side_by_side import side_by_side


def test_results_are_in_order_and_progress_is_the_sum():
    told = []

    def job(number):
        def work(report):
            report(number, 10)
            return number

        return work

    assert side_by_side([job(3), job(4)], lambda done, total: told.append((done, total))) == [3, 4]
    assert told[-1] == (7, 20)


def test_an_error_stands_in_its_place_unless_it_is_alone():
    def fail(_report):
        raise DeviceError("EK800", "gone")

    found = side_by_side([fail, lambda _report: 1])
    assert isinstance(found[0], DeviceError)
    assert found[1] == 1
    with pytest.raises(DeviceError):
        side_by_side([fail])


def test_they_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=10)
    assert len(side_by_side([lambda _report: meeting.wait()] * 3)) == 3


def test_an_interrupt_ends_all():
    ended = []

    def endless(report):
        try:
            while True:
                report(1, 2)
                time.sleep(0.01)
        finally:
            ended.append(1)

    def interrupt(_report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side([interrupt, endless, endless])
    assert len(ended) == 2
