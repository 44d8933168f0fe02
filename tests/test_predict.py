"""`shiftscope predict`: detections equal those of Ultralytics, and videos keep their times and sound.

An interrupted prediction resumes, and the result can be a domain of a report.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from datasets.coco import read_results
from datasets.errors import EnvironmentProblem, InputError
from datasets.pixels import decode
from datasets.source import open_source
from datasets.video import upright
from datasets.world import DRONE, Plan, build_world
from reports.commands.predict import lines, predict
from reports.options import PredictOptions, ReportOptions
from reports.pipeline.inference import predict_domains, resolve_prediction_folders
from reports.pipeline.run import run_report
from reports.pipeline.runs import load_run
from reports.prediction.overlay import draw
from reports.prediction.video import Video
from reports.prediction.window import Window
from reports.progress import Reporter
from tests.conftest import SCRIPT, complaint, run_in_process, run_script
from train.forward import Detector, load_checkpoint
from train.prediction_folder import resolve_domain
from train.predictions import Settings

SIZE = (96, 64)
BOX_COLUMNS = ["x1", "y1", "x2", "y2", "confidence"]
QUIET = Reporter(quiet=True)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "drone"
    list(build_world(folder, Plan(DRONE, {"val": (2, 3)}, seed=3)))
    return folder


def write_video(path: Path, frames: int = 40, *, sound: str | None = "aac", odd: bool = False) -> list[int]:
    """Write a video with uneven frame times and a tone; returns the times in milliseconds."""
    times = [100 + 40 * i + (7 * i * i) % 23 for i in range(frames)]
    width, height = SIZE[0] + odd, SIZE[1] + odd
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        stream.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream(sound, rate=16000, layout="mono") if sound else None
        for i, moment in enumerate(times):
            pixels = np.full((height, width, 3), 20 + 5 * i % 200, np.uint8)
            pixels[20:40, 2 * i % 60 : 2 * i % 60 + 20] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            tone = np.sin(np.arange(16000 * 2) / 16000 * 2 * np.pi * 440).astype(np.float32)
            layout = "s16" if sound == "pcm_s16le" else "fltp"
            for start in range(0, len(tone), 1024):
                part = tone[None, start : start + 1024]
                values = (part * 20000).astype(np.int16) if layout == "s16" else part
                audio_frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(values), format=layout, layout="mono"
                )
                audio_frame.sample_rate, audio_frame.pts, audio_frame.time_base = (
                    16000,
                    start,
                    Fraction(1, 16000),
                )
                container.mux(audio.encode(audio_frame))
            container.mux(audio.encode())
    return times


def run(source: Path | str, weights: Path, **options: object) -> dict:
    return predict(PredictOptions(source=str(source), weights=weights, device="cpu", **options), QUIET)


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [float(frame.pts * stream.time_base) for frame in container.decode(stream)]


def sound_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray().ravel() for frame in container.decode(container.streams.audio[0])]
        return np.concatenate(parts).astype(float)


def loudest(tone: np.ndarray) -> float:
    """The loudest frequency in Hz."""
    return float(np.fft.rfftfreq(len(tone), 1 / 16000)[np.abs(np.fft.rfft(tone)).argmax()])


def test_detections_equal_those_of_ultralytics(workspace: Path, weights: Path, images: Path) -> None:
    before = {p: p.read_bytes() for p in images.rglob("*") if p.is_file()}
    result = run(images, weights, conf=0.1, imgsz=128)
    folder = Path(result["folder"])
    boxes = pd.read_parquet(folder / "boxes.parquet")
    image_rows = pd.read_parquet(folder / "images.parquet")
    model = load_checkpoint(weights, "")
    for image, path in zip(image_rows["image"], image_rows["path"], strict=True):
        output = model.predict(
            decode(Path(path)), imgsz=128, conf=0.001, iou=0.7, device="cpu", verbose=False
        )[0]
        expected = output.boxes.data.numpy()
        image_boxes = boxes.loc[boxes["image"] == image, BOX_COLUMNS]
        np.testing.assert_allclose(image_boxes, expected[:, :5], atol=1e-3)
    shown = boxes[boxes["confidence"] >= 0.1]
    assert len(pd.read_csv(folder / "boxes.csv")) == len(shown) == result["boxes"] > 0
    assert {p: p.read_bytes() for p in images.rglob("*") if p.is_file()} == before
    assert result["images"] == len(image_rows) == 6


def test_all_tables_agree(workspace: Path, weights: Path, images: Path) -> None:
    result = run(images, weights, conf=0.1, imgsz=128)
    folder = Path(result["folder"])
    shown = pd.read_csv(folder / "boxes.csv").sort_values(["image", "confidence"]).reset_index(drop=True)
    source = open_source(str(images), cache=workspace / "cache")
    results = read_results(folder / "predictions.json", source, source.classes)
    results = results.sort_values(["image", "confidence"]).reset_index(drop=True)
    columns = ["x1", "y1", "x2", "y2"]
    np.testing.assert_allclose(results[columns], shown[columns], atol=0.02)
    coco = json.loads((folder / "coco.json").read_text())
    assert len(coco["annotations"]) == len(shown)
    assert [a["score"] for a in coco["annotations"]] == pytest.approx(
        pd.read_csv(folder / "boxes.csv")["confidence"].tolist(), abs=1e-4
    )
    # YOLO label files: one row per drawn detection, and an empty file for an image without any.
    rows = sum(len(p.read_text().splitlines()) for p in (folder / "labels").rglob("*.txt"))
    assert rows == len(shown)
    assert len(list((folder / "labels").rglob("*.txt"))) == 6
    image = pd.read_parquet(folder / "images.parquet").iloc[0]
    text = (folder / "labels" / Path(image["image"]).with_suffix(".txt")).read_text().splitlines()
    label, x, y, w, h, confidence = map(float, text[0].split())
    image_boxes = shown[shown["image"] == image["image"]]
    nearest = image_boxes.iloc[(image_boxes["confidence"] - confidence).abs().argmin()]
    width, height = image["width"], image["height"]
    corners = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
    np.testing.assert_allclose(nearest[columns].to_numpy(float), corners, atol=0.05)
    assert label == nearest["label"]


def test_images_are_drawn_on_copies_and_no_prediction_is_repeated(
    workspace: Path, weights: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = PredictOptions(source=str(images), weights=weights, conf=0.1, imgsz=128, device="cpu")
    folder = Path(predict(options, QUIET)["folder"])
    drawn = sorted((folder / "images").rglob("*.jpg"))
    assert [p.relative_to(folder / "images") for p in drawn] == [
        p.relative_to(images) for p in sorted(images.rglob("*.jpg"))
    ]
    assert any(
        np.abs(cv2.imread(str(p)).astype(int) - decode(images / p.relative_to(folder / "images"))).max() > 100
        for p in drawn
    )
    monkeypatch.setattr(Detector, "predict_pixels", lambda *_: pytest.fail("predicted again"))
    assert predict(options, QUIET)["folder"] == str(folder)
    # Other settings get another folder; its detections come from the store, so no image is predicted again.
    assert Path(run(images, weights, conf=0.3, imgsz=128)["folder"]).name == "drone-2"


@pytest.mark.parametrize(("sound", "is_copied"), [("aac", True), ("pcm_s16le", False), (None, True)])
@pytest.mark.slow
def test_videos_keep_their_times_and_their_sound(
    workspace: Path, weights: Path, sound: str | None, is_copied: bool
) -> None:
    path = workspace / "clip.mkv"
    times = write_video(path, sound=sound, odd=sound is None)
    result = run(path, weights, conf=0.1, imgsz=64)
    folder = Path(result["folder"])
    assert times_of(folder / "clip.mp4") == pytest.approx([t / 1000 for t in times], abs=1e-9)
    image_rows = pd.read_parquet(folder / "images.parquet")
    assert image_rows["seconds"].tolist() == pytest.approx([(t - times[0]) / 1000 for t in times], abs=5e-4)
    assert image_rows["frame"].tolist() == list(range(len(times)))
    with av.open(str(folder / "clip.mp4")) as container:
        assert len(container.streams.audio) == (sound is not None)
        size = container.streams.video[0].width, container.streams.video[0].height
    assert size == ((SIZE[0] + 2, SIZE[1] + 2) if sound is None else SIZE)
    if sound:
        assert loudest(sound_of(folder / "clip.mp4")) == pytest.approx(440, abs=5)
        assert len(sound_of(folder / "clip.mp4")) == pytest.approx(32000, rel=0.1)
    if sound and is_copied:
        with av.open(str(path)) as first, av.open(str(folder / "clip.mp4")) as second:
            packets = [[bytes(p) for p in c.demux(c.streams.audio[0]) if p.size] for c in (first, second)]
        assert packets[0] == packets[1]


def test_frames_of_a_video_are_predicted_like_images(workspace: Path, weights: Path) -> None:
    path = workspace / "clip.mkv"
    write_video(path, 6)
    result = run(path, weights, imgsz=64, stride=2)
    boxes = pd.read_parquet(Path(result["folder"]) / "boxes.parquet")
    detector = Detector(weights, device="cpu")
    frames = list(Video.open(path).read(0, 2))
    assert [frame.index for frame in frames] == [0, 2, 4]
    for frame in frames:
        expected = detector.predict_pixels([frame.pixels], Settings(64))[0][0]
        frame_boxes = boxes.loc[boxes["frame"] == frame.index, BOX_COLUMNS]
        np.testing.assert_allclose(frame_boxes, expected[:, :5], atol=1e-3)


@pytest.mark.slow
def test_a_killed_prediction_of_a_video_resumes(workspace: Path, weights: Path) -> None:
    path = workspace / "long.mkv"
    times = write_video(path, 600, sound=None)
    command = [SCRIPT, "predict", str(path), "--weights", str(weights), "--imgsz", "64", "--device", "cpu"]
    process = subprocess.Popen(
        command, cwd=workspace, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    parts = workspace / "runs" / "predict" / "long" / ".parts"
    while process.poll() is None and not list(parts.glob("*/*.boxes.parquet")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(parts.glob("*/*.boxes.parquet"))
    outcome = run_script(*command[1:], cwd=workspace)
    assert outcome.code == 0, outcome.stderr
    assert "resuming at frame" in outcome.stderr
    folder = Path(outcome.stdout.strip())
    assert times_of(folder / "long.mp4") == pytest.approx([t / 1000 for t in times], abs=1e-9)
    image_rows = pd.read_parquet(folder / "images.parquet")
    assert image_rows["frame"].tolist() == list(range(600))
    assert not (folder / ".parts").exists()


@pytest.mark.slow
def test_the_result_is_a_domain_of_a_report(workspace: Path, weights: Path, images: Path) -> None:
    clip = workspace / "flight.mkv"
    write_video(clip, 30)
    folders = [Path(run(source, weights, imgsz=128)["folder"]) for source in (images, clip)]
    # With the same weights: the images themselves, whose detections are in the store.
    with_weights = ReportOptions(
        weights=weights,
        in_domain=(None, str(images)),
        real_world=tuple((None, str(f)) for f in folders),
        imgsz=128,
    )
    resolved = resolve_prediction_folders(with_weights, load_run(with_weights), pytest.fail)
    assert [Path(source) for _, source in resolved.real_world] == [images, clip]
    assert resolved.predictions == ()
    predicted = predict_domains(resolved, load_run(resolved), QUIET)
    # Without weights: the detections of the folder; frames of videos are matched by their time.
    without_weights = ReportOptions(
        in_domain=("in_domain", str(folders[0])), real_world=(("flight", str(folders[1])),), imgsz=128
    )
    result = run_report(without_weights, QUIET)
    real_world = result.findings.real_world[0]
    sampled = open_source(str(clip), cache=workspace / "runs" / "frames").images["image"]
    assert sorted(real_world.images["image"]) == sorted(sampled)
    boxes = pd.read_parquet(folders[1] / "boxes.parquet")
    assert len(real_world.detections) == int(boxes["image"].isin(sampled).sum()) > 0
    np.testing.assert_allclose(
        np.sort(result.findings.in_domain.detections["confidence"]),
        np.sort(predicted.domains["in-domain"].detections["confidence"]),
        atol=1e-6,
    )


def test_a_blurred_class_is_not_outlined_and_nothing_else_changes(weights: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    box = np.array([[10, 20, 50, 60, 0.9, 0]], np.float32)
    drawn = draw(pixels, box, ("face",), frozenset({0}))
    inside = drawn[20:60, 10:50].astype(int)
    assert inside.std() < 0.2 * pixels[20:60, 10:50].std()
    outside = np.ones((80, 80), bool)
    outside[20:60, 10:50] = False
    assert (drawn[outside] == pixels[outside]).all()
    plain = draw(pixels, box, ("face",))
    assert (plain[20, 20:40] == plain[20, 20]).all(), "no outline"


def test_tags_stay_inside_the_image() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    corners = [[0, 0, 39, 39], [30, 30, 60, 60], [-9, -9, 5, 5], [38, 0, 40, 3], [50, 50, 60, 60]]
    boxes = np.array([[*c, 0.5, i] for i, c in enumerate(corners)], np.float32)
    assert draw(pixels, boxes, [f"a very long name {i}" for i in range(5)]).shape == pixels.shape


class Camera:
    """A stand-in for cv2.VideoCapture with eight frames."""

    def __init__(self, number: int) -> None:
        self.remaining = 8 if number == 0 else 0

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.remaining -= 1
        time.sleep(0.01)
        return (
            (True, np.full((48, 64, 3), 10 * self.remaining, np.uint8))
            if self.remaining >= 0
            else (False, None)
        )

    def release(self) -> None:
        pass


@pytest.mark.slow
def test_a_camera_is_written_as_a_video(
    workspace: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    result = run("webcam", weights, imgsz=64)
    folder = Path(result["folder"])
    image_rows = pd.read_parquet(folder / "images.parquet")
    assert result["frames"] == len(image_rows) == 8
    assert times_of(folder / "webcam.mp4") == pytest.approx(image_rows["seconds"].tolist(), abs=1e-3)
    # Each prediction of a camera gets a folder.
    assert Path(run("webcam", weights, imgsz=64)["folder"]) != folder
    with pytest.raises(EnvironmentProblem, match="camera 1 gives no image"):
        run("webcam:1", weights, imgsz=64)


def test_ctrl_c_stops_a_camera_and_keeps_its_frames(
    workspace: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Camera):
        def read(self) -> tuple[bool, np.ndarray | None]:
            self.remaining -= 1
            if self.remaining == 0:
                os.kill(os.getpid(), signal.SIGINT)
            return True, np.zeros((48, 64, 3), np.uint8)

    monkeypatch.setattr(cv2, "VideoCapture", Endless)
    result = run("webcam", weights, imgsz=64)
    assert result["frames"] >= 8
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_window_serves_the_newest_image_to_this_machine_only() -> None:
    window = Window(browse=False)
    try:
        window.put(np.full((32, 48, 3), 200, np.uint8))
        with urllib.request.urlopen(window.address, timeout=5) as stream:
            assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            stream.readline()
            stream.readline()
            size = int(stream.readline().split(b":")[1])
            stream.readline()
            shown = cv2.imdecode(np.frombuffer(stream.read(size), np.uint8), cv2.IMREAD_COLOR)
            assert shown.shape == (32, 48, 3)
            threading.Timer(0.2, lambda: window.put(np.full((16, 16, 3), 90, np.uint8))).start()
            stream.readline()
            stream.readline()
            stream.readline()
            size = int(stream.readline().split(b":")[1])
            stream.readline()
            assert cv2.imdecode(np.frombuffer(stream.read(size), np.uint8), cv2.IMREAD_COLOR).shape == (
                16,
                16,
                3,
            )
        request = urllib.request.Request(window.address, headers={"Host": "elsewhere.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=5)
    finally:
        window.close()


def test_unreadable_files_are_reported(workspace: Path, weights: Path) -> None:
    mixed = workspace / "mixed"
    mixed.mkdir()
    write_video(mixed / "good.mkv", 5)
    (mixed / "bad.mp4").write_bytes(b"no video")
    cv2.imwrite(str(mixed / "a.png"), np.zeros((40, 60, 3), np.uint8))
    (mixed / "b.jpg").write_bytes((mixed / "a.png").read_bytes()[:60])
    (mixed / "notes.md").write_text("x")
    result = run(mixed, weights, imgsz=64)
    ledger = pd.read_csv(Path(result["folder"]) / "ledger.csv", index_col="path")
    buckets = {Path(path).name: bucket for path, bucket in ledger["bucket"].items()}
    assert buckets == {
        "good.mkv": "used",
        "bad.mp4": "failed",
        "a.png": "used",
        "b.jpg": "failed",
        "notes.md": "skipped",
    }
    assert any("3 files not used" in line for line in lines(result))
    (workspace / "none").mkdir()
    (workspace / "none" / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="contains no readable image or video"):
        run(workspace / "none", weights, imgsz=64)


def test_each_of_several_videos_of_one_name_is_predicted(workspace: Path, weights: Path) -> None:
    cards = workspace / "cards"
    for folder, frames in (("100", 12), ("101", 20)):
        (cards / folder).mkdir(parents=True)
        write_video(cards / folder / "DJI_0001.mkv", frames, sound=None)
    result = run(cards, weights, imgsz=64)
    folder = Path(result["folder"])
    assert result["frames"] == 32
    image_rows = pd.read_parquet(folder / "images.parquet")
    assert image_rows["image"].is_unique
    assert image_rows["path"].map(lambda path: Path(path).parent.name).value_counts().to_dict() == {
        "100": 12,
        "101": 20,
    }
    assert len(times_of(folder / "100" / "DJI_0001.mp4")) == 12
    assert len(times_of(folder / "101" / "DJI_0001.mp4")) == 20
    # Reports name frames in the same way.
    sampled = open_source(str(cards), cache=workspace / "cache").images["image"]
    assert set(sampled) <= set(image_rows["image"])


def test_each_of_several_videos_that_differ_in_their_suffix_is_drawn(workspace: Path, weights: Path) -> None:
    folder = workspace / "videos"
    folder.mkdir()
    write_video(folder / "a.mkv", 6, sound=None)
    write_video(folder / "a.mov", 9, sound=None)
    result = run(folder, weights, imgsz=64)
    assert len(times_of(Path(result["folder"]) / "a.mkv.mp4")) == 6
    assert len(times_of(Path(result["folder"]) / "a.mov.mp4")) == 9


@pytest.mark.slow
def test_a_video_whose_times_repeat_or_go_back_does_not_stop_the_others(
    workspace: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workspace / "videos"
    folder.mkdir()
    write_video(folder / "a.mkv", 8, sound=None)
    write_video(folder / "b.mkv", 8, sound=None)
    times = iter([0, 40, 40, 20, 80, 80, 120, 160] * 2)
    original = av.VideoFrame.pts

    class Odd:
        def __init__(self, frame: av.VideoFrame) -> None:
            self.frame, self.pts = frame, next(times)

        def __getattr__(self, name: str) -> object:
            return getattr(self.frame, name)

    monkeypatch.setattr("reports.prediction.video.upright", lambda odd: upright(getattr(odd, "frame", odd)))
    read = av.container.InputContainer.decode
    assert original is not None

    def decode_oddly(self: object, stream: object) -> object:
        return (Odd(frame) for frame in read(self, stream))

    class Opened:
        def __init__(self, container: object) -> None:
            self.container = container

        def __enter__(self) -> Opened:
            self.container.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self.container.__exit__(*error)

        def __getattr__(self, name: str) -> object:
            return getattr(self.container, name)

        def decode(self, stream: object) -> object:
            return decode_oddly(self.container, stream)

    opened = av.open
    monkeypatch.setattr(
        "reports.prediction.video.av.open",
        lambda path, *more, **options: (
            Opened(opened(path, *more, **options))
            if str(path).endswith(".mkv")
            else opened(path, *more, **options)
        ),
    )
    result = run(folder, weights, imgsz=64)
    assert result["frames"] == 16
    moments = times_of(Path(result["folder"]) / "a.mp4")
    assert len(moments) == 8
    assert all(first < second for first, second in pairwise(moments))


def test_changed_content_under_the_same_name_is_predicted_again(workspace: Path, weights: Path) -> None:
    inbox = workspace / "inbox"
    inbox.mkdir()
    cv2.imwrite(str(inbox / "a.png"), np.zeros((40, 60, 3), np.uint8))
    options = PredictOptions(source=str(inbox), weights=weights, imgsz=64, device="cpu")
    first = predict(options, QUIET)
    assert predict(options, QUIET)["folder"] == first["folder"]
    cv2.imwrite(str(inbox / "b.png"), np.full((40, 60, 3), 90, np.uint8))
    second = predict(options, QUIET)
    assert (first["images"], second["images"]) == (1, 2)
    assert second["folder"] != first["folder"]


def test_a_prediction_record_from_elsewhere_is_not_followed(workspace: Path, images: Path) -> None:
    foreign = workspace / "foreign"
    foreign.mkdir()
    (foreign / "predict.json").write_text(json.dumps({"finished": True, "sha256": "x", "source": "/etc"}))
    assert resolve_domain((None, str(foreign)), None, pytest.fail) == ((None, str(foreign)), None)


@pytest.mark.slow
def test_frames_that_were_not_predicted_are_not_in_the_domain(
    workspace: Path, weights: Path, images: Path
) -> None:
    clip = workspace / "flight.mkv"
    write_video(clip, 60)
    dense = Path(run(images, weights, imgsz=128)["folder"])
    sparse = Path(run(clip, weights, imgsz=128, stride=7)["folder"])
    report_options = ReportOptions(
        in_domain=("in_domain", str(dense)), real_world=(("flight", str(sparse)),), imgsz=128
    )
    real_world = run_report(report_options, QUIET).findings.real_world[0]
    predicted = set(pd.read_parquet(sparse / "images.parquet")["image"])
    sampled = set(open_source(str(clip), cache=workspace / "runs" / "frames").images["image"])
    assert set(real_world.images["image"]) == predicted & sampled != sampled


def test_a_source_of_several_parts_is_recorded_completely(
    workspace: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    for name in ("a", "b"):
        write_video(workspace / f"{name}.mkv", 3, sound=None)
    result = run("a.mkv,b.mkv", weights, imgsz=64)
    assert result["source"] == f"{workspace / 'a.mkv'},{workspace / 'b.mkv'}"
    assert resolve_domain((None, result["folder"]), "other", lambda line: None)[0] == ("a", result["source"])


def test_invalid_requests_are_refused(workspace: Path, weights: Path, images: Path) -> None:
    (workspace / "taken").mkdir()
    (workspace / "taken" / "x").touch()
    options = PredictOptions(source=str(images), weights=weights, imgsz=64, device="cpu")
    for change, message in (
        ({"source": "gone.mp4"}, "no such file"),
        ({"weights": Path("gone.pt")}, "no such checkpoint"),
        ({"blur": ("face",)}, "no such class"),
        ({"out": workspace / "taken"}, "holds other files"),
        ({"device": "3"}, "this machine has"),
    ):
        with pytest.raises(InputError, match=message):
            predict(replace(options, **change), QUIET)
    outcome = run_in_process("predict", "gone.mp4", "--weights", str(weights), cwd=workspace)
    assert outcome.code == 2
    assert "no such file" in complaint(outcome)
    assert not (workspace / "runs" / "predict").exists()


def test_an_output_folder_is_not_a_dataset(workspace: Path, weights: Path, images: Path) -> None:
    folder = run(images, weights, imgsz=64)["folder"]
    with pytest.raises(InputError, match="was written by 'shiftscope predict'"):
        open_source(folder, cache=workspace / "cache")
