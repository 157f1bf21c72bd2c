"""Kernels that make several calls of a recorded step: the bits of the calls one by one, and only where they may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cuda_devices
import numpy as np
import pytest
from fused_steps import Sizes, Step

from aaecore.backends.cuda import kernels
from aaecore.backends.cuda.driver import Node
from aaecore.backends.cuda.fusion import Fused, fuse
from aaecore.core.ops import PRECISIONS, SIGMOID
from aaecore.core.plan import Call

pytestmark = cuda_devices.needs_device
CHIP = kernels.Chip(132, "tf32x3")
# One thread's share and several, whole quads and not, every row wide and odd; more rows than multiprocessors.
SIZES = (
    Sizes(5, 40, 8, 36), Sizes(3, 1001, 7, 1030), Sizes(2, 2052, 4, 1100, beta=1), Sizes(7, 33, 3, 17, act=SIGMOID),
    Sizes(1, 9, 1, 9), Sizes(140, 64, 8, 64),
)  # fmt: skip


def _ids(sizes: Sizes) -> str:
    return f"B{sizes.batch}-{sizes.wide}-{sizes.few}-{sizes.wide2}" + "-beta1" * sizes.beta


def _fused(step: Step, chip: kernels.Chip = CHIP) -> list[Call | Fused]:
    return fuse(step.backend.capture(step).calls, chip)


def _kernels(step: Step, chip: kernels.Chip = CHIP) -> list[str]:
    return [c.kernel if isinstance(c, Fused) else c.name for c in _fused(step, chip)]


@pytest.mark.parametrize("sizes", SIZES, ids=_ids)
@pytest.mark.parametrize(("precision", "suffix"), PRECISIONS.items())
@pytest.mark.parametrize("pattern", kernels.FUSED)
def test_one_kernel_gives_the_bits_of_its_calls(pattern: str, precision: str, suffix: str, sizes: Sizes) -> None:
    backend = cuda_devices.backend()
    step = Step(backend, pattern, suffix, sizes)
    math = "ffma" if precision == "fp32" else precision
    loss = ["adversarial_bce"] if "loss" in pattern else []
    assert _kernels(step) == [f"{pattern}_{math}", *loss]
    plan = backend.capture(step)
    step()
    expected = step.results()
    step.clear()
    plan.replay()
    for ours, theirs in zip(step.results(), expected, strict=True):
        assert np.isfinite(theirs).all()
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("pattern", kernels.FUSED)
def test_many_rows_are_left_alone(pattern: str) -> None:
    step = Step(cuda_devices.backend(), pattern, "", Sizes(8, 40, 8, 36))
    assert len(_kernels(step, replace(CHIP, multiprocessors=3))) < len(step.calls)
    assert _kernels(step, replace(CHIP, multiprocessors=2)) == [name for name, *_ in step.calls]


# --- calls in between, and others in their place ----------------------------------------------------------------------


def _overwrite(step: Step, number: int, operand: int) -> None:
    """Another call before the last one, which writes what that one takes."""
    target = step.calls[number][1][operand].flat()
    step.calls.insert(len(step.calls) - 1, ("fill", (target,), (target.size,), (0.5,)))


def _beside(step: Step) -> None:
    other = step.made(3)
    step.calls.insert(1, ("fill", (other,), (3,), (0.5,)))


def _change(step: Step, number: int, **changed: object) -> None:
    name, buffers, dims, scalars = step.calls[number]
    parts = {"name": name, "buffers": buffers, "dims": dims, "scalars": scalars, **changed}
    step.calls[number] = tuple(parts.values())  # type: ignore[call-overload]


CHANGES: dict[str, tuple[str, Callable[[Step], None], bool]] = {
    # pattern, what is done to it, whether one kernel may still make it
    "another call between them": ("forward_forward", _beside, True),
    "the second weight is written between them": ("forward_forward", lambda s: _overwrite(s, 1, 1), False),
    "the code is written between them": ("forward_forward", lambda s: _overwrite(s, 0, 3), False),
    "what the second call writes is used between them": (
        "backward_backward", lambda s: s.calls.insert(1, ("scale", (s.calls[1][1][3].flat(),), (12 * 40,), (2.0,))),
        False,
    ),
    "the second call adds to a copy": ("forward_copy", lambda s: _change(s, 1, dims=(s.calls[1][2][0], 1)), False),
    "the second layer has another precision": (
        "forward_forward", lambda s: _change(s, 1, name="linear_forward_bf16"), False,
    ),
    "the input gradient is that of another layer": (
        "forward_loss_backward",
        lambda s: _change(s, 2, buffers=(s.calls[2][1][0], s.given(1, 40, kind="weight"), *s.calls[2][1][2:])), False,
    ),
    "the weight is written after the loss": ("forward_loss_backward", lambda s: _overwrite(s, 0, 1), False),
    "the loss's gradient is written after it": ("forward_loss_backward", lambda s: _overwrite(s, 1, 1), False),
    "the input gradient goes where the input is": (
        "forward_loss_backward",
        lambda s: _change(s, 2, buffers=(*s.calls[2][1][:3], s.calls[0][1][0])), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_calls_keep_their_order_where_it_matters(change: str) -> None:
    pattern, apply, may = CHANGES[change]
    backend = cuda_devices.backend()
    recorded, launched = (Step(backend, pattern, "", Sizes(12, 40, 8, 40)) for _ in range(2))
    for step in (recorded, launched):  # the same numbers: some write over what they are given
        apply(step)
    assert any(isinstance(c, Fused) for c in _fused(recorded)) == may
    backend.capture(recorded).replay()
    launched()
    for ours, theirs in zip(recorded.results(), launched.results(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("pattern", kernels.FUSED)
def test_no_rows_are_no_launch(pattern: str) -> None:
    step = Step(cuda_devices.backend(), pattern, "", Sizes(0, 40, 8, 40))
    assert _kernels(step) == [name for name, *_ in step.calls]
    step.backend.capture(step).replay()


def test_several_logits_of_a_row_are_left_alone() -> None:
    step = Step(cuda_devices.backend(), "forward_loss_backward", "", Sizes(6, 40, 8, 40, logits=2))
    assert _kernels(step) == [name for name, *_ in step.calls]


def test_a_backend_may_launch_every_call_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_devices.backend()
    step, launched = Step(backend, "forward_forward", "", SIZES[0]), []
    monkeypatch.setattr(
        cuda_devices.driver(),
        "graph",
        lambda nodes: launched.append([n.launch.kernel for n in nodes]) or (lambda: None),
    )
    for fuses in (True, False):
        monkeypatch.setattr(backend, "fuses", fuses)
        backend.capture(step).replay()
    assert launched == [["forward_forward_ffma"], ["linear_forward_ffma_fan_in", "linear_forward_ffma_fan_out"]]


@pytest.mark.parametrize("fuses", [True, False])
def test_a_plan_keeps_the_kernels_that_it_was_captured_with(fuses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_devices.backend(CHIP)
    recorded: list[Node] = []
    monkeypatch.setattr(backend.driver, "graph", lambda nodes: recorded.extend(nodes) or (lambda: None))
    monkeypatch.setattr(backend, "fuses", fuses)
    plan = backend.capture(Step(backend, "forward_copy", "", Sizes(5, 40, 3, 40)))
    monkeypatch.setattr(backend, "fuses", not fuses)
    plan.replay()
    assert len(recorded) == (1 if fuses else 2)


@pytest.mark.parametrize("fuses", [True, False])
def test_the_nodes_of_a_plan_are_those_of_its_graph(fuses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_devices.backend(CHIP)
    monkeypatch.setattr(backend, "fuses", fuses)
    recorded: list[Node] = []
    monkeypatch.setattr(backend.driver, "graph", lambda nodes: recorded.extend(nodes) or (lambda: None))
    step = Step(backend, "forward_copy", "", Sizes(5, 40, 3, 40))
    plan = backend.capture(step)
    for steps in (1, backend.steps_per_graph):
        recorded.clear()
        plan.replay(times=steps)
        made, _kept = backend.nodes(plan.calls, steps)
        assert made == recorded
        assert len(made) == steps * (1 if fuses else 2)
