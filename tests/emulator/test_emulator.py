"""The emulator of the CUDA kernels itself: it reports what a GPU would not forgive."""

import re

import numpy as np
import pytest
from emulator_kit import KERNELS, SEEDS, SOURCE, device, driver, f4, i4, launch, line_of, needs_compiler, node, run_test

from aaecore.backends.cuda.driver import Launch
from emulator.emulator import EmulatorError

pytestmark = needs_compiler


# --- what is reported ------------------------------------------------------------------------------------------------

RACE = "race in shared memory: "
WRONG = {
    "reverse_without_barrier": RACE + "(read|write) after unordered (write|read)|uninitialised shared",
    "reverse_twice_without_second_barrier": RACE + "(write after unordered read|read after unordered write)",
    "reverse_copied_without_wait": RACE + "the destination of a copy_async, before its wait",
    "reverse_copied_without_commit": RACE + "the destination of a copy_async, before its wait",
    "reverse_copied_without_barrier": RACE + "(the destination|read after unordered write)|uninitialised shared",
    "reverse_second_of_two_groups": RACE + "the destination of a copy_async, before its wait",
    "reverse_warps_without_barrier": RACE + "(read|write) after unordered (write|read)|uninitialised shared",
    "half_of_shared_written": "read of uninitialised shared memory",
    "read_past_the_end": "out-of-bounds global read of 4 bytes, the last one 4 bytes past a buffer of 512",
    "read_before_the_start": "(illegal|out-of-bounds) global read of 4 bytes",
    "read_four_past_the_end": "out-of-bounds global read of 16 bytes, the last one 16 bytes past",
    "write_past_the_end": "out-of-bounds global write of 4 bytes|race in global memory: write after unordered write",
    "shared_past_the_end": "out-of-bounds shared write of 4 bytes",
    "dynamic_shared_past_the_end": "out-of-bounds shared write of 4 bytes",
    "copy_past_the_end": "out-of-bounds global read of 4 bytes",
    "misaligned_read": "misaligned global read of 16 bytes",
    "misaligned_pair": "misaligned global write of 8 bytes",
    "misaligned_shared": "misaligned shared write of 16 bytes",
    "misaligned_copy": "misaligned global read of 16 bytes",
    "two_different_barriers": r"divergent barrier: __syncthreads at inline.cu:\d+ while thread \d+ waits at inline.cu:",
    "barrier_for_a_half": r"a thread returns while \d+ threads wait|\d+ threads have returned before the __syncthreads",
    "early_return": r"a thread returns while \d+ threads wait|\d+ threads have returned before the __syncthreads",
    "shuffle_for_a_half": r"returns while others wait for it at __shfl_xor_sync|waits for lane \d+, which has returned",
    "shuffle_for_a_half_then_barrier": r"deadlock in block \d; 32 threads: __shfl_xor_sync at inline.cu:\d+",
    "two_different_shuffles": "divergent warp: lane",
    "shuffle_without_its_source": r"lane \d+ reads lane \d+, which is not in mask 0000ffff",
    "shuffle_outside_its_mask": r"lane \d+ is not in its mask 0000ffff",
    "blocks_write_one_element": "race in global memory: write after unordered write; .* thread 0 of another block",
    "block_reads_what_another_wrote": "race in global memory: (read|write) after unordered (write|read)",
    "block_writes_what_another_read": "race in global memory: (read|write) after unordered (write|read)",
    "too_much_shared": "49156 bytes of static shared memory, and there are 49152",
}
RIGHT = {
    "reverse": lambda x: x.reshape(2, 64)[:, ::-1],
    "reverse_twice": lambda x: x.reshape(2, 64)[:, ::-1],
    "reverse_copied": lambda x: x.reshape(2, 64)[:, ::-1],
    "reverse_first_of_two_groups": lambda x: x.reshape(2, 64)[:, ::-1],
    "reverse_warps": lambda x: x.reshape(4, 32)[:, ::-1],
    "reverse_warps_by_shuffle": lambda x: x.reshape(4, 32)[:, ::-1],
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kernel", WRONG)
def test_the_checked_build_reports(kernel, seed):
    with pytest.raises(EmulatorError, match=WRONG[kernel]) as info:
        run_test(driver(seed=seed), kernel)
    assert str(info.value).startswith(f"{kernel}: ")
    assert " pc 0x" not in str(info.value)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("kernel", RIGHT)
def test_correct_kernels_are_clean(kernel, mode, seed):
    y, x = run_test(driver(mode, seed), kernel)
    assert np.array_equal(y, RIGHT[kernel](x).ravel())


def test_a_report_names_the_lines():
    with pytest.raises(EmulatorError) as info:
        run_test(driver(), "reverse_twice_without_second_barrier")
    start = line_of("TEST(reverse_twice_without_second_barrier) {")
    assert f"at inline.cu:{start + 5}, this one at inline.cu:{start + 3} [block 0, 0 thread " in str(info.value)


def test_every_test_kernel_is_expected_to_be_right_or_wrong():
    assert set(re.findall(r"^TEST\((\w+)\)", KERNELS, re.MULTILINE)) == {*WRONG, *RIGHT}


def test_a_driver_goes_on_after_a_report():
    d = driver()
    for kernel in WRONG:
        with pytest.raises(EmulatorError):
            run_test(d, kernel)
        y, x = run_test(d, "reverse_copied")
        assert np.array_equal(y, RIGHT["reverse_copied"](x).ravel())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_block_too_many_is_out_of_bounds(seed):
    d = driver(seed=seed)
    x = device(d, np.ones(128, f4))
    with pytest.raises(EmulatorError, match=r"out-of-bounds global read .* \[block 2, 0 "):
        launch(d, "reverse", x, d.allocate(512), i4(128), grid=(3, 1), threads=64)


def test_a_block_too_few_leaves_nan():
    d = driver("fast")
    y = d.allocate(512).view(f4)
    launch(d, "reverse", device(d, np.ones(128, f4)), y, i4(128), grid=(1, 1), threads=64)
    assert np.array_equal(np.isnan(d.download(y)), np.arange(128) >= 64)


def test_freed_memory_is_out_of_bounds():
    d = driver()
    x, y = device(d, np.ones(32, f4)), d.allocate(128)
    stale = node(d, "scale", x, y, 2.0)
    d.launch(stale)
    del x
    with pytest.raises(EmulatorError, match=r"illegal global read of 4 bytes: 0x[0-9a-f]+ is in no buffer"):
        d.launch(stale)


def test_launches_are_ordered():
    d = driver()
    y = device(d, np.ones(32, f4))
    for _ in range(3):
        launch(d, "twice", y)
    assert (d.download(y) == 8).all()
    assert d.launches == 3


# --- launches that cannot be right -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (0, 1.5, "argument 0 has to be an address (int), not float"),
        (0, i4(0), "argument 0 has to be an address (int), not int32"),
        (0, True, "argument 0 has to be an address (int), not bool"),
        (2, 50, "argument 2 has to be np.int32, not int"),
        (2, np.int64(50), "argument 2 has to be np.int32, not int64"),
        (2, 50.0, "argument 2 has to be np.int32, not float"),
    ],
)
def test_argument_kinds_are_checked(place, value, expected):
    d = driver()
    x = device(d, np.ones(128, f4))
    arguments = [d.pointer(x), d.pointer(x), i4(50)]
    arguments[place] = value
    with pytest.raises(TypeError, match=re.escape(f"reverse: {expected}")):
        launch(d, "reverse", *arguments, threads=64)


def test_doubles_are_checked():
    d = driver()
    x = device(d, np.ones(32, f4))
    with pytest.raises(TypeError, match=re.escape("scale: argument 2 has to be a double (float), not float32")):
        launch(d, "scale", x, x, f4(2))
    with pytest.raises(TypeError, match=re.escape("scale takes 3 arguments (ppd), not 2")):
        launch(d, "scale", x, x)


@pytest.mark.parametrize("threads", [32, 128])
def test_blocks_have_the_threads_the_kernel_is_for(threads):
    d = driver()
    x = device(d, np.ones(128, f4))
    with pytest.raises(EmulatorError, match=f"{threads} threads in a block, and the kernel is for 64"):
        launch(d, "reverse", x, x, i4(50), threads=threads)


@pytest.mark.parametrize("options", [{"grid": (0, 1)}, {"grid": (1, 65536)}, {"shared": 228 << 10}])
def test_launches_a_device_has_no_room_for(options):
    d = driver()
    with pytest.raises(EmulatorError, match=r"blocks|shared memory"):
        launch(d, "twice", device(d, np.ones(32, f4)), **options)


def test_kernels_are_where_the_launch_says():
    d = driver()
    with pytest.raises(EmulatorError, match="there is no kernel nothing"):
        d.launch(Launch(SOURCE, "nothing", (1, 1), 32, 0, ()))
    with pytest.raises(EmulatorError, match=re.escape("the kernel twice is in inline.cu, not in other.cu")):
        d.launch(Launch("other.cu", "twice", (1, 1), 32, 0, (0,)))
