from pathlib import Path

import pytest

from fbnet_zoo import get_spec, list_models
from fbnet_zoo.benchmarks import zoo_report, zoo_results
from fbnet_zoo.errors import InputError

SAMPLE = "digits_fbnet_s"

pytestmark = [pytest.mark.onnx, pytest.mark.coreml, pytest.mark.executorch]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The report of one entry: its results, and the arguments that go on with it."""
    folder = tmp_path_factory.mktemp("zoo")
    out = folder / "zoo.jsonl"
    arguments = ["--only", SAMPLE, "--out", str(out), "--files", str(folder / "files")]
    assert zoo_report.main(arguments) == 0
    return out, arguments


@pytest.mark.slow
def test_every_format_is_checked_and_what_runs_here_is_timed(run: tuple[Path, list[str]]) -> None:
    results = zoo_results.read(run[0])
    assert set(results) == {(SAMPLE, target, "fp32") for target in zoo_results.FORMATS}
    for (_, target, _), result in results.items():
        assert result.snr_db is not None
        assert result.snr_db >= 100
        assert result.top1_agreement == 1
        assert not result.left
        assert (result.latency is not None) == (target in zoo_results.TIMED)


@pytest.mark.slow
def test_files_go_when_they_have_been_timed(run: tuple[Path, list[str]]) -> None:
    assert not list((run[0].parent / "files").glob("*"))


@pytest.mark.slow
def test_a_second_run_goes_on_after_the_first(run: tuple[Path, list[str]]) -> None:
    out, arguments = run
    before = zoo_results.read(out)
    coreml = before[SAMPLE, "coreml", "fp32"]
    zoo_results.write(out, (result for result in before.values() if result != coreml))
    assert zoo_report.main(arguments) == 0
    after = zoo_results.read(out)
    assert {key: result for key, result in after.items() if key != coreml.key} == {
        key: result for key, result in before.items() if key != coreml.key
    }
    assert after[coreml.key].size == coreml.size


def test_every_entry_but_those_left_out_with_a_reason_is_in_the_report() -> None:
    in_report = {task.model for task in zoo_report.tasks()}
    assert in_report | set(zoo_results.LEFT_OUT) == set(list_models())
    assert not in_report & set(zoo_results.LEFT_OUT)


def test_two_entries_of_each_family_are_quantized() -> None:
    families = [get_spec(name).family for name in zoo_report.QUANTIZED]
    assert {family: families.count(family) >= 2 for family in {get_spec(name).family for name in list_models()}} == (
        dict.fromkeys(families, True)
    )


@pytest.mark.slow
def test_a_damaged_file_of_results_is_named_with_its_line(tmp_path: Path, run: tuple[Path, list[str]]) -> None:
    path = tmp_path / "zoo.jsonl"
    path.write_text(run[0].read_text() + '{"model": 1}\n')
    with pytest.raises(InputError, match=r"zoo\.jsonl:4: not a result of this version"):
        zoo_results.read(path)
