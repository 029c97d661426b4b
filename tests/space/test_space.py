"""Search spaces: how many networks, there and back, what they are made of, and that they can be built."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fbnet_zoo
from fbnet_zoo import arch_file
from fbnet_zoo.errors import InputError, UnknownNameError
from fbnet_zoo.layers import walk_blocks
from fbnet_zoo.model import FBNet
from fbnet_zoo.planner import plan
from fbnet_zoo.plans import IdentityPlan
from fbnet_zoo.space import Choices, LayerChoice, Space, list_spaces, load_space
from fbnet_zoo.space.files import parse
from fbnet_zoo.spec import ArchSpec
from tests.helpers.paths import ROOT
from tests.helpers.space_texts import SMALL, SMALL_SIZE, every_point, network

NAMES = [
    *(
        "accel_nasbench",
        "chamnet",
        "digits_masking",
        "digits_tiny",
        "fbnet",
        "fbnet_96_035",
        "fbnet_cifar",
        "fbnet_cifar_small",
    ),
    *("fbnetv2_f", "fbnetv3"),
]
SPACES = pytest.mark.parametrize("space", [load_space(name) for name in NAMES], ids=NAMES)
COST_ONLY = {"accel_nasbench", "chamnet", "fbnet", "fbnetv2_f", "fbnetv3"}
"""Spaces of large images, whose networks run on the meta device only."""

PUBLISHED = {
    **dict.fromkeys(["fbnet_a_2019", "fbnet_samsung_s8", "fbnet_iphone_x"], ("fbnet", None)),
    "fbnet_a": ("fbnet", "mobile_vision"),
    **dict.fromkeys(["fbnet_b", "fbnet_c"], ("fbnet", "mobile_vision_wide_head")),
    "fbnetc_100": ("fbnet", "wide_head"),
    "fbnet_96": ("fbnet_96_035", "mobile_vision"),
    "fbnet_96_2019": ("fbnet_96_035", "release_2019"),
    **{f"chamnet_{letter}": ("chamnet", None) for letter in "abcde"},
    "chamnet_f": ("chamnet", "linear_depthwise"),
    "fbnetv3_d": ("fbnetv3", "mobile_vision"),
}
NOT_IN_THEIR_SPACE = {
    **dict.fromkeys(["fbnet_b_2019", "fbnet_b1_2019"], ("fbnet", "row 4 of stage 8, {k: 3, e: 6, c: 32, dw: 2},")),
    **dict.fromkeys(["fbnet_c_2019", "fbnet_c1_2019"], ("fbnet", "row 3 of stage 8, {k: 3, e: 6, c: 32, dw: 2},")),
    "fbnetv3_a": ("fbnetv3", "row 1 of stage 16, {k: 5, e: 5, c: 72, s: 2, pad: 1},"),
    "fbnetv3_c": ("fbnetv3", "row 1 of stage 16, {k: 5, e: 4, c: 88, s: 2, pad: 1},"),
    "fbnetv2_f4": ("fbnetv2_f", "row 1 of stage 4, {k: 5, e: 5.4566, c: 24, s: 2},"),
}
"""Two depthwise convolutions are no candidate; paddings of released weights; expansions on no grid."""


@pytest.fixture(scope="module")
def small() -> Space:
    return parse(SMALL, "small.yaml")


@pytest.fixture(scope="module")
def small_points(small: Space) -> list[Choices]:
    return list(every_point(small))


class TestSize:
    def test_every_space_is_listed(self) -> None:
        assert list_spaces() == NAMES

    @pytest.mark.parametrize("name", ["fbnet", "fbnet_cifar", "fbnet_96_035"])
    def test_fbnet(self, name: str) -> None:
        assert load_space(name).size() == 9**22

    def test_digits_tiny(self) -> None:
        assert load_space("digits_tiny").size() == 6**7

    def test_digits_masking(self) -> None:
        rows = [(3 + 1) * 3, *[(3 * 6 + 1) * 4] * 2, *[(3 * 6 + 1) * 5] * 3]
        product = 2 * 3 * 3  # image, stem, head
        for row in rows:
            product *= row
        assert load_space("digits_masking").size() == product

    def test_chamnet(self) -> None:
        rows = [3, 3 * 3 * 4, 3 * 3 * 4, 3 * 15 * 4, 3 * 13 * 4, 3 * 20 * 4, 3 * 12]
        product = 5 * 4 * 47  # image, stem, head
        for row in rows:
            product *= row
        assert load_space("chamnet").size() == product

    def test_fbnetv3_is_that_of_its_table(self) -> None:
        """2.5e21 with the last row up to 224 channels, 12 values; here up to 240, 16 values."""
        assert load_space("fbnetv3").size() * 12 / 16 == pytest.approx(2.5e21, rel=0.01)

    def test_small_counted_by_hand_and_by_enumeration(self, small: Space, small_points: list[Choices]) -> None:
        assert small.size() == SMALL_SIZE == len(small_points) == len(set(small_points))

    @pytest.mark.slow
    def test_points_are_different_networks(self, small: Space, small_points: list[Choices]) -> None:
        decoded = [small.decode(choices, name="any") for choices in small_points]
        assert len({arch_file.dump(arch) for arch in decoded}) == len(small_points)


class TestThereAndBack:
    @pytest.mark.slow
    def test_every_point_of_the_small_space(self, small: Space, small_points: list[Choices]) -> None:
        for choices in small_points:
            assert small.encode(small.decode(choices)) == choices

    @SPACES
    @settings(max_examples=25)
    @given(data=st.data())
    def test_random_points(self, space: Space, data: st.DataObject) -> None:
        choices = space.draw(lambda options: data.draw(st.sampled_from(options)))
        arch = space.decode(choices)
        assert space.encode(arch) == choices
        assert space.encode(arch_file.parse(arch_file.dump(arch))) == choices

    @SPACES
    @given(seed=st.integers(0, 2**63 - 1))
    @settings(max_examples=5)
    def test_samples_repeat_and_travel(self, space: Space, seed: int) -> None:
        choices = space.sample(seed)
        assert choices == space.sample(seed)
        assert hash(choices) == hash(space.sample(seed))
        assert Choices.model_validate_json(choices.model_dump_json()) == choices
        assert Choices.model_validate_json(choices.model_dump_json(exclude_none=True)) == choices

    def test_samples_differ(self) -> None:
        space = load_space("fbnet")
        assert len({space.sample(seed) for seed in range(50)}) == 50

    @SPACES
    def test_variants(self, space: Space) -> None:
        for variant in space.spec.variants:
            choices = space.sample(0).model_copy(update={"variant": variant.name})
            assert space.encode(space.decode(choices)) == choices

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_published_networks(self, name: str) -> None:
        space_name, variant = PUBLISHED[name]
        space, arch = load_space(space_name), fbnet_zoo.get_spec(name)
        choices = space.encode(arch)
        assert choices.variant == variant
        again = space.decode(choices)
        assert network(again) == network(arch)
        assert fbnet_zoo.cost(again).params == fbnet_zoo.cost(arch).params

    def test_letters_of_fbnet_c(self) -> None:
        """As the paper's figure has them, with mobile-vision's 5x5 blocks in the two places of its sep blocks."""
        c = "k3_e1 k3_e6 skip k3_e1 k3_e1 k5_e6 k5_e3 k5_e6 k3_e6 k5_e6 k5_e3 k5_e6 k5_e6 "
        c += "k5_e6 k5_e6 k5_e6 k5_e3 k5_e6 k5_e6 k5_e6 k5_e6 k3_e6"
        chosen = load_space("fbnet").encode(fbnet_zoo.get_spec("fbnet_c")).layers
        assert [layer.candidate for layer in chosen] == c.split()

    @pytest.mark.parametrize("name", NOT_IN_THEIR_SPACE)
    def test_networks_that_others_changed(self, name: str) -> None:
        space, row = NOT_IN_THEIR_SPACE[name]
        with pytest.raises(InputError, match=f"{name} is not in the search space {space}: ") as caught:
            load_space(space).encode(fbnet_zoo.get_spec(name))
        assert row in str(caught.value)

    def test_spelling_does_not_matter(self, small: Space) -> None:
        """Equal blocks in one row or several, a skip with a row or without."""
        layers = (
            LayerChoice(candidate="k3", expansion=1),
            LayerChoice(candidate="skip"),
            LayerChoice(candidate="k3", out_channels=32),
            LayerChoice(kernel_size=3, repeats=3, rest_expansion=2),
        )
        choices = Choices(space="small", input_size=32, stem_channels=8, layers=layers)
        text = arch_file.dump(small.decode(choices))
        merged = text.replace("{op: ir, k: 3, e: 2, c: 24, r: 2, se: 0.25}", "ROW\n    - ROW").replace(
            "ROW", "{k: 3, e: 2, c: 24, se: 0.25, pad: 1, act: relu}"
        )
        merged = merged.replace("    - {op: skip, c: 16}\n", "")
        assert merged != text
        assert small.encode(arch_file.parse(merged)) == choices

    def test_a_row_over_two_layers(self) -> None:
        space = load_space("chamnet")
        layers = space.encode(fbnet_zoo.get_spec("chamnet_e")).layers  # one row of four blocks at stride 16
        assert [layer.repeats for layer in layers] == [None, 1, 3, 1, 3, 2, None]


TAKES = (
    "is not in the space; stages.4.1 offers k3_e1, k3_e3, k3_e6, k5_e3, k5_e6 or skip with c 24, s 1; "
    "it differs from k3_e3 in "
)


class TestNotInTheSpace:
    def refused(self, old: str, new: str) -> InputError:
        space = load_space("digits_tiny")
        layers = tuple(LayerChoice(candidate="k3_e3") for _ in space.layers)
        text = arch_file.dump(space.decode(Choices(space=space.name, input_size=32, layers=layers), name="mine"))
        assert old in text
        with pytest.raises(InputError) as caught:
            space.encode(arch_file.parse(text.replace(old, new, 1)))
        return caught.value

    @pytest.mark.parametrize(
        ("old", "new", "said", "location"),
        [
            (
                "{k: 3, e: 3, c: 24}",
                "{k: 7, e: 3, c: 24}",
                f"row 2 of stage 4, {{k: 7, e: 3, c: 24}}, {TAKES}'kernel_size' (7 instead of 3) and ",
                ("stages", 1, "blocks", 1),
            ),
            (
                "{k: 3, e: 3, c: 24}",
                "{k: 3, e: 3, c: 24, keep_expand: true}",
                f"row 2 of stage 4, {{k: 3, e: 3, c: 24, keep_expand: true}}, {TAKES}'keep_expand' (True ",
                ("stages", 1, "blocks", 1),
            ),
            (
                "{k: 3, e: 3, c: 24}",
                "{k: 3, e: 3, c: 24, r: 5}",
                "row 2 of stage 4, {k: 3, e: 3, c: 24, r: 5}, is one row too many; the stage has 3 layers in the space",
                ("stages", 1, "blocks", 1),
            ),
            ("e: 3, c: 16", "e: 3, c: 8", "row 1 of stage 2, {k: 3, e: 3, c: 8},", ("stages", 0, "blocks", 0)),
            (
                "{op: conv, k: 3, c: 16, s: 2}",
                "{op: conv, k: 5, c: 16, s: 2}",
                "its stem {op: conv, k: 5, c: 16, s: 2} differs from the space's in 'kernel_size' (5 ",
                ("stem",),
            ),
            (
                "c: 128",
                "c: 64",
                "its head {op: conv, k: 1, c: 64} differs from the space's in 'out_channels'",
                ("head",),
            ),
            ("input_size: 32", "input_size: 64", "its input_size is 64; expected 32", ("input_size",)),
            ("act: relu}", "act: swish}", "its stem {op: conv, k: 3, c: 16, s: 2} differs from the space's", ("stem",)),
            ("head:", "  16:\n    - {k: 3, e: 3, c: 40, s: 2}\nhead:", "the space has no stage 16", ("stages", 3)),
            ("head:", "classifier: conv\nhead:", "its classifier is conv; expected linear", ("classifier",)),
        ],
    )
    def test_the_first_row_that_is_not_is_named(self, old: str, new: str, said: str, location: tuple[object]) -> None:
        error = self.refused(old, new)
        assert f"mine is not in the search space digits_tiny: {said}" in str(error)
        assert error.location == location

    def test_a_row_that_is_missing(self) -> None:
        space = load_space("chamnet")
        text = arch_file.dump(space.decode(space.sample(0), name="mine"))
        rows = text.splitlines(keepends=True)
        last = max(number for number, row in enumerate(rows) if row.startswith("    - "))
        with pytest.raises(InputError, match=r"stage 32 has no row for stages\.32\.1; expected a block with k 3, e 4"):
            space.encode(arch_file.parse("".join(rows[:last] + rows[last + 1 :])))


class TestChoices:
    def test_they_print_in_one_line(self) -> None:
        chosen = str(load_space("fbnetv3").encode(fbnet_zoo.get_spec("fbnetv3_d")))
        assert chosen.startswith(
            "fbnetv3 (mobile_vision) at 248 px: stem c24, k3 c16 r2, k3 e5 c24 r6 rest k3 rest e2, "
        )

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"space": "fbnet"}, "the choices are for the space fbnet, not for small"),
            ({"layers": ()}, "small has 4 layers; the choices are for 0"),
            ({"input_size": 40}, "small cannot choose input_size 40; expected 32 or 48"),
            ({"stem_channels": 12}, "small cannot choose stem_channels 12; expected 8 or 16"),
            ({"head_channels": 32}, "small cannot choose head_channels 32; expected null"),
            ({"variant": "wid"}, "small has no variant 'wid'; did you mean 'wide'?"),
        ],
    )
    def test_choices_that_are_not_offered(self, small: Space, change: dict[str, object], error: str) -> None:
        with pytest.raises(InputError) as caught:
            small.decode(small.sample(0).model_copy(update=change))
        assert str(caught.value) == error

    @pytest.mark.parametrize(
        ("position", "choice", "error"),
        [
            (0, LayerChoice(), "stages.2.0 cannot choose None; expected k3, k5_g2 or skip with e 1 or 2.5, c 16, s 1"),
            (0, LayerChoice(candidate="k3"), "stages.2.0 cannot choose None for 'expansion'; expected 1 or 2.5"),
            (0, LayerChoice(candidate="skip", expansion=1), "cannot choose 1.0 for 'expansion'; expected nothing"),
            (2, LayerChoice(candidate="k5_g2"), "cannot choose 'k5_g2'; expected k3 or skip with e 2, c 16 or 32, s 2"),
            (3, LayerChoice(kernel_size=3, repeats=4, rest_expansion=1), "4 for 'repeats'; expected 2 or 3"),
        ],
    )
    def test_choices_that_a_layer_does_not_offer(
        self, small: Space, position: int, choice: LayerChoice, error: str
    ) -> None:
        choices = small.sample(0)
        layers = (*choices.layers[:position], choice, *choices.layers[position + 1 :])
        with pytest.raises(InputError) as caught:
            small.decode(choices.model_copy(update={"layers": layers}))
        assert str(caught.value).endswith(error)

    def test_names(self, small: Space) -> None:
        first, second = (small.decode(small.sample(seed)).name for seed in (0, 1))
        assert first.startswith("small_")
        assert first != second
        assert small.decode(small.sample(0), name="mine").name == "mine"
        with pytest.raises(InputError, match="'name' cannot be 'No name'"):
            small.decode(small.sample(0), name="No name")

    @pytest.mark.parametrize("seed", [-1, 1.5, "1", True])
    def test_a_seed_is_a_whole_number(self, small: Space, seed: object) -> None:
        with pytest.raises(InputError, match="seed cannot be"):
            small.sample(seed)  # type: ignore[arg-type]


class TestBlocks:
    def test_fbnet_has_twelve_shapes(self) -> None:
        """As many as the latency tables of HW-NAS-Bench distinguish."""
        places = load_space("fbnet_cifar").places()
        assert len(places) == 22
        assert len({(place.channels, place.size_in, place.stride) for place in places}) == 12
        assert [place.size_in for place in places] == [32] * 6 + [16] * 4 + [8] * 8 + [4] * 4

    @pytest.mark.parametrize("name", ["digits_tiny", "fbnet", "fbnet_96_035"])
    def test_candidates_are_the_blocks_of_the_networks_that_choose_them(self, name: str) -> None:
        space = load_space(name)
        for candidate in (each.name for each in space.spec.candidates):
            layers = tuple(LayerChoice(candidate=candidate) for _ in space.layers)
            arch = space.decode(Choices(space=name, input_size=space.spec.input_size[0], layers=layers))
            built = list(walk_blocks(plan(arch), arch.input_size))[1:-1]
            for place, (_, block, size) in zip(space.places(), built, strict=True):
                assert space.plan(place.blocks[candidate]) == block
                assert place.size_in == place.blocks[candidate].size_in == size

    @SPACES
    def test_operators_are_the_blocks_of_the_networks(self, space: Space) -> None:
        choices = space.sample(1)
        known = {(space.plan(each), each.size_in) for each in space.operators(choices.input_size)}
        arch = space.decode(choices)
        for _, block, size in walk_blocks(plan(arch), arch.input_size):
            assert isinstance(block, IdentityPlan) or (block, size) in known

    @pytest.mark.slow
    def test_operators_of_the_small_space_are_those_of_all_its_networks(
        self, small: Space, small_points: list[Choices]
    ) -> None:
        operators = [(small.plan(each), each.size_in) for each in small.operators()]
        found = {each for choices in small_points for each in blocks(small.decode(choices))}
        assert set(operators) == found

    def test_sizes(self, small: Space) -> None:
        assert [place.size_out for place in small.places()] == [24, 24, 12, 12, 12]
        assert [place.size_out for place in small.places(32)] == [16, 16, 8, 8, 8]
        with pytest.raises(InputError, match="input_size cannot be 4"):
            small.operators(4)

    def test_open_depth(self, small: Space) -> None:
        first, rest = small.places()[-2:]
        assert (first.name, rest.name) == ("stages.4.1", "stages.4.1.rest")
        assert (first.repeats, rest.repeats) == ((1,), (1, 2))
        assert (first.expansions, rest.expansions) == ((), (1.0, 2.0))
        assert (first.channels, rest.channels) == (((16, 24), (32, 24)), ((24, 24),))
        assert list(first.blocks) == list(rest.blocks) == ["k3", "k5"]


def blocks(arch: ArchSpec) -> Iterator[tuple[object, int]]:
    for _, block, size in walk_blocks(plan(arch), arch.input_size):
        if not isinstance(block, IdentityPlan):
            yield block, size


class TestNetworks:
    @SPACES
    def test_a_sample_can_be_created_and_run(self, space: Space, tmp_path: Path) -> None:
        arch = space.decode(space.sample(7), name="sampled")
        arch_file.save(arch, tmp_path / "sampled.yaml")
        classes = 1000 if space.name in COST_ONLY else 10
        if space.name in COST_ONLY:
            assert fbnet_zoo.cost(tmp_path / "sampled.yaml") == fbnet_zoo.cost(arch)
            with torch.device("meta"):
                model, images = FBNet(arch).eval(), torch.empty(1, 3, arch.input_size, arch.input_size)
        else:
            model = fbnet_zoo.create(tmp_path / "sampled.yaml", num_classes=classes).eval()
            images = torch.zeros(2, 3, arch.input_size, arch.input_size)
        with torch.no_grad():
            assert model(images).shape == (len(images), classes)
        counted = sum(parameter.numel() for parameter in model.parameters())
        assert counted == fbnet_zoo.cost(arch, num_classes=classes).params

    @pytest.mark.parametrize("in_channels", [1, 3])
    def test_digits_tiny_is_tiny(self, in_channels: int) -> None:
        space = load_space("digits_tiny")
        layers = tuple(LayerChoice(candidate="k5_e6") for _ in space.layers)
        arch = space.decode(Choices(space="digits_tiny", input_size=32, layers=layers))
        costs = fbnet_zoo.cost(arch, in_channels=in_channels, num_classes=10)
        assert costs.params * 4 < 500e3
        assert costs.macs < 10e6


class TestNames:
    def test_a_path(self, tmp_path: Path, small: Space) -> None:
        path = tmp_path / "any.yaml"
        path.write_text(SMALL)
        assert load_space(path) == load_space(str(path)) == small

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("fbmet", "no search space is named 'fbmet'; did you mean 'fbnet'?"),
            ("zzz", f"no search space is named 'zzz'; expected a .yaml file or one of {', '.join(NAMES)}"),
        ],
    )
    def test_a_name_that_is_none(self, name: str, error: str) -> None:
        with pytest.raises(UnknownNameError) as caught:
            load_space(name)
        assert str(caught.value) == error

    def test_neither_name_nor_path(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="expected the name or path of a search space; got int"):
            load_space(3)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="cannot read"):
            load_space(tmp_path / "none.yaml")

    @SPACES
    def test_name_is_the_file_name(self, space: Space) -> None:
        path = ROOT / "arch_defs" / "spaces" / f"{space.name}.yaml"
        assert parse(path.read_text(encoding="utf-8")) == space
        assert space.name not in fbnet_zoo.list_models()
