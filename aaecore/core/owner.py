"""Who uses a thing that only one may use at a time, and when others may look at it.

A call that comes while another one runs is refused with the other's name. What an interrupt cut short blocks nobody:
a use counts as long as the call that made it runs, whether or not it came to the line that ends the use.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Use:
    """A call that uses something. It must be in a variable of that call."""

    __slots__ = ("_code", "thread", "what")

    def __init__(self, what: str) -> None:
        self.what, self.thread = what, threading.get_ident()
        self._code = sys._getframe(1).f_code  # not the frame, which would keep itself alive by way of its variable

    def goes_on(self) -> bool:
        """Whether the call still runs: not after its end, and not in a child of fork that has other threads."""
        frame = sys._current_frames().get(self.thread)
        while frame is not None:
            if frame.f_code is self._code and any(value is self for value in frame.f_locals.values()):
                return True
            frame = frame.f_back
        return False

    def __str__(self) -> str:
        names = [thread.name for thread in threading.enumerate() if thread.ident == self.thread]
        return f"{self.what} (thread {names[0] if names else self.thread})"


class Exclusive:
    """Lets one use in at a time: enter it within `try`, leave it in `finally`."""

    def __init__(self, thing: str) -> None:
        self.thing = thing
        self._uses: dict[None, Use] = {}  # at most one; setting a default is one step for all threads
        self._replacing = threading.Lock()

    def enter(self, use: Use) -> None:
        """Begins a use.

        Raises:
            RuntimeError: another use, of this thread or of another, goes on.
        """
        while (other := self._uses.setdefault(None, use)) is not use:
            self.refuse(use.what, other)
            with self._replacing:
                if self._uses.get(None) is other:
                    self._uses.pop(None, None)

    def leave(self, use: Use) -> None:
        """Ends a use, if it was let in."""
        if self._uses.get(None) is use:
            del self._uses[None]

    @property
    def user(self) -> Use | None:
        """The use that goes on."""
        use = self._uses.get(None)
        return use if use is not None and use.goes_on() else None

    def refuse(self, what: str, other: Use) -> None:
        """RuntimeError for `what` if the other use goes on."""
        if other.goes_on():
            raise RuntimeError(f"{what}: expected a {self.thing} that nobody else uses, but {other} uses it")


class Owner(Exclusive):
    """Of a model: who trains it, and when its weights are those of a whole step.

    Whoever changes weights holds `whole` until what belongs together is changed. Others wait for that, for the 20 ms of
    a burst at most: whoever trains passes the `turnstile` before each burst, and who waits stands in it.
    """

    whole: threading.RLock  # a handler of a signal may come while its own thread holds them
    turnstile: threading.RLock

    def __init__(self) -> None:
        super().__init__("model")
        # Set while the weights are those of no whole step, or not yet counted: it goes back to the last whole one.
        self.finish: Callable[[], None] | None = None
        self.renew()
        _owners.add(self)

    def renew(self) -> None:
        """Makes the locks: new ones in a child of fork, where the threads that hold the old ones do not exist."""
        self.whole, self.turnstile = threading.RLock(), threading.RLock()

    def leave(self, use: Use) -> None:
        """Ends a use, if it was let in, and frees what it holds, where an interrupt came before the end of a `with`."""
        if self._uses.get(None) is use:
            for lock in (self.whole, self.turnstile):
                while lock._is_owned():  # type: ignore[attr-defined]
                    lock.release()
            del self._uses[None]

    @property
    def within(self) -> bool:
        """Whether the calling thread is in the middle of changing the weights: this call is a signal handler's."""
        return bool(self.whole._is_owned())  # type: ignore[attr-defined]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A context in which nothing changes, but what the calling thread may be in the middle of changing."""
        if self.within:  # who stands in the turnstile may wait for this thread
            yield
            return
        with self.turnstile, self.whole:
            yield

    @contextmanager
    def looking(self, what: str) -> Iterator[None]:
        """A context in which the weights are those of a whole step, and stay so; `what` needs that.

        Raises:
            RuntimeError: it was called in the middle of a step, by a handler of a signal.
        """
        within = self.within
        with self.waiting():
            if self.finish is not None:
                if within:
                    raise RuntimeError(f"{what}: expected a model between two steps, but {self.user} is within one")
                self.finish()  # an interrupt left it
                self.finish = None
            yield

    @contextmanager
    def setting(self, what: str) -> Iterator[None]:
        """A context in which `what` may set the weights from outside; within a fit its own callbacks may.

        Raises:
            RuntimeError: another thread trains the model, or it was called in the middle of a step.
        """
        if (user := self.user) is not None and user.thread != threading.get_ident():
            self.refuse(what, user)
        with self.looking(what):
            yield


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()


def _renew() -> None:
    for owner in _owners:
        owner.renew()


os.register_at_fork(after_in_child=_renew)
