"""Attributes that cameras and drones write: into the file, and beside a video."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from datasets.capture import of_image, read_subtitles, with_capture
from datasets.source import open_source

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" drone-dji:RelativeAltitude="+{altitude}" '
    'drone-dji:GimbalPitchDegree="-90.00" drone-dji:FlightXSpeed="+3.0" drone-dji:FlightYSpeed="-4.0" '
    'drone-dji:GpsLatitude="47.3" /></rdf:RDF></x:xmpmeta>'
)
# Three generations of DJI's subtitles.
SUBTITLES = """1
00:00:00,000 --> 00:00:00,033
<font size="28">FrameCnt: 1, DiffTime: 33ms
2023-05-12 14:11:12.345
[iso: 100] [latitude: 22.5] [longitude: 113.9] [rel_alt: 1.300 abs_alt: 45.8] [gb_yaw: 1.0 gb_pitch: -89.9 gb_roll: 0.0] </font>

2
00:00:01,000 --> 00:00:01,033
F/2.8, SS 206.14, ISO 150, EV 0, GPS (8.4949, 47.3680, 18), D 21.35m, H 50.10m, H.S 3.70m/s, V.S 0.00m/s

3
00:00:02,5 --> 00:00:02,533
HOME(149.02,-20.25) 2017.08.05 23:11:51
GPS(149.02,-20.25,16) BAROMETER:80.9
"""


def photo(path: Path, altitude: float, hour: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(int(altitude)).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "DJI", "FC3582"
    exif.get_ifd(0x8769)[0x9003] = f"2023:05:12 {hour:02d}:11:12"
    exif.get_ifd(0x8825)[2] = (47.0, 22.0, 1.0)
    Image.fromarray(pixels).save(path, exif=exif, xmp=XMP.format(altitude=altitude).encode())
    return path


def test_a_drones_photo_says_how_it_was_taken_and_not_where(tmp_path: Path) -> None:
    for number, altitude in enumerate((12.5, 60.0)):
        photo(tmp_path / "d" / f"DJI_{number:04d}.jpg", altitude, 9 + number)
    source = with_capture(open_source(str(tmp_path / "d"), cache=tmp_path / "cache"))
    images = source.images
    assert images["own:altitude_m"].tolist() == [12.5, 60.0]
    assert images["own:gimbal_pitch_deg"].tolist() == [-90.0, -90.0]
    assert images["own:speed_m_s"].tolist() == [5.0, 5.0]
    assert images["own:hour"].tolist() == [9.0, 10.0]
    assert images["own:camera"].unique().tolist() == ["DJI FC3582"]
    assert "47" not in images.drop(columns="path").to_csv()


def test_numbers_written_as_fractions_are_divided(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", 3020, 9)
    path.write_bytes(path.read_bytes().replace(b'"+3020"', b'"3020/100"').replace(b'"-90.00"', b'"-9000/0"'))
    found = of_image(path)
    assert found["altitude_m"] == 30.2
    assert "gimbal_pitch_deg" not in found


def test_other_images_say_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"Exif not an image http://ns.adobe.com/xap")
    assert (
        of_image(tmp_path / "a.png") == of_image(tmp_path / "b.jpg") == of_image(tmp_path / "none.jpg") == {}
    )


@pytest.mark.parametrize("content", ["", "no times", "00:00:01,0 --> \n[rel_alt: x]", "\x00" * 50])
def test_broken_subtitles_give_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.srt").write_text(content)
    assert all(record == {} for record in read_subtitles(tmp_path / "a.srt")[1])


def test_subtitles_beside_a_video_belong_to_its_frames(tmp_path: Path) -> None:
    flight = tmp_path / "flights" / "DJI_0001.mp4"
    flight.parent.mkdir()
    with av.open(str(flight), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(31):
            pixels = np.random.default_rng(number // 4).integers(0, 255, (6, 8, 3), dtype=np.uint8)
            picture = pixels.repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    flight.with_suffix(".SRT").write_text(SUBTITLES)
    for spec in (flight, flight.parent):
        images = with_capture(open_source(str(spec), cache=tmp_path / "cache")).images.set_index("seconds")
        altitude = images["own:altitude_m"]
        assert altitude.iloc[0] == 1.3
        assert set(altitude[(altitude.index >= 1.0) & (altitude.index < 2.5)]) == {50.1}
        assert set(altitude[altitude.index >= 2.5]) == {80.9}
        assert images["own:gimbal_pitch_deg"].iloc[0] == -89.9
        assert images["own:hour"].iloc[0] == 14
        assert images["own:hour"].iloc[-1] == 23
