"""The checkpoint file: exact round trips, refusal of every damaged or hostile file, writes that fail or are killed."""

import errno
import math
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress

import h5py
import numpy as np
import pytest

from aaecore.errors import CheckpointError
from aaecore.files import checkpoint

SMALL = {"w": np.arange(4, dtype="<f4")}


def read(path, tensors=SMALL, **options):
    spec = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
    return checkpoint.read(path, lambda meta: spec, **options)


def assert_same(found, tensors):
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.astype(found[name].dtype).tobytes()  # bits: NaN and -0.0 too


def save_step(path, step):
    checkpoint.write(path, {"w": np.full(1000, float(step))}, {"step": step})


def assert_holds(path, step):
    found, meta = read(path, {"w": np.zeros(1000)})
    assert (meta, set(found["w"])) == ({"step": step}, {step})
    assert os.listdir(path.parent) == [path.name]


def child(code, *arguments):
    """Run the code in a process of its own; an exception is the last line of its stderr."""
    command = [sys.executable, "-c", "import sys; from aaecore.files import checkpoint\n" + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_every_dtype_shape_name_and_layout_comes_back(tmp_path):
    bits = np.random.default_rng(0).integers(256, size=96, dtype=np.uint8)
    tensors = {f"dtype/{name}": bits.view(name).reshape(3, -1) for name in sorted(checkpoint._DTYPES)} | {
        "encoder.0.weight": np.broadcast_to(np.float32(2), (2, 3, 4)),  # read-only and strided
        "encoder.0.bias": np.zeros((0, 3), np.int64),
        "step": np.array(7, np.uint64),
        "big-endian": np.array([1.5, np.nan, -0.0], ">f8"),
        "gr\u00f6\u00dfe/\u03b2 1": np.array(np.inf, np.float16),
    }
    checkpoint.write(tmp_path / "c.h5", tensors, {})
    found, _ = read(tmp_path / "c.h5", tensors)
    assert_same(found, tensors)
    assert all(array.flags.writeable and array.flags.c_contiguous for array in found.values())


def test_metadata_come_back(tmp_path):
    meta = {"loss": [0.1, math.inf, -math.inf, -0.0, 1e-320], "n": 2**70, "\u00e9\U0001f600\ud800": {"a": [None, True]}}
    checkpoint.write(tmp_path / "c.h5", SMALL, {**meta, "nan": [math.nan], "pair": (1, 2)})
    for found in (read(tmp_path / "c.h5")[1], checkpoint.peek(tmp_path / "c.h5")):
        assert math.isnan(found.pop("nan")[0])
        assert found.pop("pair") == [1, 2]
        assert repr(sorted(found.items())) == repr(sorted(meta.items()))


def test_the_stored_form_is_documented_and_reproducible(tmp_path):
    tensors, meta = {"g/w": np.arange(4, dtype=">f4"), "n": np.array(1)}, {"b": math.nan, "a": "\u00e9"}
    checkpoint.write(tmp_path / "1.h5", tensors, meta)
    with h5py.File(tmp_path / "1.h5") as file:
        assert file["meta"][:].tobytes() == b'{"a":"\\u00e9","b":NaN}'
        assert (file["g/w"].dtype.str, file["g/w"].chunks) == ("<f4", None)
        # Files of version 1 must load for ever: this digest, computed from the documentation, may not change.
        digest = b"0d0d53866e83393dba55bc2104d4e8521d2ae3571afa68ba93b1bf3db8759115"
        assert dict(file.attrs) == {"format": b"aaecore-checkpoint", "format_version": 2, "sha256": digest}
    assert (tmp_path / "1.h5").read_bytes()[8] == 2  # the superblock of HDF5 1.8
    time.sleep(1.1)  # HDF5's time stamps count whole seconds
    checkpoint.write(tmp_path / "2.h5", dict(reversed(tensors.items())), dict(reversed(meta.items())))
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_import_does_not_load_h5py():
    assert child("print('h5py' in sys.modules)").stdout == "False\n"


@pytest.mark.parametrize(
    ("tensors", "meta", "error", "match"),
    [
        ({"w": np.ones(2, bool)}, {}, TypeError, r"tensors\['w'\].*got bool"),
        ({"w": [1.0]}, {}, TypeError, "got list"),
        ({1: np.ones(2)}, {}, TypeError, "type str, got 1"),
        ({"meta": np.ones(2)}, {}, ValueError, "not 'meta'"),
        ({"a": np.ones(2), "a/b/c": np.ones(2)}, {}, ValueError, "got 'a/b/c'"),
        *[({n: np.ones(2)}, {}, ValueError, "non-empty parts") for n in ("", "/a", "a//b", "a/..", "a\0", "\ud800")],
        ({}, {"a": [{1: 2}]}, TypeError, "meta: .*str keys"),
        ({}, {"a": [np.float32(1)]}, TypeError, "meta: .*float32"),
    ],
)
def test_write_refuses_bad_arguments(tmp_path, tensors, meta, error, match):
    save_step(tmp_path / "c.h5", 1)
    with pytest.raises(error, match=match):
        checkpoint.write(tmp_path / "c.h5", tensors, meta)
    assert_holds(tmp_path / "c.h5", 1)


def forge(path, build=None, meta=b"{}", **attributes):
    """Write a file as hostile as ``build(file)`` makes it, with root attributes that are right unless given."""
    given = {"format": np.bytes_(b"aaecore-checkpoint"), "format_version": 1, "sha256": np.bytes_(b"0" * 64)}
    with h5py.File(path, "w", libver="earliest") as file:
        if meta is not None:
            file["meta"] = np.frombuffer(meta, np.uint8)
        if build is not None:
            build(file)
        file.attrs.update({name: value for name, value in (given | attributes).items() if value is not None})


def refused(path, match, tensors=SMALL, **options):
    with pytest.raises(CheckpointError, match=f"{path}: .*{match}"):
        read(path, tensors, **options)


def put(name="w", **options):
    return lambda file: file.create_dataset(name, **options)


def link(target, name="w"):
    return lambda file: file.__setitem__(name, target)


def committed(file):
    file["type"] = np.dtype("<f4")
    file.create_dataset("w", (4,), file["type"])
    del file["type"]  # it lives on without a name


def virtual(file, source):
    data = h5py.VirtualLayout((4,), "<f4", maxshape=(None,))  # unlimited: to ask for its shape opens the source
    data[: h5py.h5s.UNLIMITED] = h5py.VirtualSource(source, "w", (4,), "<f4", maxshape=(None,))[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("w", data)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"build": link(h5py.SoftLink("/meta"))}, "'w': expected a hard link"),
        ({"build": put(data=SMALL["w"], compression="gzip")}, "'w': expected contiguous data"),
        ({"build": committed}, "'w': expected dtype <f4, got a committed type"),
        ({"build": link(np.dtype("<f4"))}, "unexpected 'w'"),
        ({"build": put(shape=(4,), dtype="<f4")}, "'w': expected 16 bytes in the file, got 0"),
        ({"build": put(shape=(4,), dtype=h5py.string_dtype())}, r"'w': expected dtype <f4, got \|O"),
        ({"build": put(data=SMALL["w"].astype(">f4"))}, "'w': expected dtype <f4, got >f4"),
        ({"build": put(data=np.zeros((2, 2), "<f4"))}, r"'w': expected shape \(4,\), got \(2, 2\)"),
        ({"build": put(data=h5py.Empty("<f4"))}, "'w': expected shape"),
        ({"build": None}, r"expected the tensor 'w', got none of that name \(1 missing in all"),
        ({"build": put("v", data=SMALL["w"])}, "1 tensors only, got the unexpected 'v'"),
        ({"build": put(data=SMALL["w"])}, "damaged: expected content with SHA-256 0000"),
        ({"format": None}, "expected the attribute format = 'aaecore-checkpoint'"),
        ({"format": "aaecore-checkpoint"}, "expected the attribute format"),  # of variable length
        ({"format_version": 7, "more": 1, "sha256": None}, "a newer version: format 7, this one reads up to 2"),
        ({"format_version": 0}, "damaged: expected the attributes"),
        ({"format_version": [1]}, "damaged: expected the attributes"),
        ({"sha256": 1}, "damaged: expected the attributes"),
        ({"more": np.zeros(5000)}, "damaged: expected the attributes"),
        ({"meta": b"[1]"}, "damaged metadata: expected a JSON object, got list"),
        ({"meta": b'{"a":1,"a":2}'}, "damaged metadata: expected unique keys"),
        ({"meta": b'{"a":"\xc3\xa9"}'}, "damaged metadata: 'ascii' codec"),
        ({"meta": b'{"a":' * 400}, "damaged metadata: "),
        ({"meta": b"[" * 9000}, "damaged metadata: expected at most 500 values"),
        ({"meta": b'{"a":' + b"1" * 5000 + b"}"}, "damaged metadata: Exceeds the limit"),
        ({"meta": b'{"a":[' + b"[]," * 400 + b"[]]}"}, "damaged metadata: expected at most 500 values, got up to 803"),
        ({"meta": b" " * 9999 + b"{}"}, "expected 2 to 10000 bytes within the file, got 10001"),
        ({"meta": None, "build": link(h5py.SoftLink("/other"), "meta")}, "'meta': expected a hard link"),
        ({"meta": None, "build": lambda file: file.create_group("meta")}, "damaged metadata"),
        ({"meta": None, "build": put("meta", data=np.zeros(4))}, "'meta': expected dtype"),
        ({"meta": None, "build": put("meta", shape=(1 << 40,), dtype="u1")}, "within the file, got 1099511627776"),
    ],
)
def test_hostile_files_are_refused(tmp_path, monkeypatch, options, match):
    monkeypatch.setattr(checkpoint, "_META_CAP", 10_000)
    monkeypatch.setattr(checkpoint, "_VALUES_CAP", 500)
    forge(tmp_path / "c.h5", **options)
    refused(tmp_path / "c.h5", match)
    only_tensors = options.keys() == {"build"}
    with nullcontext() if only_tensors else pytest.raises(CheckpointError, match=match):
        assert checkpoint.peek(tmp_path / "c.h5") == {}


def test_hostile_groups_are_refused(tmp_path, monkeypatch):
    path, tensors = tmp_path / "c.h5", {"g/w": SMALL["w"]}
    for name in ("g", "g/w", "meta"):
        forge(path, lambda file, name=name: (link(SMALL["w"], "g/w")(file), file[name].attrs.create("a", np.zeros(9))))
        refused(path, f"'{name}': expected no attributes, got 1", tensors)
    forge(path, lambda file: (link(SMALL["w"], "g/w")(file), link(file["g"], "g/self")(file)))
    refused(path, "unexpected 'g/self'", tensors)
    forge(path, link(SMALL["w"], "gXw"))
    path.write_bytes(path.read_bytes().replace(b"gXw", b"g/w"))  # no library writes a link like this
    refused(path, "'g/w': expected a hard link", tensors)
    monkeypatch.setattr(checkpoint, "_LINK_CAP", 10)
    forge(path, lambda file: [file.create_group(f"g/{i}") for i in range(13)])
    refused(path, "got a group of 13 links", tensors)


def test_no_other_file_is_opened(tmp_path):
    os.mkfifo(other := str(tmp_path / "other"))  # to open it for reading takes for ever
    forge(tmp_path / "hard link", link(h5py.ExternalLink(other, "w")))
    forge(tmp_path / "external", put(shape=(4,), dtype="<f4", external=[(other, 0, 16)]))
    forge(tmp_path / "virtual", lambda file: virtual(file, other))
    for name in ("hard link", "external", "virtual"):
        done = child("checkpoint.read(sys.argv[1], lambda meta: {'w': ((4,), 'float32')})", tmp_path / name)
        assert f"CheckpointError: {tmp_path / name}" in done.stderr
        assert name in done.stderr.rpartition(": ")[2]


def test_declared_sizes_are_refused_before_memory_is_taken(tmp_path):
    path, size = tmp_path / "c.h5", 1 << 40
    forge(path, put(shape=(size,), dtype="<f4"), b'{"size":%d}' % size)
    with pytest.raises(CheckpointError, match=f"expected {4 * size} bytes in the file, got 0"):
        checkpoint.read(path, lambda meta: {"w": ((meta["size"],), "float32")})
    checkpoint.write(path, SMALL, {})
    refused(path, "at most 15 bytes", max_bytes=15)
    assert_same(read(path, max_bytes=16)[0], SMALL)
    aliases = {f"w{i}": np.zeros(5000) for i in range(5)}  # one block under five names
    forge(path, lambda file: [link(file.get("w0", aliases["w0"]), name)(file) for name in aliases])
    refused(path, "expected at most .* got 200000", aliases)


def test_errors_of_the_expectation(tmp_path):
    save_step(tmp_path / "c.h5", 1)
    for hostile in (lambda m: m["layers"], lambda m: [] + m["step"], lambda m: int("x"), lambda m: [][m["step"]]):
        with pytest.raises(CheckpointError, match="damaged or hostile metadata"):
            checkpoint.read(tmp_path / "c.h5", hostile)
    with pytest.raises(FileNotFoundError):  # a failure of the caller's own
        checkpoint.read(tmp_path / "c.h5", lambda meta: os.stat(tmp_path / "none"))


def test_things_that_are_no_checkpoint(tmp_path):
    (tmp_path / "text").write_text("weights = 1")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    save_step(tmp_path / "short", 1)
    os.truncate(tmp_path / "short", 5000)
    cases = {"none": "No such file", ".": "directory", "text": "signature", "empty": "signature", "fifo": "regular"}
    for name, match in {**cases, "short": "truncated", "none/c.h5": "No such file"}.items():
        refused(tmp_path / name, match)


def test_a_file_that_others_have_open_or_may_not_write(tmp_path):
    save_step(tmp_path / "c.h5", 1)
    (tmp_path / "c.h5").chmod(0o400)
    with h5py.File(tmp_path / "c.h5", locking=True):
        assert_holds(tmp_path / "c.h5", 1)


def mutated(good, rng):
    """Return the bytes with one bit, some bytes, the end or the order of the halves changed."""
    place, flipped, changed = rng.randrange(len(good)), bytearray(good), bytearray(good)
    flipped[place] ^= 1 << rng.randrange(8)
    changed[place : place + 4] = rng.randbytes(len(good[place : place + 4]))
    return rng.choice([flipped, changed, good[:place], good[place:] + good[:place]])


@pytest.mark.parametrize("libver", ["v108", "earliest"])  # what write makes; and files without checksums of HDF5's own
def test_a_damaged_file_never_loads_as_something_else(tmp_path, libver):
    path, rng, tensors = tmp_path / "c.h5", random.Random(1), {f"g/{i}": np.full(i, i) for i in range(11)}
    checkpoint.write(path, tensors, {"history": [1.5, 2.5]})
    if libver == "earliest":
        with h5py.File(path) as file:
            digest, meta = file.attrs["sha256"], file["meta"][:].tobytes()
        forge(path, lambda file: [link(array, name)(file) for name, array in tensors.items()], meta, sha256=digest)
    good, loaded, descriptors = path.read_bytes(), [], len(os.listdir("/dev/fd"))
    for data in [good, *(mutated(good, rng) for _ in range(250))]:
        path.write_bytes(data)
        with suppress(CheckpointError):
            checkpoint.peek(path)
        with suppress(CheckpointError):
            loaded.append(read(path, tensors))
    assert 0 < len(loaded) < 170
    for found, meta in loaded:  # an undamaged file, or one damaged only where nothing is stored
        assert_same(found, tensors)
        assert meta == {"history": [1.5, 2.5]}
    assert len(os.listdir("/dev/fd")) <= descriptors


def fail_at(context, name, nth, failure):
    """Let the nth call of os.name fail; return the list of the calls made."""
    real, calls = getattr(os, name), []

    def call(*args, **options):
        calls.append(args)
        if len(calls) == nth:
            raise failure
        return real(*args, **options)

    context.setattr(os, name, call)
    return calls


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space"), KeyboardInterrupt("Ctrl-C")], ids=type)
@pytest.mark.parametrize(("name", "least"), [("open", 3), ("fchmod", 1), ("write", 4), ("fsync", 2), ("replace", 1)])
def test_a_failing_call_leaves_the_old_file(tmp_path, monkeypatch, name, least, failure):
    path, real = tmp_path / "c.h5", os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:2000]))  # a short write is no failure
    save_step(path, 0)
    with monkeypatch.context() as context:
        calls = fail_at(context, name, 0, failure)
        save_step(path, 1)
    assert len(calls) >= least
    for nth in range(1, len(calls) + 1):
        with monkeypatch.context() as context:
            fail_at(context, name, nth, failure)
            with pytest.raises((CheckpointError, KeyboardInterrupt), match=r"c.h5: cannot write .*No space$|^Ctrl-C$"):
                save_step(path, 2)
        only_folder = nth == len(calls) and name in ("open", "fsync")  # after os.replace: the new file is complete
        assert_holds(path, 2 if only_folder else 1)


def test_what_does_not_read_back_replaces_nothing(tmp_path, monkeypatch):
    """HDF5 may end without an error and leave a file that it did not finish, where memory was short."""
    path, image, rng = tmp_path / "c.h5", checkpoint._image, random.Random(3)
    save_step(path, 1)
    size = path.stat().st_size
    # Two halves of the tensor's 8000 bytes, the superblock, and single bytes anywhere.
    damages = [(0, 48), (size - 4000, 4000), (size // 2, 8), *((rng.randrange(size), 1) for _ in range(60))]
    refused = 0
    for start, length in damages:

        def damaged(*args, start=start, length=length):
            content = bytearray(image(*args))
            content[start : start + length] = bytes(b ^ 0xFF for b in content[start : start + length])
            return memoryview(content)

        with monkeypatch.context() as context:
            context.setattr(checkpoint, "_image", damaged)
            with suppress(CheckpointError):  # a byte may be one that nothing is stored in
                save_step(path, 1)
                continue
        refused += 1
        assert_holds(path, 1)
    assert_holds(path, 1)
    assert refused > 50
    for broken in (lambda *_: memoryview(b""), lambda *_: image({"meta": np.zeros(2, np.uint8)}, "0" * 64)):
        monkeypatch.setattr(checkpoint, "_image", broken)
        with pytest.raises(CheckpointError, match=r"c\.h5: cannot write .*: it does not read back as written"):
            save_step(path, 2)
        assert_holds(path, 1)


@pytest.mark.parametrize("error", [MemoryError("no memory"), RuntimeError("unable to create"), SystemError("NULL")])
def test_whatever_hdf5_raises_is_one_error(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    save_step(tmp_path / "c.h5", 1)
    for name in ("_image", "_find"):
        with monkeypatch.context() as context:
            context.setattr(checkpoint, name, fail)
            with pytest.raises(CheckpointError, match=rf"c\.h5: cannot write the checkpoint: .*{error}"):
                save_step(tmp_path / "c.h5", 2)
    assert_holds(tmp_path / "c.h5", 1)


def test_a_full_disk(tmp_path):
    save_step(tmp_path / "c.h5", 1)
    limit = "import h5py, resource, numpy as np; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
    done = child(limit + "checkpoint.write(sys.argv[1], {'w': np.zeros(1000)}, {})", tmp_path / "c.h5")
    assert done.stderr.endswith(f"CheckpointError: {tmp_path}/c.h5: cannot write the checkpoint: File too large\n")
    assert done.returncode == 1  # HDF5 left to write the file itself crashes here
    assert_holds(tmp_path / "c.h5", 1)


def test_a_folder_that_cannot_be_synchronised_is_no_failure(tmp_path, monkeypatch):
    fail_at(monkeypatch, "fsync", 2, OSError(errno.EINVAL, "Invalid argument"))
    save_step(tmp_path / "c.h5", 1)


def test_threads_may_write_the_same_path(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda step: save_step(tmp_path / "c.h5", 1), range(60))) == [None] * 60
    assert_holds(tmp_path / "c.h5", 1)


KILLS = """
import os, random, signal, time
import numpy as np
path, rng, last = sys.argv[1], random.Random(2), 0
save = lambda step: checkpoint.write(path, {"w": np.full(1000, float(step))}, {"step": step})
save(last)
for _ in range(15):
    writer = os.fork()  # the imports of a new interpreter would take far longer than the writer lives
    if writer == 0:
        for step in range(last + 1, last + 10_000):
            save(step)
    time.sleep(rng.uniform(0.002, 0.06))
    os.kill(writer, signal.SIGKILL)
    assert os.waitpid(writer, 0)[1] == signal.SIGKILL
    tensors, meta = checkpoint.read(path, lambda meta: {"w": ((1000,), "float64")})
    assert last <= meta["step"] == tensors["w"].min() == tensors["w"].max()
    last = meta["step"]
assert last > 0
"""


def test_kill_leaves_a_whole_file(tmp_path):
    done = child(KILLS, tmp_path / "c.h5")
    assert done.returncode == 0, done.stderr
    save_step(tmp_path / "c.h5", 1)
    assert_holds(tmp_path / "c.h5", 1)
