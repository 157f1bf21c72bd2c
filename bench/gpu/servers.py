"""Live processes, one for a library, that make and time training steps of any size and kind on demand.

A process asks for a GPU and imports its library once, which takes longer than all that it then measures. A request is a
line of JSON: {"size", "variant", "precision", "request": how to measure}, or {"size", "check": folder, "pairs"}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from alternate import Answer, Competitor, Spec, say
from protocol import Request, Unavailable
from sizes import Size
from works import Work, spell

START = 60.0  # seconds in which a process must have imported its library and have got the GPU, beside all others
Group = tuple[str, list[Spec]]  # a name, and what one process makes


class Server(Competitor):
    """A process for all the specs of a library, or for some of them.

    Raises:
        Unavailable: it has not started after `seconds`.
    """

    def __init__(
        self, specs: Sequence[Spec], size: Size | Work, threads: int, device: str, seconds: float = START
    ) -> None:
        self.specs, self.library = list(specs), specs[0].library
        self.left_out: dict[Spec, str] = {}  # at the size that was prepared last
        super().__init__(specs[0], size, threads, "--any", "--device", device, seconds=seconds)

    def measure(self, size: Size | Work, spec: Spec, request: Request) -> Answer:
        """Raises: Unavailable: the step does not exist there, or fails."""
        asked = {"variant": spec.variant, "precision": spec.precision, "request": request._asdict()}
        return self.ask(size=spell(size), **asked)

    def check(self, size: Size | Work, folder: str, pairs: Sequence[str]) -> None:
        """One step from every state of the folder, by each variant:precision.

        Raises: Unavailable: one of them fails.
        """
        self.ask(size=spell(size), check=folder, pairs=list(pairs))

    def prepare(self, size: Size) -> None:
        """Makes every step once, so that it is compiled; those that fail are left out."""
        self.left_out = {}
        for spec in self.specs:
            try:
                self.measure(size, spec, Request(0.0, 0.0, 1))
            except (Unavailable, OSError, ValueError) as reason:
                self.left_out[spec] = str(reason)

    @property
    def ready(self) -> list[Spec]:
        """What can be measured at the size that was prepared last."""
        return [spec for spec in self.specs if spec not in self.left_out and self.process.poll() is None]

    def kill(self) -> None:
        """Ends it in the middle of what it does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(
    groups: Sequence[Group], size: Size | Work, threads: int, device: str, seconds: float = START
) -> Iterator[dict[str, Server]]:
    """The groups whose process starts, all at the same time; a line says which have not after so many seconds."""

    def start(group: Group) -> tuple[str, Server | None]:
        try:
            return group[0], Server(group[1], size, threads, device, seconds)
        except (Unavailable, OSError) as reason:
            say(f"left out: {group[0]}: {reason}")
            return group[0], None

    with ThreadPoolExecutor(max(1, len(groups))) as pool:
        started = {name: server for name, server in pool.map(start, groups) if server is not None}
    try:
        yield started
    finally:
        for server in started.values():
            server.close()


def prepare_all(servers: Sequence[Server], size: Size, seconds: float) -> None:
    """At the same time, since most of it is compiling; who is not ready in time is ended."""
    pool = ThreadPoolExecutor(max(1, len(servers)))
    waiting = {pool.submit(server.prepare, size): server for server in servers}
    _, late = wait(waiting, seconds)
    for future in late:
        waiting[future].kill()
    pool.shutdown()
    for future in late:
        server = waiting[future]
        server.left_out = dict.fromkeys(server.specs, f"not ready after {seconds:.0f} s")
