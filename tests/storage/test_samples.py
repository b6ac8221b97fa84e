import os

import attrs
import numpy as np
import pytest

from pydnn import BadInput
from pydnn.storage.mapped import StoredArray
from pydnn.storage.samples import Sample, expect_same, sample_of

SIZE = 5 << 20  # bytes, more than a sample reads


def table(path, change=None, size=SIZE):
    content = np.arange(size, dtype=np.uint32).astype(np.uint8)
    if change is not None:
        content[change] ^= 1
    content.tofile(path)
    os.utime(path, ns=(7_500_000_000, 7_500_000_000))
    return StoredArray(path, 0, (size // 4, 4), np.uint8)


@pytest.mark.parametrize("change", [0, SIZE // 63 * 20, SIZE - 1])
def test_other_content_in_a_block_is_refused(tmp_path, change):
    with pytest.raises(BadInput, match=r"b\.bin has another content here.*copy it with its time"):
        expect_same(table(tmp_path / "b.bin", change), sample_of(table(tmp_path / "a.bin")))


def test_a_copy_with_its_time_is_the_same_file_even_if_only_seconds_are_kept(tmp_path):
    theirs = sample_of(table(tmp_path / "a.bin"))
    copy = table(tmp_path / "b.bin")
    expect_same(copy, theirs)
    os.utime(copy.path, ns=(7_000_000_000, 7_000_000_000))
    expect_same(copy, theirs)


def test_another_time_is_refused_because_blocks_are_not_the_whole_table(tmp_path):
    theirs, copy = sample_of(table(tmp_path / "a.bin")), table(tmp_path / "b.bin")
    os.utime(copy.path, ns=(9_500_000_000, 9_500_000_000))
    with pytest.raises(BadInput, match="another time of change"):
        expect_same(copy, theirs)


def test_another_size_and_a_missing_file_are_refused(tmp_path):
    theirs, longer = sample_of(table(tmp_path / "a.bin")), table(tmp_path / "b.bin")
    with longer.path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(BadInput, match="another size"):
        expect_same(longer, theirs)
    with pytest.raises(BadInput, match=r"c\.bin does not exist here"):
        expect_same(attrs.evolve(longer, path=tmp_path / "c.bin"), theirs)


def test_a_table_that_is_read_whole_needs_no_time(tmp_path):
    theirs, copy = sample_of(table(tmp_path / "a.bin", size=80)), table(tmp_path / "b.bin", size=80)
    os.utime(copy.path)
    expect_same(copy, theirs)
    with pytest.raises(BadInput, match="another content"):
        expect_same(table(tmp_path / "c.bin", change=3, size=80), theirs)
    assert sample_of(StoredArray(copy.path, 0, (0, 4), np.uint8)).size == 0


def test_a_sample_crosses_as_json(tmp_path):
    sample = sample_of(table(tmp_path / "a.bin"))
    assert Sample(*sample.plain) == sample
