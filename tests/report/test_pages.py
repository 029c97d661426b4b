"""The pages as a browser reads them: whole, self-contained, escaped, and with every number that they were given."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.converters.manifest import FileRecord, LayerSqnr, ParityRecord, TensorRecord
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.model import FBNet
from fbnet_zoo.registry import get_spec
from fbnet_zoo.report import deployment_page, profile_page
from fbnet_zoo.spec import ArchSpec
from tests.helpers.html_pages import Element, parse, pictures
from tests.helpers.measurements import measurement
from tests.helpers.report_records import manifest, operator, profile, quantized

HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
SAMPLES = (10.11, 10.22, 10.33, 10.44, 10.55, 10.66, 31.77)

FAST = measurement(
    SAMPLES, model="tiny", file="tiny.onnx", target="onnx", backend=None, runtime="onnxruntime 1.31.1", threads=4,
    load_ms=87.65, first_ms=23.46, peak_rss_mb=154.3, baseline_rss_mb=98.7, affinity="f0", commit="abcdef0123456789",
    versions={"onnxruntime": "1.31.1", "fbnet_zoo": "0.1.0"},
)  # fmt: skip
HOT = measurement([6.54] * 6, model="tiny", file="tiny-int8.onnx", precision="int8", throttled=True, minute=9)


@pytest.fixture(scope="module")
def page(tiny_spec: ArchSpec) -> str:
    return deployment_page(
        tiny_spec, [manifest(), quantized()], [FAST, HOT], [profile()], notes=("The weights are random.",)
    )


@pytest.fixture(scope="module")
def root(page: str) -> Element:
    return parse(page)


def section(root: Element, anchor: str) -> Element:
    return next(found for found in root.all("section") if found.attributes.get("id") == anchor)


@pytest.mark.parametrize(
    ("anchor", "texts"),
    [
        ("files", ["tiny.onnx", "1.23 MB", "0.35 MB", "0.28\N{MULTIPLICATION SIGN}", "0123456789ab", "fedcba987654"]),
        ("files", ["2026-03-04 05:06 UTC", "opset 20", "31 Conv", "17 Relu", "onnx 1.23.2", "torch 2.13.0"]),
        ("parity", ["onnxruntime 1.31.1", "117.7 dB", "109.3 dB", "5.3e-06", "7.1e-06", "1.6e-06", "2.9e-06"]),
        ("parity", ["coffee.jpg", "zeros", "87.5 % (3 near ties)", "100.0 %", "outside tolerances"]),
        (
            "quantization",
            ["int8 weights per channel, int8 activations", "shipped photographs (48 images)", "96 images"],
        ),
        ("quantization", ["23.4 dB", "91.7 %", "85.0 %", "91.67 %", "90.28 %", "passed"]),
        ("quantization", ["stem", "44.4 dB", "12.3 dB", "-1.2 dB", "Kept in a higher precision: stem"]),
        ("latency", ["Sandbox Phone 9 (android)", "Android 14, API 34", "4.1 GB memory", "id 0a1b2c3d"]),
        ("latency", ["10.44 ms", "10.22 to 10.66", "10.18", "19.10", "30.50", "87.65", "23.46", "154.3", "98.7 MB"]),
        ("latency", ["6.54 ms", "throttled", "2026-01-02 03:13 UTC", "7 after 3 warm-up, 1 outlier", "cores f0"]),
        ("latency", ["abcdef012345", "walt", "skin 33.1 °C", "80 %, 31.5 °C, charging", "onnxruntime 1.31.1"]),
        ("profile", ["8.77 ms total", "15 traced runs", "5.00 ms in 4 operators", "loading 43.21 ms", "2 threads"]),
        ("profile", ["stages.4.0.expand.act", "HardSwish", "0.750", "15.0 %", "1 operator ran outside the backend"]),
        ("profile", ["1.25", "2.50", "25.0 %", "50.0 %", "0.500", "10.0 %", "outside the backend"]),
    ],
)
def test_numbers_that_were_given_are_shown(root: Element, anchor: str, texts: list[str]) -> None:
    shown = section(root, anchor).text
    assert [text for text in texts if text not in shown] == []


def test_top_of_the_page(root: Element, tiny_spec: ArchSpec) -> None:
    (header,) = root.all("header")
    assert header.all("h1")[0].text == "tiny"
    for text in (tiny_spec.summary, "random seed 7, license CC-BY-4.0", "0.35 MB", "10.44 ms", "at 64 px"):
        assert text in header.text
    assert "2026-03-04 05:06 UTC" in header.text  # the newest record; the page has no date of its own
    assert [note.text for note in root.all("p", "note")] == ["The weights are random."]


def test_published_accuracy_and_paper_of_known_weights() -> None:
    shown = deployment_page(get_spec("fbnet_b"), [manifest(weights="fb_in1k", license="CC-BY-NC-4.0")], [], [])
    assert "74.5441 % ImageNet-1k top-1 as published" in shown
    assert '<a href="https://arxiv.org/abs/1812.03443">arXiv:1812.03443</a>' in shown


def test_same_records_give_the_same_page(page: str, tiny_spec: ArchSpec) -> None:
    notes = ("The weights are random.",)
    again = deployment_page(tiny_spec, [manifest(), quantized()], [FAST, HOT], [profile()], notes=notes)
    assert again == page


def check_outline(root: Element) -> None:
    ids = [found.attributes["id"] for found in root.walk() if "id" in found.attributes]
    assert len(ids) == len(set(ids))
    targets = [link.attributes["href"] for link in root.all("a") if link.attributes["href"].startswith("#")]
    assert {target[1:] for target in targets} <= set(ids)
    assert len(root.all("h1")) == 1
    assert root.all("html")[0].attributes["lang"] == "en"


def check_tables(root: Element) -> None:
    for table in root.all("table"):
        assert table.all("caption")[0].text
        width = len(table.all("thead")[0].all("th"))
        rows = [row for body in ("tbody", "tfoot") for part in table.all(body) for row in part.all("tr")]
        assert rows
        assert {len(row.all("th") + row.all("td")) for row in rows} == {width}
        assert {head.attributes.get("scope") for head in table.all("th")} == {"col", "row"}


def check_pictures(page: str) -> None:
    found = pictures(page)
    assert found
    for svg in found:
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and svg.get("aria-label"))


def check_nothing_from_outside(page: str, root: Element) -> None:
    links = {link.attributes["href"] for link in root.all("a")}
    for found in root.walk():
        assert found.tag not in {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
        assert not [name for name in found.attributes if name.startswith("on") or name in {"src", "style"}]
        assert found.tag == "a" or "href" not in found.attributes
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= links
    (style,) = root.all("style")
    assert not re.search(r"url\(|@import|@font-face", style.text)
    assert "default-src 'none'" in page


def test_page_is_whole(page: str, root: Element) -> None:
    check_outline(root)
    check_tables(root)
    check_pictures(page)
    check_nothing_from_outside(page, root)


def test_profile_has_a_page_of_its_own() -> None:
    page = profile_page(profile())
    root = parse(page)
    check_outline(root)
    check_tables(root)
    check_pictures(page)
    check_nothing_from_outside(page, root)
    assert "15.0 %" in root.text
    assert "Sandbox Phone 9" in root.text


def test_hostile_names_stay_text(tiny_spec: ArchSpec) -> None:
    file = FileRecord.model_construct(file=HOSTILE, size=1, sha256=HOSTILE)
    bad = manifest(
        file=file, weights=HOSTILE, license=HOSTILE, created=HOSTILE,
        facts={HOSTILE: HOSTILE, "operators": {HOSTILE: 1}},
        versions={HOSTILE: HOSTILE}, parity=ParityRecord(checked=False, reason=HOSTILE),
        quantization=quantized(
            scheme=HOSTILE, calibration=HOSTILE, kept=(HOSTILE,), layers_from=HOSTILE,
            layers=(LayerSqnr(name=HOSTILE, sqnr_db=1.0),),
        ).quantization,
    )  # fmt: skip
    device = DeviceInfo(kind=HOSTILE, id=HOSTILE, manufacturer=HOSTILE, model=HOSTILE, soc=HOSTILE, abis=(HOSTILE,))
    slow = measurement(
        file=HOSTILE, runtime=HOSTILE, backend=HOSTILE, precision=HOSTILE, device=device, affinity=HOSTILE,
        commit=HOSTILE, versions={HOSTILE: HOSTILE},
    )  # fmt: skip
    traced = profile(
        model=HOSTILE, file=HOSTILE, runtime=HOSTILE, device=device, operators=(operator(HOSTILE, HOSTILE, 1.0),)
    )
    for page in (deployment_page(tiny_spec, [bad], [slow], [traced], notes=(HOSTILE,)), profile_page(traced)):
        root = parse(page)
        check_nothing_from_outside(page, root)
        check_pictures(page)
        assert HOSTILE in "".join(root.text)


@pytest.mark.parametrize(
    ("anchor", "command"),
    [
        ("files", "fbnet-zoo convert tiny --to onnx coreml executorch"),
        ("parity", "fbnet-zoo convert tiny --to onnx"),
        ("quantization", "--precision int8"),
        ("latency", "fbnet-zoo bench run"),
        ("profile", "fbnet-zoo bench profile"),
    ],
)
def test_empty_section_says_what_would_fill_it(tiny_spec: ArchSpec, anchor: str, command: str) -> None:
    page = deployment_page(tiny_spec, [], [], [])
    root = parse(page)
    check_outline(root)
    check_nothing_from_outside(page, root)
    (missing,) = section(root, anchor).all("p", "missing")
    assert command in missing.text


def test_file_that_was_not_checked_says_why(tiny_spec: ArchSpec) -> None:
    unchecked = manifest(parity=ParityRecord(checked=False, reason="Core ML runs on Apple's systems only"))
    root = parse(deployment_page(tiny_spec, [unchecked], [], []))
    assert "not checked: Core ML runs on Apple's systems only" in section(root, "parity").text


def test_degraded_file_is_marked(tiny_spec: ArchSpec) -> None:
    root = parse(deployment_page(tiny_spec, [quantized(degraded=True, top1=None, fp32_top1=None)], [], []))
    assert [found.text for found in section(root, "quantization").all("span", "warn")] == ["degraded"]
    assert "no labels" in section(root, "quantization").text


def test_measurements_are_grouped_by_device(tiny_spec: ArchSpec) -> None:
    host = FAST.model_copy(update={"device": DeviceInfo(kind="host", id="feed")})
    root = parse(deployment_page(tiny_spec, [], [FAST, host, HOT], []))
    latency = section(root, "latency")
    assert [title.text for title in latency.all("h3")] == ["Sandbox Phone 9 (android)", "host feed"]
    assert [len(picture.all("rect", "bar")) for picture in latency.all("svg", "chart")] == [2, 1]


def test_processes_of_one_file_are_one_bar(tiny_spec: ArchSpec) -> None:
    again = FAST.model_copy(
        update={"samples_ms": (20.0,) * 7, "load_ms": 97.65, "peak_rss_mb": 200.0, "throttled": True}
    )
    root = parse(deployment_page(tiny_spec, [], [FAST, again], []))
    latency = section(root, "latency")
    assert len(latency.all("rect", "bar")) == 1
    for text in ("20.00 ms", "14 runs in 2 processes", "92.65", "200.0", "throttled in 1"):
        assert text in latency.text
    assert [len(table.all("tbody")[0].all("tr")) for table in latency.all("table")] == [1, 2]


def test_throttled_run_is_no_record(tiny_spec: ArchSpec) -> None:
    (header,) = parse(deployment_page(tiny_spec, [], [HOT], [])).all("header")
    assert "fastest" not in header.text


def test_few_runs_have_no_interval(tiny_spec: ArchSpec) -> None:
    root = parse(deployment_page(tiny_spec, [], [measurement([1.0, 2.0])], []))
    assert "fewer than 5 runs" in section(root, "latency").text
    assert root.all("line", "whisker") == []


def test_cost_is_that_of_the_files(tiny_spec: ArchSpec) -> None:
    grey = manifest(
        inputs=(
            TensorRecord(name="image", shape=(1, 1, 96, 96), dtype="float32", layout="NCHW", channel_order="grey"),
        ),
        outputs=(TensorRecord(name="logits", shape=("batch", 37), dtype="float32", layout="NC"),),
        preprocess=manifest().preprocess.model_copy(update={"crop": 96, "resize": 96}),
    )
    root = parse(deployment_page(tiny_spec, [grey], [], []))
    cells = root.all("svg", "cell")
    assert "output 37" in cells[-1].attributes["aria-label"]
    assert "96 \N{MULTIPLICATION SIGN} 96 px" in section(root, "architecture").text
    stem_weights = 3 * 3 * 1 * 8  # of one channel
    assert f"{stem_weights * 48 * 48:,}" in [span.attributes.get("title") for span in root.all("span")]


def test_size_can_be_said(tiny_spec: ArchSpec) -> None:
    assert "at 128 px" in deployment_page(tiny_spec, [manifest()], [], [], input_size=128)
    with pytest.raises(InputError, match="input_size"):
        deployment_page(tiny_spec, [], [], [], input_size=0)


def test_operators_of_unknown_modules_are_shown_by_kind() -> None:
    operators = (operator("stem.conv", "Conv", 1.0), operator("Add #1", "Add", 0.5), operator("Conv #2", "Conv", 2.0))
    (flame,) = parse(profile_page(profile(operators=operators, undelegated_share=0.0))).all("svg", "strip")
    titles = [title.text for title in flame.all("title")]
    assert titles[:2] == ["Conv: 3.00 ms, 85.7 %", "Add: 0.500 ms, 14.3 %"]
    assert [title.partition(" (")[0] for title in titles[2:]] == ["stem.conv", "Conv #2", "Add #1"]


def test_operators_of_known_modules_keep_their_order() -> None:
    (flame,) = parse(profile_page(profile())).all("svg", "strip")
    titles = [title.text.partition(":")[0] for title in flame.all("title")]
    assert titles[:6] == ["Stem", "Stage 4", "Classifier", "Stem", "4.0", "Classifier"]
    assert len(flame.all("rect", "warn")) == 1


@pytest.mark.parametrize("profiled", [(), (operator("a", "b", 0.0),)], ids=["no operators", "no time"])
def test_profile_without_time_is_a_page(profiled: tuple[()]) -> None:
    parse(profile_page(profile(operators=profiled, undelegated_share=0.0, device=None, load_ms=None)))


@pytest.mark.onnx
@pytest.mark.slow
def test_page_of_a_real_conversion(tiny_model: FBNet, tiny_spec: ArchSpec, tmp_path: Path) -> None:
    artifact = convert(tiny_model, to="onnx", out=tmp_path)
    page = deployment_page(tiny_spec, [artifact.manifest], [], [])
    root = parse(page)
    check_tables(root)
    check_nothing_from_outside(page, root)
    assert artifact.manifest.file.sha256[:12] in section(root, "files").text
    assert "within tolerances" in section(root, "parity").text


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2)."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


STYLE = files("fbnet_zoo.report").joinpath("templates", "style.css").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "least"),
    [
        *((front, back, 4.5) for front in ("text", "muted", "link", "warn-text") for back in ("page", "panel")),
        *(("good", back, 4.5) for back in ("page", "panel")),
        ("ink", "soft", 4.5),
        ("on-strong", "strong", 4.5),
        ("on-strong", "warn", 4.5),
        ("plain", "page", 3.0),
        ("strong", "page", 3.0),
        ("warn", "page", 3.0),
    ],
)
def test_contrast(scheme: int, front: str, back: str, least: float) -> None:
    block = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    light, dark = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least
