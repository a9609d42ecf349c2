"""What the pictures and films show: the numbers behind their lines, points, bars and images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

import common
import images
import multiples_of_five_gan
import wgan
from common import GENERATED, REAL, Evaluation

HISTORY = [Evaluation(i + 1, 0.7 - 0.1 * i, 0.6 + 0.1 * i, 0.5**i) for i in range(3)]


def points_of(dots):
    """The points (n, 2) of a scatter plot."""
    return torch.from_numpy(np.asarray(dots.get_offsets())).float()


def lines_of(axis):
    """Label: (x, y) of the lines."""
    return {line.get_label(): tuple(map(list, line.get_data())) for line in axis.lines}


def bars_of(axis):
    """Heights of the bars, by colour; of an outline, those of its steps."""
    return [[bar.get_height() for bar in bars] for bars in axis.containers]


def axis_of(figure, *, ylabel="", title=""):
    """The one with this label and the title."""
    (axis,) = (
        axis
        for axis in figure.axes
        if ylabel in axis.get_ylabel() and axis.get_title().startswith(title)
        if ylabel or title
    )
    return axis


def assert_history_is_shown(figure, kept=None):
    losses, distances = (lines_of(axis_of(figure, ylabel=name)) for name in ("loss", "distance"))
    epochs, d_losses, g_losses, measured = map(list, zip(*HISTORY, strict=True))
    assert losses["discriminator"] == (epochs, d_losses)
    assert losses["generator"] == (epochs, g_losses)
    assert (epochs, measured) in distances.values()
    if kept:
        assert distances["kept"][0] == [kept, kept]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_points_are_drawn_where_they_are(columns):
    real, generated = torch.rand(40, columns), torch.rand(30, columns)
    figure = common.plot_points(real, generated, HISTORY, 2)
    assert_history_is_shown(figure, kept=2)
    for name, points in (("real", real), ("generated", generated)):
        axis = axis_of(figure, title=f"{name}: {len(points)} points")
        (dots,) = axis.collections
        shown = torch.nn.functional.pad(points, (0, 1))[:, :2]
        assert torch.allclose(points_of(dots), shown)
        left, right, bottom, top = axis.axis()
        inside = (shown >= torch.tensor([left, bottom])) & (shown <= torch.tensor([right, top]))
        assert inside.float().mean() > 0.9


def test_histograms_add_up_to_all_points():
    real = torch.linspace(0, 1, 40).unsqueeze(1).repeat(1, 2)
    figure = common.plot_points(real, real.square(), HISTORY)
    for part in "xy":
        (axis,) = (axis for axis in figure.axes if axis.get_xlabel() == part and axis.patches)
        *bars, outline = axis.patches
        assert sum(bar.get_height() for bar in bars) == pytest.approx(100)
        heights = outline.get_xy()[1::2, 1]
        assert heights[:20].sum() > 2 * heights[20:].sum() > 0  # of squares, most are below 0.5


def test_a_path_is_drawn_over_the_points():
    points, path = torch.rand(30, 2), torch.rand(5, 2)
    axis = common.plot_interpolation(points, path, y="why").axes[0]
    below, above = axis.collections
    assert torch.allclose(points_of(below), points)
    assert torch.allclose(points_of(above), path)
    assert above.get_array().tolist() == [1, 2, 3, 4, 5]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("x", "why")


def test_shares_are_bars():
    figure, axes = common.plot_history(HISTORY, [["integer"] * 3])
    common.plot_frequencies(axes["integer"], torch.tensor([0, 0, 2, 2]), torch.tensor([0, 1]))
    assert bars_of(axes["integer"]) == [[50, 0, 50], [50, 50]]
    assert_history_is_shown(figure)


def test_the_walk_of_integers_starts_where_it_starts():
    rows = common.one_hot_encode(torch.tensor([3, 3, 4]), 6)
    due = [[0, 0], [1, 0], [2, 0], [3, 200 / 3], [4, 100 / 3], [5, 0]]
    assert torch.allclose(multiples_of_five_gan.shares(rows), torch.tensor(due))


def test_the_estimate_of_the_critic_is_beside_the_distance():
    lines = lines_of(wgan.plot_estimate(HISTORY).axes[0])
    assert lines["measured"] == ([1, 2, 3], [row.distance for row in HISTORY])
    assert lines["by the critic"] == ([1, 2, 3], [-row.discriminator_loss for row in HISTORY])


def training(samples):
    """What the pictures of images take of a training."""
    return SimpleNamespace(history=HISTORY, samples=samples, kept_epoch=3)


def tile(picture, row, column):
    """The image at a place in a grid."""
    return torch.from_numpy(picture)[28 * row :, 28 * column :][:28, :28].flatten()


def shown_in(axis):
    """The numbers of the one image that an axis shows."""
    (image,) = axis.images
    return np.asarray(image.get_array())


def test_images_stand_row_by_row():
    real, generated = torch.rand(70, 784), torch.rand(80, 784)
    labels, classes = torch.arange(70) % 10, torch.arange(80) % 5
    figure = images.plot_images(training(generated), real, labels, classes)
    assert_history_is_shown(figure, kept=3)
    for name, rows in (("real", real), ("generated", generated)):
        picture = shown_in(axis_of(figure, title=name))
        assert picture.shape == (224, 224)
        assert torch.equal(tile(picture, 0, 1), rows[1])
        assert torch.equal(tile(picture, 7, 7), rows[63])
    (classes_axis,) = (axis for axis in figure.axes if axis.get_xlabel() == "class")
    assert bars_of(classes_axis) == [pytest.approx([10] * 10), pytest.approx([20] * 5)]


def test_rows_and_strips_of_images():
    rows = torch.rand(6, 784)
    figure = images.plot_image_rows(training(rows), rows, 3, ["a", "b"])
    assert_history_is_shown(figure, kept=3)
    axis = next(axis for axis in figure.axes if axis.images)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    for picture in (shown_in(axis), shown_in(images.plot_interpolations(rows, 3).axes[0])):
        assert torch.equal(tile(picture, 1, 2), rows[5])


def test_predictions_are_named_and_counted():
    rows, labels, predicted = torch.rand(30, 784), torch.arange(30) % 2, torch.zeros(30).int()
    shares = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    names = ("training_loss", "validation_loss", "validation_accuracy")
    history = [
        SimpleNamespace(**dict(zip(names, row, strict=True))) for row in ((1, 2, 0), (0, 1, 1))
    ]
    of = SimpleNamespace(history=history, kept_epoch=1)
    figure = images.plot_predictions(of, rows, labels, predicted, shares, ["shirt", "shoe"])
    titles = [axis.get_title() for axis in figure.axes][:25]
    assert titles[:2] == ["shirt", "shirt\n(is shoe)"]
    assert np.array_equal(shown_in(figure.axes[1]), rows[1].view(28, 28))
    confusion = axis_of(figure, title="% of each category")
    assert np.array_equal(shown_in(confusion), shares)
    assert {text.get_text() for text in confusion.texts} == {"100", "25", "75"}
    loss, accuracy = (lines_of(axis_of(figure, ylabel=name)) for name in ("loss", "accuracy"))
    assert loss["training"] == ([1, 2], [1, 0])
    assert loss["validation"] == ([1, 2], [2, 1])
    assert accuracy["validation"] == ([1, 2], [0, 1])


@pytest.fixture
def frames(monkeypatch):
    """The title, the points and the images of each frame that is drawn."""
    found = []
    draw = FigureCanvasAgg.draw

    def look(canvas):
        axis = canvas.figure.axes[0]
        dots = [points_of(each) for each in axis.collections]
        found.append((axis.get_title(), dots, [np.array(each.get_array()) for each in axis.images]))
        draw(canvas)

    monkeypatch.setattr(FigureCanvasAgg, "draw", look)
    return found


def test_the_film_of_points_goes_from_the_first_to_the_last(frames):
    real = torch.rand(40, 2)
    samples, opinions = torch.rand(3, 30, 2), torch.rand(3, common.GRID_SIDE**2, 1)
    film = dict(enumerate(zip(HISTORY, samples, opinions, strict=True)))
    common.animate_points(real, film)
    for i in (0, -1):
        title, (still, moving), (background,) = frames[i]
        assert title == f"epoch {HISTORY[i].epoch}, distance {HISTORY[i].distance:.3f}"
        assert torch.allclose(still, real)
        assert torch.allclose(moving, samples[i])
        assert np.allclose(background.flatten(), opinions[i].flatten())


def test_the_film_of_images_goes_from_the_first_to_the_last(frames):
    samples = torch.rand(3, 64, 784)
    images.animate_images(dict(enumerate(zip(HISTORY, samples, strict=True))))
    for i in (0, -1):
        title, _, (grid,) = frames[i]
        assert title.startswith(f"epoch {HISTORY[i].epoch},")
        assert torch.equal(tile(grid, 7, 7), samples[i][63])


def test_real_and_generated_differ_in_black_and_white():
    def lightness(colour):
        return sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) / 3

    assert abs(lightness(REAL) - lightness(GENERATED)) > 60
