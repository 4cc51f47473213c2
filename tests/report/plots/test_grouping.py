"""Maps and graphs of many classes: every count in its place, and no label on another."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib", reason="plots are an extra")
from matplotlib.collections import LineCollection, PathCollection

from relaxcert.errors import InvalidInput
from relaxcert.report import plots

CHAIN = [[3, 1], [1, 0], [0, 2], [2, 4]]


def counts(seed: int, classes: int, density: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, 50, (classes, classes), generator=generator).triu(1)
    kept = torch.rand(classes, classes, generator=generator) < density
    upper = drawn * kept
    return upper + upper.T + torch.diag(torch.randint(0, 90, (classes,), generator=generator))


def many_names(classes: int) -> list[str]:
    return [
        f"class number {i}" if i % 3 else f"a rather long name {i} of it" for i in range(classes)
    ]


@given(st.integers(0, 50), st.integers(1, 12))
def test_an_order_holds_each_class_once(seed, classes):
    assert sorted(plots.class_order(counts(seed, classes))) == list(range(classes))


@given(st.permutations(range(12)))
def test_members_of_a_partition_stand_side_by_side(labels):
    sets = [labels[:5], labels[5:8], labels[8:11], labels[11:]]
    order = plots.class_order(counts(1, 12), sets)
    places = [sorted(order.index(label) for label in members) for members in sets]
    assert all(run[-1] - run[0] == len(run) - 1 for run in places)


def test_a_chain_of_pairs_is_laid_out_as_a_chain():
    order = plots.class_order(torch.zeros(5, 5, dtype=torch.int64), CHAIN)
    assert order in ([3, 1, 0, 2, 4], [4, 2, 0, 1, 3])


def test_without_counts_or_sets_the_order_is_the_natural_one():
    assert plots.class_order(torch.zeros(8, 8, dtype=torch.int64)) in (
        list(range(8)),
        list(range(8))[::-1],
    )


@settings(max_examples=8)
@given(st.integers(0, 20), st.permutations(range(6)))
def test_reordered_maps_keep_each_count_with_its_pair(seed, order):
    together = counts(seed, 6)
    names = list("abcdef")
    ax = plots.grouping_map(together, names, order=order)
    columns = [label.get_text() for label in ax.get_xticklabels()]
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert columns == rows == [names[label] for label in order]
    shown = torch.zeros(6, 6, dtype=torch.int64)
    for text in ax.texts:
        column, row = text.get_position()
        shown[names.index(rows[row]), names.index(columns[column])] = int(text.get_text())
    assert shown.tolist() == together.tolist()


def test_the_outline_runs_around_the_pairs_that_may_be_grouped():
    ax = plots.grouping_map(torch.zeros(5, 5, dtype=torch.int64), list("abcde"), sets=CHAIN,
                            order=[3, 1, 0, 2, 4])  # fmt: skip
    (outline,) = (drawn for drawn in ax.collections if isinstance(drawn, LineCollection))
    edges = {frozenset(map(tuple, (2 * np.array(line)).astype(int).tolist())) for line in
             outline.get_segments()}  # fmt: skip
    expected = set()
    for row in range(5):
        for column in range(5):
            if abs(row - column) <= 1:
                corners = [(2 * column + dx, 2 * row + dy) for dx, dy in
                           ((-1, -1), (1, -1), (1, 1), (-1, 1))]  # fmt: skip
                sides = zip(corners, [*corners[1:], corners[0]], strict=True)
                # An edge between two cells that are both allowed is drawn by neither.
                expected ^= {frozenset(side) for side in sides}
    assert edges == expected


def boxes(ax, labels):
    renderer = ax.figure.canvas.get_renderer()
    return [label.get_window_extent(renderer) for label in labels if label.get_text()]


@pytest.mark.parametrize("classes", [6, 26, 100])
def test_labels_of_a_map_do_not_overlap(classes):
    ax = plots.grouping_map(counts(0, classes), many_names(classes), title="Together")
    ax.figure.canvas.draw()
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert len(labels) == classes
        assert not any(a.overlaps(b) for a, b in combinations(boxes(ax, labels), 2))
    if classes <= 26:
        cell = ax.transData.transform([(0, 0), (1, 1)])
        widest = max(box.width for box in boxes(ax, ax.texts))
        assert widest < abs(cell[1][0] - cell[0][0])


@pytest.mark.parametrize("classes", [26, 100])
def test_labels_of_a_graph_are_further_apart_than_they_are_high(classes):
    ax = plots.grouping_graph(counts(0, classes, 0.05), many_names(classes), title="Together")
    ax.figure.canvas.draw()
    anchors = ax.transData.transform([text.get_position() for text in ax.texts])
    height = ax.texts[0].get_fontsize() * ax.figure.dpi / 72
    assert len(anchors) == classes
    gaps = [float(np.linalg.norm(a - b)) for a, b in combinations(anchors, 2)]
    assert min(gaps) > 1.2 * height


@pytest.mark.parametrize("classes", [6, 26, 100])
def test_labels_of_a_graph_stay_inside_the_picture(classes):
    ax = plots.grouping_graph(counts(0, classes, 0.05), many_names(classes), title="Together")
    ax.figure.canvas.draw()
    whole = ax.figure.bbox
    for box in boxes(ax, ax.texts):
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert whole.y0 <= box.y0
        assert box.y1 <= whole.y1


def widths_of(ax):
    (edges,) = (
        drawn for drawn in ax.collections if isinstance(drawn, PathCollection) and
        len(drawn.get_paths()) and len(drawn.get_paths()[0].vertices) == 3
    )  # fmt: skip
    return {
        tuple(np.round([*path.vertices[0], *path.vertices[2]], 6)): width
        for path, width in zip(edges.get_paths(), edges.get_linewidths(), strict=True)
    }


def test_edges_are_as_wide_as_pairs_are_frequent():
    together = torch.zeros(4, 4, dtype=torch.int64)
    together[0, 1] = together[1, 0] = 10
    together[1, 3] = together[3, 1] = 5
    ax = plots.grouping_graph(together, list("abcd"), order=[0, 1, 2, 3])
    found = widths_of(ax)
    assert len(found) == 2
    top, right, left = (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0)
    wide, narrow = found[(*top, *right)], found[(*right, *left)]
    assert wide == pytest.approx(7.0)
    assert narrow == pytest.approx(0.4 + 6.6 / 2)


def test_of_very_many_pairs_the_most_frequent_are_drawn_and_the_title_says_so():
    together = counts(3, 40, 1.0)
    ax = plots.grouping_graph(together, many_names(40), title="Together")
    assert len(widths_of(ax)) == 400
    assert ax.get_title() == "Together\nthe 400 most frequent of 780 pairs"


def test_names_and_orders_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInput, match="3 names for 4 classes"):
        plots.grouping_map(counts(0, 4), list("abc"))
    with pytest.raises(InvalidInput, match="3 names for 4 classes"):
        plots.grouping_graph(counts(0, 4), list("abc"))
    with pytest.raises(InvalidInput, match="order="):
        plots.grouping_map(counts(0, 4), list("abcd"), order=[0, 1, 2, 2])
