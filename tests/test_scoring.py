"""`shiftscope score` equals pycocotools, and the fast and the slow reader of COCO results agree.

Invalid files are refused with the name of the fault.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from datasets import results as reader
from datasets.errors import InputError
from diagnostics.precision import COCO_METRICS
from reports.commands.score import score
from reports.options import ScoreOptions
from tests.conftest import complaint, run_in_process
from tests.oracles import Problem, coco_json, pycocotools_metrics, random_problem


def score_files(ground_truth: Path, predictions: Path, **options: object) -> dict:
    return score(ScoreOptions(ground_truth=ground_truth, predictions=predictions, **options))


def write_problem(problem: Problem, folder: Path) -> tuple[Path, Path]:
    """Write a problem as two COCO files, in which image and category ids differ from their numbers."""
    truth, detections = coco_json(problem)
    for entry in (*truth["annotations"], *detections):
        entry["image_id"], entry["category_id"] = 10 * entry["image_id"], entry["category_id"] + 1
    truth["images"] = [{"id": 10 * entry["id"]} for entry in truth["images"]]
    truth["categories"] = [{"id": entry["id"] + 1, "name": "c"} for entry in truth["categories"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gt.json").write_text(json.dumps(truth, default=float))
    (folder / "dt.json").write_text(json.dumps(detections, default=float))
    return folder / "gt.json", folder / "dt.json"


def numbers(entry: dict) -> list[float]:
    return [-1 if entry[name] is None else entry[name] for name in COCO_METRICS]


def test_the_command_equals_pycocotools_overall_and_by_slice(tmp_path: Path) -> None:
    problem = random_problem(np.random.default_rng(42))
    images = problem[1]
    write_problem(problem, tmp_path)
    half = list(range(0, images, 2))
    (tmp_path / "s.csv").write_text("image_id,slice\n" + "".join(f"{10 * i},even\n" for i in half))
    (tmp_path / "g.csv").write_text("image_id,group\n" + "".join(f"{10 * i},g{i}\n" for i in range(images)))
    files = [
        "--ground-truth",
        "gt.json",
        "--predictions",
        "dt.json",
        "--slices",
        "s.csv",
        "--groups",
        "g.csv",
    ]
    outcome = run_in_process("score", *files, "--bootstrap", "200", cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    np.testing.assert_allclose(numbers(result["overall"]), pycocotools_metrics(problem), atol=1e-9)
    np.testing.assert_allclose(numbers(result["slices"][0]), pycocotools_metrics(problem, half), atol=1e-9)
    assert result["slices"][0]["images"] == len(half)
    bounds = result["bootstrap"]["ap50"]
    assert bounds["low"] <= result["overall"]["ap50"] <= bounds["high"]
    assert [entry["category_id"] for entry in result["sweep"]["classes"]] == list(range(1, problem[0] + 1))


def test_a_baseline_is_compared_in_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    annotations = [(i, 0, [20.0, 20.0, 50.0, 50.0], 2500.0, False) for i in range(40)]
    worse = [(i, 0, o[2], float(rng.random())) for i, o in enumerate(annotations) if i % 2]
    better = [(i, 0, o[2], float(rng.random())) for i, o in enumerate(annotations)]
    gt, dt = write_problem((1, 40, annotations, better), tmp_path)
    _, other = write_problem((1, 40, annotations, worse), tmp_path / "other")
    groups = tmp_path / "g.csv"
    groups.write_text("image_id,group\n" + "".join(f"{10 * i},clip {i // 4}\n" for i in range(40)))
    result = score_files(gt, dt, baseline=other, groups=groups, bootstrap=300)
    comparison = result["baseline"]
    assert comparison["difference"] == pytest.approx(result["overall"]["ap50"] - comparison["ap50"])
    assert comparison["low"] > 0.3
    # With ten clips the smallest p of a permutation test is about 2 in 1,024.
    assert comparison["p"] < 0.02
    assert comparison["units"] == 10


@pytest.mark.parametrize(
    ("ground_truth", "predictions", "message"),
    [
        ({}, [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "first ids [7]"),
        (
            {},
            [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1], "score": 1}],
            "detection 0 lacks a usable",
        ),
        ({}, [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}], "detection 0 lacks a usable"),
        ({}, {"a": 1}, "is a list of detections; found an object with a"),
        ({"images": [{}]}, [], "every image and category needs an id"),
        ({"images": [{"id": 1}, {"id": "x"}]}, [], "all ids must be of one type"),
        (
            {"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1]}]},
            [],
            "annotation 0 lacks a usable",
        ),
        ({"annotations": [None]}, [], "annotation 0 lacks a usable"),
        ({"annotations": 3}, [], "has the lists images, annotations and categories"),
    ],
)
def test_invalid_files_are_refused_with_their_name(
    tmp_path: Path, ground_truth: dict, predictions: object, message: str
) -> None:
    content = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [], **ground_truth}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    (tmp_path / "dt.json").write_text(json.dumps(predictions))
    with pytest.raises(InputError, match=r"gt\.json|dt\.json") as refusal:
        score_files(tmp_path / "gt.json", tmp_path / "dt.json")
    assert message in str(refusal.value)


def test_detections_of_unlisted_categories_only_are_refused(tmp_path: Path) -> None:
    box = [1.0, 1.0, 9.0, 9.0]
    gt, dt = write_problem((1, 2, [(0, 0, box, 81.0, False)], [(0, 4, box, 0.5), (0, 7, box, 0.4)]), tmp_path)
    with pytest.raises(
        InputError, match=r"dt\.json: no detection has a category .* first ids are 5, 8, those of"
    ):
        score_files(gt, dt)


def test_ignored_detections_are_counted(tmp_path: Path) -> None:
    box = [1.0, 1.0, 9.0, 9.0]
    gt, dt = write_problem((1, 2, [(0, 0, box, 81.0, False)], [(0, 4, box, 0.5), (0, 0, box, 0.4)]), tmp_path)
    assert score_files(gt, dt)["ignored_detections"] == 1
    outcome = run_in_process("score", "--ground-truth", "gt.json", "--predictions", "dt.json", cwd=tmp_path)
    assert "1 detections of categories that the ground truth does not list were ignored" in outcome.stderr


@pytest.mark.parametrize("empty", ["images", "categories", "annotations"])
def test_an_empty_ground_truth_has_no_metrics(tmp_path: Path, empty: str) -> None:
    content = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [], empty: []}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    (tmp_path / "dt.json").write_text("[]")
    result = score_files(tmp_path / "gt.json", tmp_path / "dt.json", bootstrap=100)
    assert set(result["overall"].values()) == {None}


def test_scores_above_one_are_not_swept(tmp_path: Path) -> None:
    annotations = [(0, 0, [1.0, 1.0, 9.0, 9.0], 81.0, False)]
    gt, dt = write_problem((1, 1, annotations, [(0, 0, [1.0, 1.0, 9.0, 9.0], 87.0)]), tmp_path)
    result = score_files(gt, dt)
    assert result["overall"]["ap50"] == pytest.approx(1)
    assert result["sweep"]["points"] == []
    assert "not between 0 and 1" in result["sweep"]["note"]


def test_two_groups_for_an_image_and_too_few_replicates_are_refused(tmp_path: Path) -> None:
    gt, dt = write_problem((1, 1, [], []), tmp_path)
    groups = tmp_path / "g.csv"
    groups.write_text("image_id,group\n0,a\n0,b\n")
    with pytest.raises(InputError, match="image_id 0 is in two groups, 'a' and 'b'"):
        score_files(gt, dt, groups=groups, bootstrap=100)
    with pytest.raises(InputError, match="at least 100 replicates"):
        score_files(gt, dt, bootstrap=5)


def test_the_command_exits_with_code_2_for_an_invalid_file(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text('{"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": []}')
    (tmp_path / "dt.json").write_text(
        '[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, NaN], "score": 1}]'
    )
    outcome = run_in_process("score", "--ground-truth", "gt.json", "--predictions", "dt.json", cwd=tmp_path)
    assert outcome.code == 2
    assert "detection 0 has a coordinate or score that is not finite" in complaint(outcome)


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("image_id,clip\n1,a\n", "needs the columns image_id and slice"),
        ("image_id,slice\n9,a\n", "s.csv:2: image_id '9' is not in the ground truth"),
        ("image_id,slice\n1\n", "s.csv:2: image_id '1' is not in the ground truth"),
        ("", "needs the columns"),
    ],
)
def test_invalid_slices_are_refused_with_their_position(tmp_path: Path, csv: str, message: str) -> None:
    (tmp_path / "gt.json").write_text('{"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": []}')
    (tmp_path / "dt.json").write_text("[]")
    (tmp_path / "s.csv").write_text(csv)
    with pytest.raises(InputError) as refusal:
        score_files(tmp_path / "gt.json", tmp_path / "dt.json", slices=tmp_path / "s.csv")
    assert message in str(refusal.value)


def entries(ids: SearchStrategy) -> SearchStrategy:
    finite = st.floats(-1e6, 1e6, allow_nan=False)
    return st.lists(
        st.fixed_dictionaries(
            {
                "image_id": ids,
                "category_id": st.integers(0, 90),
                "bbox": st.lists(finite, min_size=4, max_size=4),
                "score": st.floats(0, 1),
            },
            optional={
                "segmentation": st.just({"size": [1, 2], "counts": "abc"}),
                "note": st.text(max_size=5),
            },
        ),
        min_size=1,
        max_size=6,
    )


@given(
    detections=entries(st.integers(-(2**40), 2**40))
    | entries(st.text(max_size=6) | st.sampled_from(["a},{b", '"}, {"', "ü.jpg"])),
    style=st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}]),
)
def test_the_fast_and_the_slow_reader_agree(detections: list, style: dict) -> None:
    content = json.dumps(detections, **style).encode("utf-8", "surrogatepass")
    slow = reader._slow(Path("x.json"), json.loads(content))
    fast = reader._fast(content)
    if fast is not None:
        assert fast.image_id.tolist() == slow.image_id.tolist()
        assert fast.category_id.tolist() == slow.category_id.tolist()
        np.testing.assert_array_equal(fast.xywh, slow.xywh)
        np.testing.assert_array_equal(fast.score, slow.score)


@pytest.mark.parametrize(
    "content",
    [
        b'[{"image_id": 1, "category_id": 1, "bbox": [0,0,1,1], "score": 1} '
        b'{"image_id": 1, "category_id": 1, "bbox": [0,0,1,1], "score": 1}]',
        b'[{"image_id": "\xff", "category_id": 1, "bbox": [0,0,1,1], "score": 1}]',
        b'[{"image_id": ' + b"9" * 5000 + b', "category_id": 1, "bbox": [0,0,1,1], "score": 1}]',
    ],
    ids=["missing comma", "invalid text", "very long number"],
)
def test_invalid_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dt.json").write_bytes(content)
    with pytest.raises(InputError, match="not valid JSON"):
        reader.read_results(tmp_path / "dt.json")


def test_common_json_styles_are_read_by_the_fast_reader() -> None:
    detections = [{"image_id": 3, "category_id": 1, "bbox": [1, 2, 3.5, 4], "score": 0.25}] * 3
    for style in ({}, {"separators": (",", ":")}):
        assert reader._fast(json.dumps(detections, **style).encode()) is not None
    named = [{**entry, "image_id": "a.jpg"} for entry in detections]
    assert reader._fast(json.dumps(named).encode()) is not None


anything: SearchStrategy = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["image_id", "category_id", "bbox", "score", "x"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@given(
    content=st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode("utf-8", "ignore"))
)
def test_arbitrary_content_raises_only_input_errors(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "dt.json"
    path.write_bytes(content)
    try:
        results = reader.read_results(path)
    except InputError as error:
        is_valid = "dt.json" in str(error)
    else:
        columns = (results.image_id, results.score, results.xywh, results.category_id)
        is_valid = len({len(column) for column in columns}) == 1
    assert is_valid


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("score", ("pandas", "torch", "fiftyone", "matplotlib", "seaborn")),
        ("triage", ("torch", "fiftyone", "matplotlib", "seaborn")),
    ],
)
@pytest.mark.slow
def test_commands_on_numbers_import_no_heavy_library(command: str, heavy: tuple[str, ...]) -> None:
    code = (
        f"import reports.cli, reports.commands.{command}, sys; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_nothing_to_draw_it_with() -> None:
    """Rich's Markdown alone takes as long as everything else; and its columns cut words off at 80
    characters.
    """
    code = (
        "import sys; from reports.cli import main; sys.argv = ['shiftscope', 'score', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(str([n for n in ('rich.markdown', 'numpy', 'pandas') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--ground-truth" in done.stdout
    assert done.stderr == "[]"
