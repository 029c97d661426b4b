"""The drawn network and its costs, against the rows of the definition."""

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from fbnet_zoo import planner
from fbnet_zoo.complexity import cost
from fbnet_zoo.registry import get_spec, list_models
from fbnet_zoo.report import costs
from fbnet_zoo.report.architecture import Group, draw
from fbnet_zoo.report.blocks import Block, blocks
from fbnet_zoo.spec import ArchSpec, BlockSpec


def blocks_of(spec: ArchSpec, size: int | None = None) -> tuple[Block, ...]:
    return tuple(blocks(spec, cost(spec, size)))


def rows_of(spec: ArchSpec) -> list[tuple[int, BlockSpec]]:
    """Return input channels and row of every block of the stages, repeats written out."""
    found, channels = [], spec.stem.out_channels
    for row in (row for stage in spec.stages for row in stage.blocks):
        for at in range(row.repeats):
            found.append((channels, row if at == 0 else row.model_copy(update={"stride": 1})))
            channels = row.out_channels
    return found


def cells_of(groups: tuple[Group, ...]) -> list[ET.Element]:
    return [ET.fromstring(cell) for group in groups for cell in group.cells]


def count(cell: ET.Element, class_: str) -> int:
    return sum(class_ in found.get("class", "").split() for found in cell.iter())


@pytest.mark.parametrize("name", list_models())
def test_every_block_of_every_network_is_drawn(name: str) -> None:
    spec = get_spec(name)
    found, rows = blocks_of(spec), rows_of(spec)
    inside = found[1:-2]
    assert [block.channels for block in inside] == [row.out_channels for _, row in rows]
    assert [block.stride for block in inside] == [row.stride for _, row in rows]
    assert [block.se for block in inside] == [row.se_ratio > 0 for _, row in rows]
    assert [block.part for block in (found[0], *found[-2:])] == ["stem", "head", "classifier"]
    assert sum(block.macs for block in found) == cost(spec).macs
    assert sum(block.params for block in found) == cost(spec).params
    assert sum(block.macs_share for block in found) == pytest.approx(1)


@pytest.mark.parametrize("name", ["fbnet_b", "fbnetv3_g", "mobilenet_v2", "mobilenet_v3_small"])
def test_marks_follow_the_rows(name: str) -> None:
    spec = get_spec(name)
    cells, rows = cells_of(draw(blocks_of(spec))), rows_of(spec)
    residual = [
        row.stride == 1 and channels == row.out_channels and planner.resolve(spec, row).op == "ir"
        for channels, row in rows
    ]
    assert [count(cell, "arc") for cell in cells[1:-2]] == [int(adds) for adds in residual]
    assert [count(cell, "badge") for cell in cells[1:-2]] == [int(row.se_ratio > 0) for _, row in rows]
    assert [count(cell, "stride") for cell in cells[1:-2]] == [int(row.stride > 1) for _, row in rows]


def test_groups_are_the_stages_with_their_sizes() -> None:
    groups = draw(blocks_of(get_spec("fbnet_b"), 224))
    sizes = [(group.title, group.size) for group in groups]
    assert sizes[:4] == [("Stem", 112), ("Stage 2", 112), ("Stage 4", 56), ("Stage 8", 28)]
    assert sizes[4:] == [("Stage 16", 14), ("Stage 32", 7), ("Head", 7), ("Classifier", 1)]
    assert sum(group.macs_share for group in groups) == pytest.approx(1)


def test_cells_say_kernel_expansion_and_channels() -> None:
    cells = cells_of(draw(blocks_of(get_spec("fbnet_b"))))
    words = [[text.text for text in cell.iter("text")] for cell in cells]
    times = "\N{MULTIPLICATION SIGN}"
    assert words[0][1:3] == [f"3{times}3 conv", "16 ch"]
    assert words[2][:3] == ["÷2", f"3{times}3 e6", "24 ch"]
    assert ["skip", "64 ch", "0.0 %"] in words


def corners(polygon: ET.Element) -> tuple[float, float]:
    """Return the height of the left and of the right side."""
    points = [tuple(float(number) for number in point.split(",")) for point in polygon.get("points", "").split()]
    return points[3][1] - points[0][1], points[2][1] - points[1][1]


def test_shapes_are_as_tall_as_the_root_of_their_channels() -> None:
    groups = draw(blocks_of(get_spec("fbnet_b")))
    expand, depthwise, project = (corners(shape) for shape in cells_of(groups)[2].iter("polygon"))  # 16 -> 96 -> 24
    ratio = expand[1] / expand[0]
    assert ratio == pytest.approx(math.sqrt(6), rel=0.03)
    assert depthwise == pytest.approx((expand[1], expand[1]), abs=0.2)
    assert project[0] / project[1] == pytest.approx(math.sqrt(96 / 24), rel=0.03)


@pytest.mark.parametrize("name", ["fbnet_b", "fbnetv3_g", "fbnet_c_2019", "chamnet_a"])
def test_shapes_stay_in_their_cell_one_after_the_other(name: str) -> None:
    for cell in cells_of(draw(blocks_of(get_spec(name)))):
        width = float(cell.get("width", ""))
        edges = [
            [float(point.split(",")[0]) for point in shape.get("points", "").split()] for shape in cell.iter("polygon")
        ]
        assert all(0 < min(xs) < max(xs) < width for xs in edges)
        assert all(max(before) == pytest.approx(min(after)) for before, after in pairwise(edges))


def test_every_kind_of_block_has_words(tiny_spec: ArchSpec) -> None:
    titles = [block.title for block in blocks_of(tiny_spec)]
    for said in ("2 groups, shuffled", "skip,", "full 3", "squeeze-excite with", "global average pooling", "residual"):
        assert any(said in title for title in titles), said
    assert blocks_of(tiny_spec)[-1].heading == "linear"


def test_costs_add_up_to_the_whole(tiny_spec: ArchSpec) -> None:
    spent = cost(tiny_spec)
    table = costs.table(blocks_of(tiny_spec), spent)
    assert [row[0] for row in table.rows] == ["Stem", "Stage 4", "Stage 8", "Stage 16", "Head", "Classifier"]
    assert table.total is not None
    for column, whole in ((3, spent.params), (4, spent.macs)):
        exact = [int(row[column].partition('title="')[2].partition('"')[0].replace(",", "")) for row in table.rows]
        assert sum(exact) == whole
        assert f'title="{whole:,}"' in table.total[column]
