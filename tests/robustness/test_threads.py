"""Threads that all begin at once; `threads.py` is the whole of it."""

from __future__ import annotations

import os
import threading
import time

import pytest

from cnnc.locks import Claims, lazy
from tests.robustness import threads


def test_eight_threads_from_an_empty_cache():
    assert threads.run(8, False, 120) == ""


def test_who_waits_for_a_claim_takes_it_over_from_who_failed():
    claims, order = Claims(), []

    def broken():
        with claims.turn("key"):
            order.append("first")
            time.sleep(0.05)
            raise ValueError("no")

    def fail():
        with pytest.raises(ValueError, match="no"):
            broken()

    thread = threading.Thread(target=fail)
    thread.start()
    while not order:
        time.sleep(0.001)
    with claims.turn("key"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_only_what_is_free_is_claimed():
    claims, found = Claims(), []

    def other():
        with claims.some(["b", "c"]) as rest, claims.some([]) as nothing:
            found.extend([rest, nothing])

    with claims.some(["a", "b"]) as mine:
        assert mine == ["a", "b"]
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with claims.turn("a"), claims.some(["a", "d"]) as again:  # as a signal's handler does
            assert again == ["a", "d"]
        with claims.some(["a"]) as still:
            assert still == ["a"]
    assert found == [["c"], []]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_waits_for_no_thread_of_its_parent():
    claims = Claims()
    with claims.some(["key"]):
        child = os.fork()
        if child == 0:
            with claims.turn("key"):
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_lazy_property_takes_no_lock():
    """Two threads meet in it, and neither waits for the other to leave."""
    inside = threading.Barrier(2, timeout=10)

    class Each:
        @lazy
        def value(self):
            inside.wait()
            return object()

    each, found = Each(), []
    both = [threading.Thread(target=lambda: found.append(each.value)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert found[0] is found[1] is each.value
