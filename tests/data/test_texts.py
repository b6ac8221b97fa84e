import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pydnn as nn
from pydnn import BadInput
from pydnn.data import Vocabulary, lines, load_data_set, windows
from pydnn.data.texts import read_plain_text


@pytest.fixture
def write(tmp_path):
    def write(content, name="names.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_line_is_an_example_that_starts_with_nothing_and_ends_with_the_end(write):
    data = nn.text(write("Ada\nBo\n"))
    assert data.vocabulary.symbols == ("\n", "A", "B", "a", "d", "o")
    start = data.vocabulary.start
    np.testing.assert_array_equal(data.train.X.T, [[start, 1, 4, 3], [start, 2, 5, 0]])
    np.testing.assert_array_equal(data.train.Y.T, [[1, 4, 3, 0], [2, 5, 0, 0]])
    np.testing.assert_array_equal(data.train.lengths, [4, 3])
    assert data.test.X.shape == data.test.Y.shape == (4, 0)
    assert data.train.X.T.flags.c_contiguous  # each example is
    assert not data.train.X.flags.writeable


@pytest.mark.parametrize(
    "content",
    [
        "ab\nb\n",
        "ab\nb",  # without an end of the last line
        "ab\r\nb\r\n",
        "ab\rb\r",
        "\ufeffab\nb\n",
        "\n\nab \n \n\tb\n\n",
    ],
)
def test_ends_of_lines_blanks_and_byte_order_marks_change_nothing(write, content):
    assert nn.text(write(content)) == nn.text(write("ab\nb\n", "plain.txt"))


@settings(max_examples=15)
@example(["\ufffd", "a"])
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1), min_size=1)
)
def test_whatever_the_letters_the_lines_come_back(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("texts") / "names.txt"
    path.write_bytes("\n".join(names).encode())
    data = nn.text(path)
    again = [
        data.vocabulary.text(ids[:length])
        for ids, length in zip(data.train.Y.T, data.train.lengths, strict=True)
    ]
    assert again == [f"{name}\n" for name in names]
    inputs = [data.vocabulary.text(ids) for ids in data.train.X.T]
    assert [text.rstrip("\n") for text in inputs] == [name.rstrip("\n") for name in names]


def test_lower_case_and_words_are_options(write):
    path = write("The cat, the CAT.\nDon't!\n")
    data = nn.text(path, lines(words=True, lower=True))
    assert data.vocabulary.symbols == (
        "\n", "!", ",", ".", "cat", "don't", "the", "\ufffd"
    )  # fmt: skip
    assert data.vocabulary.text(data.train.Y[:, 0]) == "the cat, the cat.\n"
    assert data.vocabulary.words


def test_the_rarest_symbols_become_the_unknown_one(write):
    data = nn.text(write("aaabbc\nd\n"), lines(vocabulary=4))
    assert data.vocabulary.symbols == ("\n", "a", "b", "\ufffd")
    assert data.vocabulary.text(data.train.Y[:, 1]) == "\ufffd\n" + "\n" * 5
    whole = nn.text(write("aaabbc\nd\n"), lines(vocabulary=5))
    assert whole.vocabulary.symbols == ("\n", "a", "b", "c", "d")


def test_a_test_share_of_lines_is_drawn_and_a_file_is_read_with_the_same_symbols(write):
    names = [f"{'abcdefghij'[i % 10] * (1 + i // 10)}" for i in range(50)]
    path = write("\n".join(names))
    data = nn.text(path, test=0.2)
    assert data.train.X.shape == (6, 40)
    assert data.test.X.shape == (6, 10)
    both = np.hstack([data.train.Y, data.test.Y])
    assert sorted(data.vocabulary.text(ids).strip() for ids in both.T) == sorted(names)
    assert data == nn.text(path, test=0.2)  # the draw is part of the data
    longer = nn.text(path, test=write("abcabcabc\n", "more.txt"))
    assert longer.train.X.shape == (10, 50)
    assert longer.test.X.shape == (10, 1)
    assert longer.vocabulary == nn.text(path).vocabulary


def test_windows_of_streams_continue_from_batch_to_batch(write):
    text = "".join(chr(97 + i % 26) for i in range(103))
    data = nn.text(write(text), windows(5, streams=3))
    batching = nn.mini_batches(3, shuffle=False)
    batches = [batching.at(data.train, nn.Key(1), k) for k in range(data.train.X.shape[1] // 3)]
    for stream in range(3):
        inputs = "".join(data.vocabulary.text(batch.X[:, stream]) for batch in batches)
        targets = "".join(data.vocabulary.text(batch.Y[:, stream]) for batch in batches)
        assert inputs in text
        assert inputs[1:] == targets[:-1]
        assert len(inputs) == 30
    assert data.train.lengths is None
    assert not data.vocabulary.lines


def test_a_test_share_of_windows_is_the_end_of_each_stream(write):
    data = nn.text(write("abcdefghijklmnopqrstuvwxy"), windows(2, streams=2), test=0.3)
    text = data.vocabulary.text
    assert [text(ids) for ids in data.train.X.T] == ["ab", "mn", "cd", "op", "ef", "qr", "gh", "st"]
    assert [text(ids) for ids in data.test.X.T] == ["ij", "uv", "kl", "wx"]


def test_a_text_is_saved_with_its_symbols(write, tmp_path):
    data = nn.text(write("häß\n鸟\n"), test=0.5)
    nn.data.save_table(tmp_path / "saved.h5", data)
    assert load_data_set(tmp_path / "saved.h5") == data


def test_a_file_called_txt_is_a_text_unless_it_has_a_target(write):
    path = write("size\tprice\n1\t2\n2\t4\n")
    assert load_data_set(path).vocabulary is not None
    assert load_data_set(path, target="price").vocabulary is None
    assert load_data_set(path, dtype=np.float32).train.X.dtype == np.float32
    other = write("ab\nb\n", "names.list")
    assert load_data_set(other, text=windows(2)).train.X.shape == (2, 2)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "names.txt is empty, expected a text: "),
        ("\n \r\n\n", "names.txt has only empty lines, expected a text: "),
        (b"ab\n\xff\n", r"names.txt is not UTF-8 \(byte 0xff in line 2\), expected it: "),
        ("ab".encode("utf-16"), "names.txt is UTF-16, expected UTF-8: "),
        (b"a\0b", "names.txt is not text, expected UTF-8: "),
        ("b\n" + "a" * 1001, r"names.txt: the line 'a{40}' has 1,001 letters, expected at most 1,"),
    ],
)
def test_a_text_that_cannot_be_read_gets_one_line(write, content, problem):
    with pytest.raises(BadInput, match=problem):
        nn.text(write(content))


def test_options_and_parts_that_do_not_fit_are_refused(write, tmp_path):
    path = write("abc\nb\n")
    with pytest.raises(BadInput, match=r"more.txt: the letter 'x' is not one of the 4 symbols"):
        nn.text(path, test=write("ax\n", "more.txt"))
    with pytest.raises(BadInput, match=r"the text has 6 symbols, expected at least 9 for 2 stream"):
        nn.text(path, windows(4, streams=2))
    with pytest.raises(BadInput, match=r"has 1 examples, expected 2 or more, of which some"):
        nn.text(write("abc\n", "one.txt"), test=0.5)
    with pytest.raises(BadInput, match=r"^test is 1\.5, expected a number below 1"):
        nn.text(path, test=1.5)
    with pytest.raises(BadInput, match=r"^size is 0, expected an integer of at least 1"):
        windows(0)
    with pytest.raises(BadInput, match=r"^vocabulary is 1, expected an integer of at least 2"):
        lines(vocabulary=1)
    with pytest.raises(BadInput, match=r"^target is \('x',\), but .* is read as a text"):
        load_data_set(path, text=lines(), target="x")
    with pytest.raises(BadInput, match=r"^text is lines\(\), but drawn-cats is not the file of a"):
        load_data_set("drawn-cats", text=lines())
    with pytest.raises(BadInput, match="does not exist"):
        nn.text(tmp_path / "none.txt")
    with pytest.raises(BadInput, match="is a directory"):
        nn.text(tmp_path)


def test_a_text_larger_than_memory_is_refused_before_it_is_read(write, monkeypatch):
    path = write("ab\n" * 1000)
    monkeypatch.setattr("pydnn.data.texts.free_memory", lambda: 100_000)
    with pytest.raises(BadInput, match=r"names.txt has 2.9 KiB, and its symbols as numbers take"):
        nn.text(path)
    short = write("a\n" * 1000 + "b" * 500, "short.txt")
    monkeypatch.setattr("pydnn.data.texts.free_memory", lambda: 1_000_000)
    with pytest.raises(BadInput, match=r"1,001 lines of up to 501 symbols take 19.1 MiB, but"):
        nn.text(short)


@pytest.mark.parametrize(
    "symbols", [["a", "\n"], ["\n", "a", "a"], ["\n"], ["\n", ""], ["\n", 3], ["\n", "a" * 201]]
)
def test_a_vocabulary_has_distinct_symbols_after_the_end_of_a_line(symbols):
    with pytest.raises(BadInput, match=r"^a vocabulary has .*symbols"):
        Vocabulary(symbols)


def test_numbers_outside_a_vocabulary_are_refused():
    with pytest.raises(BadInput, match="there is no symbol 4, expected 0 to 2"):
        Vocabulary(["\n", "a"]).text([4])


def test_a_large_text_is_read_in_order(write):
    text = "".join(chr(97 + (i * i) % 26) for i in range(50_000)) + "\n"
    path = write(text)
    assert read_plain_text(path) == text
    data = nn.text(path, windows(100))
    assert "".join(data.vocabulary.text(ids) for ids in data.train.X.T) == text[:-1]
