"""Files of other frameworks that are damaged, or made to do harm."""

import contextlib
import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from beam_rnn import Model, Network, interop
from beam_rnn.errors import BeamRnnError, InteropError
from tests.helpers.mutations import COUNTS, mutated

MODEL = Model(
    network := Network("gru", hidden=4),
    network.initialize(inputs=3, outputs=2, seed=0),
    kernel="numpy",
)
FORMS = {
    ".onnx": (interop.to_onnx, interop.from_onnx),
    ".keras": (interop.to_keras, interop.from_keras),
    ".safetensors": (interop.to_torch, interop.from_torch),
}


@pytest.fixture
def written(tmp_path):
    def write(suffix):
        path = tmp_path / f"model{suffix}"
        FORMS[suffix][0](MODEL, path)
        return path

    return write


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("suffix", FORMS)
def test_a_damaged_file_is_refused(suffix, count, written):
    """Or it is read: other numbers, or names that nobody looks at, leave a model a model."""
    path = written(suffix)
    for data in mutated(path.read_bytes(), count):
        path.write_bytes(data)
        with contextlib.suppress(BeamRnnError):
            assert isinstance(FORMS[suffix][1](path), Model)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_damaged_member_of_a_keras_file_is_refused(member, count, written):
    """Behind the checksum of the archive."""
    path = written(".keras")
    members = members_of(path)
    for data in mutated(members[member], count):
        archive(path, {**members, member: data})
        with contextlib.suppress(BeamRnnError):
            assert isinstance(interop.from_keras(path), Model)


def members_of(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)


BIAS = "layers/gru/cell/vars/2"


def edited_weights(path, edit):
    """A Keras file with its HDF5 file edited."""
    members = members_of(path)
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        edit(file)
    archive(path, {**members, "model.weights.h5": weights.getvalue()})
    return path


def replaced(**how):
    def edit(file):
        del file[BIAS]
        file.create_dataset(BIAS, shape=(2, 12), dtype="<f4", **how)

    return edit


def linked(link):
    def edit(file):
        del file[BIAS]
        file[BIAS] = link

    return edit


def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"s" * 96)
    return path


def virtual(file):
    layout = h5py.VirtualLayout(shape=(2, 12), dtype="<f4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", shape=(2, 12))
    del file[BIAS]
    file.create_virtual_dataset(BIAS, layout)


def never_written(file):
    """A contiguous tensor of 40 GB whose numbers are nowhere: HDF5 reads them as zeros."""
    file.create_dataset("layers/gru/vars/9", shape=(10**10,), dtype="<f4")


def deep(file):
    file.create_group("/".join("abcdefghijklmnopq"))


def a_loop(file):
    file["layers/gru/again"] = file["layers"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (linked(h5py.ExternalLink("private.h5", "/x")), f"'{BIAS}' is a soft or external"),
        (linked(h5py.SoftLink("/layers/dense/vars/0")), f"'{BIAS}' is a soft or external link"),
        (virtual, f"'{BIAS}' is stored in another file, or in chunks"),
        (replaced(compression="gzip", data=np.zeros((2, 12))), f"'{BIAS}' is stored .* in chunks"),
        (never_written, "does not contain the 10000000000 numbers that it declares"),
        (deep, "too many groups and tensors"),
        (a_loop, "too many groups and tensors"),
        (lambda file: file.create_dataset("x", data="text"), "'x' is object: only float32"),
        (lambda file: file.create_dataset("x", data=[1]), "'x' is int64: only float32"),
        (
            lambda file: file.create_dataset("layers/dense_1/vars/0", data=[1.0]),
            r"no layer uses the tensors \['layers/dense_1/vars/0'\]",
        ),
        (
            lambda file: file.__delitem__(BIAS),
            f"layer 'recurrent_0' has no weights at '{BIAS}'",
        ),
    ],
)
def test_weights_of_keras_that_are_not_in_the_file_as_they_are(edit, message, written):
    path = edited_weights(written(".keras"), edit)
    with pytest.raises(InteropError, match=message):
        interop.from_keras(path)


def test_weights_of_keras_in_another_file_are_refused(written, tmp_path):
    edit = replaced(external=[(str(secret(tmp_path)), 0, 96)])
    with pytest.raises(InteropError, match=f"'{BIAS}' is stored in another"):
        interop.from_keras(edited_weights(written(".keras"), edit))


def test_tensors_in_one_place_are_no_more_than_the_file(written):
    """A hard link costs a name, and says that the numbers are there again."""

    def edit(file):
        file["layers/large"] = np.zeros(10_000, np.float32)
        for i in range(9):
            file[f"layers/large_{i}"] = file["layers/large"]

    with pytest.raises(InteropError, match=r"tensors of .* bytes do not fit in a file of"):
        interop.from_keras(edited_weights(written(".keras"), edit))


def test_what_only_training_needs_is_passed_over(written):
    def edit(file):
        file["optimizer/vars/0"] = np.int64(3)
        file["layers/gru/cell/seed_generator/vars/0"] = np.uint32([1, 2])

    assert interop.from_keras(edited_weights(written(".keras"), edit)) == MODEL


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda members: {**members, "../../x": b""}, r"it contains '../../x', Keras writes"),
        (lambda members: {**members, "assets/vocabulary.txt": b""}, "it contains 'assets/vocab"),
        (lambda members: {k: v for k, v in members.items() if k != "config.json"}, "config.json"),
        (lambda members: {**members, "config.json": b"[" * 10**5}, "is not a .keras file"),
        (lambda members: {**members, "config.json": b"[]"}, "class_name=None is not what Keras"),
        (lambda members: {**members, "model.weights.h5": b"x"}, "its weights cannot be read"),
    ],
)
def test_other_members_of_a_keras_file_are_refused(edit, message, written):
    path = written(".keras")
    archive(path, edit(members_of(path)))
    with pytest.raises(InteropError, match=message):
        interop.from_keras(path)


def test_a_compressed_keras_file_is_refused(written):
    """A megabyte of it may be a gigabyte."""
    path = written(".keras")
    archive(path, members_of(path), zipfile.ZIP_DEFLATED)
    with pytest.raises(InteropError, match=r"is compressed, Keras does not compress it"):
        interop.from_keras(path)


@pytest.mark.parametrize("suffix", FORMS)
def test_a_model_that_cannot_be_written_leaves_the_file_that_was_there(
    suffix, written, monkeypatch
):
    path = written(suffix)
    before = path.read_bytes()

    def full(_self, _data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        FORMS[suffix][0](MODEL, path)

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
