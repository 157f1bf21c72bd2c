"""Which labels a split keeps."""

import numpy as np
import pytest

from aaecore.evaluation import label_split


@pytest.fixture
def y():
    """Labels of 500 rows: three rare to frequent classes, and rows without one."""
    return np.random.default_rng(0).choice([-1, 0, 4, 9], 500, p=[0.2, 0.1, 0.3, 0.4])


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("count", [3, 30, 31, 32, 100])
def test_labels_are_spread_evenly(y, count, seed):
    split = label_split(y, count, seed)
    assert split.shape == y.shape
    assert split.dtype == np.int64
    kept = split != -1
    assert np.array_equal(split[kept], y[kept])
    counts = [int((split == label).sum()) for label in (0, 4, 9)]
    assert sum(counts) == count
    assert max(counts) - min(counts) <= 1


def test_the_seed_chooses_rows_and_who_has_one_more(y):
    made = [label_split(y, 31, seed) for seed in range(20)]
    assert np.array_equal(made[3], label_split(y, 31, 3))
    assert len({m.tobytes() for m in made}) == 20
    extra = {max((0, 4, 9), key=lambda label: (m == label).sum()) for m in made}
    assert extra == {0, 4, 9}


def test_more_labels_keep_the_rows_of_fewer(y):
    few, many = label_split(y, 30, 5), label_split(y, 60, 5)
    assert np.array_equal(many[few != -1], few[few != -1])


def test_names_are_chosen_as_their_numbers_are(y):
    names = np.array(["zero", "four", "nine", ""])
    words = names[np.array([{0: 0, 4: 1, 9: 2, -1: 3}[label] for label in y.tolist()])]
    split = label_split(words.tolist(), 30, 1)
    assert split.dtype.kind == "U"
    assert [(split == name).sum() for name in names] == [10, 10, 10, 470]
    assert np.array_equal(split[split != ""], words[split != ""])


def test_the_split_is_pinned():
    """Experiments of different days compare by it: of each class the rows with the smallest words of Philox."""
    words = np.random.Philox(key=np.array([3, 0], np.uint64)).random_raw(40)
    expected = [row for c in range(4) for row in sorted(range(c, 40, 4), key=lambda i: words[i])[:2]]
    assert np.flatnonzero(label_split(np.arange(40) % 4, 8, 3) >= 0).tolist() == sorted(expected)


@pytest.mark.parametrize(
    ("y", "count", "seed", "message"),
    [
        ([0, 1, 2, 0], 2, 0, "^count: expected an integer >= 3, the different labels of y, got 2$"),
        ([0, 1], 2.0, 0, "^count: expected an integer >= 2, the different labels of y, got 2.0$"),
        ([0, 1, 1, 1], 4, 0, "^y: expected 2 rows or more of every label, got 1 of 0$"),
        (["a", "b", "b", None], 4, 0, "^y: expected 2 rows or more of every label, got 1 of 'a'$"),
        ([-1, -1], 1, 0, "^y: expected a label for at least one row, got none$"),
        ([], 1, 0, "^y: expected a label for at least one row, got none$"),
        ([0.5, 1], 1, 0, "^y: expected whole numbers within int64, -1 for no label; 1 of 2 are not"),
        ([0, 1], 2, -1, "^seed: expected an integer from 0"),
    ],
)
def test_splits_that_cannot_be(y, count, seed, message):
    with pytest.raises(ValueError, match=message):
        label_split(y, count, seed)
