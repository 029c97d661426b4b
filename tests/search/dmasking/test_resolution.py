"""Sub-sampling and placing for the resolution search, whatever the ratio."""

import pytest
import torch

from fbnet_zoo.search.dmasking.resolution import SizedRun, at_sizes, place, read


@pytest.mark.parametrize("grid", [1, 2, 7, 8, 15, 32, 112])
def test_reading_what_was_placed_gives_it_back(grid: int) -> None:
    for size in range(1, grid + 1):
        x = torch.randn(1, 2, size, size)
        placed = place(x, grid)
        assert placed.shape == (1, 2, grid, grid)
        assert torch.equal(read(placed, size), x)


@pytest.mark.parametrize(("grid", "size"), [(7, 5), (8, 6), (28, 16), (14, 13), (224, 128)])
def test_pixels_are_where_the_map_says(grid: int, size: int) -> None:
    x = torch.randn(2, 3, grid, grid)
    found = read(x, size)
    for row in range(size):
        for column in range(0, size, 3):
            assert torch.equal(found[:, :, row, column], x[:, :, row * grid // size, column * grid // size])


@pytest.mark.parametrize(("grid", "size"), [(7, 5), (16, 11), (9, 9)])
def test_a_placed_pixel_is_the_last_sample_before_it(grid: int, size: int) -> None:
    starts = [index * grid // size for index in range(size)]
    placed = place(torch.arange(float(size)).expand(1, 1, size, size), grid)[0, 0, 0]
    assert placed.tolist() == [max(i for i in range(size) if starts[i] <= pixel) for pixel in range(grid)]


def test_gradients() -> None:
    x = torch.randn(1, 2, 7, 7, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda images: place(read(images, 5), 9), x)


def test_a_layer_sees_what_it_would_see_in_the_smaller_network() -> None:
    """Its kernel reads neighbours of the smaller image, and pads at its edge."""
    layer, x, weights = (
        torch.nn.Conv2d(2, 3, 3, stride=2, padding=1),
        torch.randn(2, 2, 12, 12),
        torch.tensor([0.3, 0.7]),
    )
    sizes = [
        SizedRun(before=9, after=5, weight=weights[:1]),
        SizedRun(before=12, after=6, weight=weights[1:]),
    ]
    found = at_sizes(lambda images, weight: layer(images) * weight, x, sizes, placed=True)
    at = [0, 1, 2, 4, 5, 6, 8, 9, 10]
    smaller = layer(x[:, :, at][..., at])
    spread = [max(i for i in range(5) if i * 6 // 5 <= pixel) for pixel in range(6)]
    expected = 0.3 * smaller[:, :, spread][..., spread] + 0.7 * layer(x)
    torch.testing.assert_close(found, expected)


def test_indices_serve_training_after_inference() -> None:
    x = torch.randn(1, 1, 13, 13)
    with torch.inference_mode():
        place(read(x, 11), 13)
    x.requires_grad_()
    read(x, 11).sum().backward()
    assert x.grad is not None
    assert x.grad.sum() == 121
