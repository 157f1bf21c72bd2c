"""The CUDA backend: kernels compiled at run time, a step replayed as a graph, all on the caller's current stream.

It knows a device only through `driver.Driver`: CuPy's (`cupy_driver.py`) on a GPU, an emulator in the tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core.backend import Backend
from ...core.memory import Buffer
from ...core.ops import OPS, Op
from ...core.plan import Call
from ...errors import DeviceError
from .dependencies import Access, accesses, dependencies
from .driver import Argument, Driver, Launch, Node
from .fusion import Fused, fuse
from .kernels import CHAINS, KERNELS, PARTIAL, TILES, Chip, Grid, kernels_of, scratch_bytes
from .places import in_second_place

INT_MAX = 2**31 - 1
MOST_ELEMENTS = 2**31 - 2**16  # of a buffer: the last blocks of a grid count beyond its end
TENSOR_CORES = (8, 0)  # the compute capability that TF32 and bfloat16 products need
FP32 = ("tf32x3", "ffma")
KINDS = {"float32": "real", "uint8": "uint8", "int64": "int64", "uint64": "uint64", "float64": "float64"}


def _check_sizes(op: Op, buffers: Sequence[Buffer]) -> None:
    for arg, buffer in zip(op.args, buffers, strict=True):
        if buffer.size > MOST_ELEMENTS and arg.name != "source":  # whose rows are found in 64 bits
            raise ValueError(f"{op.name}: {arg.name}: expected at most {MOST_ELEMENTS} elements, got {buffer.size}")


def _launch(kernel: str, grid: Grid, arguments: Sequence[Argument]) -> Launch:
    k = KERNELS[kernel]
    return Launch(k.source, kernel, grid, k.threads, k.shared, tuple(arguments))


def make_driver(device: str) -> Driver:
    """The driver of "cuda" (the current CUDA device) or "cuda:<number>".

    Raises:
        ValueError: another name. DeviceError: no CuPy, no GPU, or not so many.
    """
    from .cupy_driver import CupyDriver

    return CupyDriver(device)


class CudaBackend(Backend):
    """float32 kernels for one GPU. Weights lie as (out, in).

    Args:
        driver: the device.
        fp32: how products of float32 are made: "tf32x3", on tensor cores from three products of TF32, or "ffma",
            without tensor cores. By default what AAECORE_CUDA_FP32 says, else "tf32x3" where the GPU has it.
        tiles: of matrix products on tensor cores, to choose from: names of `kernels.TILES`, largest first.

    Raises:
        ValueError: another `fp32`. DeviceError: "tf32x3" on a GPU without tensor cores for it.
    """

    real = np.dtype(np.float32)
    fuses = True  # whether one kernel makes several calls of a recorded step, see `fusion.py`
    steps_per_graph = 16  # docs/performance.md has what other numbers do

    def __init__(self, driver: Driver, fp32: str | None = None, tiles: Sequence[str] = tuple(TILES)) -> None:
        super().__init__()
        self.driver, self.name = driver, driver.name
        has_tensor_cores = driver.capability >= TENSOR_CORES
        chosen = fp32 or os.environ.get("AAECORE_CUDA_FP32") or ("tf32x3" if has_tensor_cores else "ffma")
        if chosen not in FP32:
            raise ValueError(f"fp32 (or AAECORE_CUDA_FP32): expected one of {', '.join(FP32)}, got {chosen!r}")
        if chosen == "tf32x3" and not has_tensor_cores:
            have, need = ("{}.{}".format(*c) for c in (driver.capability, TENSOR_CORES))
            raise DeviceError(f"fp32='tf32x3': expected compute capability {need} or higher, {self.name} has {have}")
        if not has_tensor_cores:
            self.precisions = ("fp32",)
        self.chip = Chip(driver.multiprocessors, chosen, tuple(tiles))
        # Of launches one by one, the last; those before it, less than half as large, may be in use on another stream.
        self._eager_scratch = [driver.allocate(0)]

    # --- memory -----------------------------------------------------------------------------------

    def _allocate(self, nbytes: int) -> Any:
        return self.driver.allocate(nbytes)

    def _pointer(self, storage: Any) -> int:
        return self.driver.pointer(storage)

    def _pack(self, array: np.ndarray, buffer: Buffer) -> None:
        self.driver.upload(buffer.storage, np.ascontiguousarray(array, self._dtype(buffer.kind)).reshape(-1))

    def _unpack(self, buffer: Buffer) -> np.ndarray:
        return self.driver.download(buffer.storage).reshape(buffer.shape)

    def _clear(self, buffer: Buffer) -> None:
        self.driver.zero(buffer.storage)

    def _copy(self, target: Buffer, source: Buffer) -> None:
        self.driver.copy(target.storage, source.storage)

    def all_finite(self, buffers: Sequence[Buffer]) -> bool:
        # By the sum of squares in double, which no float overflows: eight bytes to read instead of all.
        total = self.empty((1,), "float64")
        for i, buffer in enumerate(buffers):
            flat = buffer.flat()
            self.launch("sum_squares", (flat, total), (flat.size, int(i > 0)))
        return bool(np.isfinite(self.to_host(total)).all())

    # --- launching --------------------------------------------------------------------------------

    def _arguments(
        self, op: Op, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]
    ) -> list[Argument]:
        _check_sizes(op, buffers)
        whole = [np.int32(d if d <= INT_MAX else d - 2**32) for d in dims]  # a stream has 32 bits without a sign
        return [*(b.pointer for b in buffers), *whole, *map(float, scalars)]

    def _launches(
        self, name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float], scratch: Any
    ) -> list[Launch]:
        op = OPS[name]
        arguments = self._arguments(op, buffers, dims, scalars)
        chosen = kernels_of(name, dict(zip(op.dims, dims, strict=True)), self.chip)
        if len(chosen) < 2:
            return [_launch(kernel, grid, arguments) for kernel, grid in chosen]
        whole = [*arguments, self.driver.pointer(scratch)]
        first = whole
        if name not in (*PARTIAL, *CHAINS):  # a weight gradient in parts: x, dy and the sizes
            first = [*arguments[:2], self.driver.pointer(scratch), *arguments[len(buffers) : len(buffers) + 3]]
        return [_launch(*chosen[0], first), *(_launch(*more, whole) for more in chosen[1:])]

    def _scratch_bytes(self, name: str, dims: Sequence[int]) -> int:
        return scratch_bytes(name, dict(zip(OPS[name].dims, dims, strict=True)), self.chip)

    def _run(self, name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None:
        wanted = self._scratch_bytes(name, dims)
        if wanted > self._eager_scratch[-1].nbytes:
            self._eager_scratch.append(self.driver.allocate(2 * wanted))
        for launch in self._launches(name, buffers, dims, scalars, self._eager_scratch[-1]):
            self.driver.launch(launch)

    def _launches_with_accesses(self, call: Call | Fused, scratch: Any) -> list[tuple[Launch, Sequence[Access]]]:
        """The launches of a call, or of the calls of one kernel, and what each touches."""
        if isinstance(call, Fused):
            parts = [self._arguments(OPS[c.name], c.buffers, c.dims, c.scalars) for c in call.calls]
            return [(_launch(call.kernel, (call.rows, 1), [a for part in parts for a in part]), call.touched)]
        launches = self._launches(call.name, call.buffers, call.dims, call.scalars, scratch)
        if len(launches) < 2:
            return [(launch, accesses(call)) for launch in launches]
        at, size, count = self.driver.pointer(scratch), scratch.nbytes, len(call.buffers)
        if call.name in CHAINS:
            return [(launch, [*accesses(call), Access(at, at + size, True)]) for launch in launches]
        ends = count - 1 if call.name in PARTIAL else 2  # buffers from there on are the second kernel's
        first = [*accesses(call, range(ends)), Access(at, at + size, True)]
        return [
            (launches[0], first),
            (launches[1], [*accesses(call, range(ends, count)), Access(at, at + size, False)]),
        ]

    def _nodes(self, calls: Sequence[Call | Fused], scratches: Sequence[Any]) -> list[Node]:
        """The launches of the calls, and which of them each has to wait for."""
        made = [
            pair
            for call, scratch in zip(calls, scratches, strict=True)
            for pair in self._launches_with_accesses(call, scratch)
        ]
        waits = dependencies([touched for _, touched in made])
        return [Node(launch, after) for (launch, _), after in zip(made, waits, strict=True)]

    def _kernels(self, calls: Sequence[Call], fuses: bool, steps: int = 1) -> list[Call | Fused]:
        """So many steps of a plan's calls, some of these in one kernel. The last step leaves its batch where it was
        recorded, every other one in a second place."""
        places = [calls] if steps == 1 else [calls, in_second_place(calls, self.driver.allocate)]
        made: list[list[Call | Fused]] = [fuse(c, self.chip) if fuses else [*c] for c in places]
        return [call for step in reversed(range(steps)) for call in made[step % len(made)]]

    def _scratches(self, calls: Sequence[Call | Fused]) -> list[Any]:
        """Scratch of their own, since calls that do not depend on each other may run at the same time."""
        wanted = [self._scratch_bytes(call.name, call.dims) if isinstance(call, Call) else 0 for call in calls]
        return [self.driver.allocate(nbytes) if nbytes else None for nbytes in wanted]

    def nodes(self, calls: Sequence[Call], steps: int = 1) -> tuple[list[Node], object]:
        """The graph of so many equal steps of a plan's calls, as its replay runs it, for who measures it; and what is
        to be kept as long as the nodes are launched."""
        made = self._kernels(calls, self.fuses, steps)
        scratches = self._scratches(made[: len(made) // steps])
        return self._nodes(made, scratches * steps), (made, scratches)

    def _compile(self, calls: Sequence[Call]) -> Callable[[int], None]:
        fuses = self.fuses
        scratches = self._scratches(self._kernels(calls, fuses))
        graphs: dict[int, tuple[Callable[[], None], list[Call | Fused]]] = {}  # with the calls, whose memory they use

        def run(times: int) -> None:
            while times:
                steps = self.steps_per_graph if times >= self.steps_per_graph else 1
                if steps not in graphs:
                    made = self._kernels(calls, fuses, steps)
                    graphs[steps] = self.driver.graph(self._nodes(made, scratches * steps)), made
                graphs[steps][0]()
                times -= steps

        return run

    # --- arrays of the device ---------------------------------------------------------------------

    def has(self, array: Any) -> bool:
        return self.driver.owns(array)

    def adopt(self, array: Any) -> Buffer:
        adopted = self.driver.adopt(array)
        if adopted.dtype.name not in KINDS:
            raise TypeError(f"expected a device array of {', '.join(KINDS)}, got {adopted.dtype}")
        if self.driver.pointer(adopted) % adopted.dtype.itemsize:
            raise ValueError(f"expected a device array aligned to its {adopted.dtype.itemsize} bytes")
        return Buffer(self, tuple(adopted.shape), KINDS[adopted.dtype.name], adopted.reshape(-1))

    def wrap(self, array: np.ndarray, kind: str = "real") -> Buffer:
        return self.from_host(array, kind)  # never the host's own memory

    def __cuda_stream__(self) -> tuple[int, int]:
        """The stream that work goes on now, for other libraries: (version of the protocol, address)."""
        return 0, self.driver.stream()
