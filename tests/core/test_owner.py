"""Who uses a thing that only one may use: refused while the call runs, free as soon as it does not."""

import threading

import pytest

from aaecore.core.owner import Exclusive, Owner, Use


def used(thing, within=lambda: None, what="first"):
    use = Use(what)
    try:
        thing.enter(use)
        return within()
    finally:
        thing.leave(use)


def abandoned(thing):
    """A call that ends without the line that ends the use; what it returns keeps nothing alive."""
    use = Use("abandoned")
    thing.enter(use)


def test_a_second_use_is_refused_with_the_name_of_the_first():
    thing = Exclusive("thing")
    with pytest.raises(RuntimeError, match=r"^second: expected a thing that nobody else uses, but first \(thread Main"):
        used(thing, lambda: used(thing, what="second"))
    assert thing.user is None
    assert used(thing, lambda: thing.user.what) == "first"


def test_a_call_that_is_over_uses_nothing():
    """Also where its frames live on in an error that somebody holds."""
    thing = Exclusive("thing")
    abandoned(thing)
    assert thing.user is None
    assert used(thing, lambda: "mine") == "mine"

    def fails():
        use = Use("fails")
        thing.enter(use)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as held:
        fails()
    assert used(thing, lambda: "mine") == "mine"
    assert held


def test_a_refused_use_ends_nobody_elses():
    thing = Exclusive("thing")

    def within():
        with pytest.raises(RuntimeError):
            used(thing, what="second")
        return thing.user.what

    assert used(thing, within) == "first"


def test_of_many_threads_one_is_let_in():
    """Also where all of them find one that was abandoned."""
    for _ in range(50):
        thing, ready, done = Exclusive("thing"), threading.Barrier(8), threading.Barrier(8)
        abandoned(thing)
        let_in = []

        def try_it(thing=thing, ready=ready, done=done, let_in=let_in):
            use = Use("one")
            try:
                ready.wait(30)
                thing.enter(use)
                let_in.append(use)
            except RuntimeError:
                pass
            finally:
                done.wait(30)
                thing.leave(use)

        threads = [threading.Thread(target=try_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(let_in) == 1
        assert thing.user is None


def test_a_use_frees_the_locks_that_it_left():
    """An interrupt at the end of a `with` may skip the release."""
    owner = Owner()
    used(owner, owner.whole.acquire)
    seen = []

    def look():
        with owner.looking("look"):
            seen.append(True)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(20)
    assert seen == [True]
