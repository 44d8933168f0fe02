"""Reading images upright and in one place, so that every library downstream gets the same pixels."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

Pixels = npt.NDArray[np.uint8]

# Suffix -> Pillow's name of the format.
_KINDS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jfif", ".jpe"), "JPEG"),
    ".mpo": "MPO",
    ".jp2": "JPEG2000",
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".avif": "AVIF",
}
SUFFIXES = frozenset(_KINDS)
# No other format is tried, whatever the content: Pillow would pass PostScript to an interpreter.
# Pillow opens MPO, several JPEGs in one file, as JPEG.
FORMATS = tuple(sorted(set(_KINDS.values()) - {"MPO"}))
# First bytes of files that are not images, and what they are.
_HEADS = (
    (b"<!doctype", "it is a web page"),
    (b"<html", "it is a web page"),
    (b"<?xml", "it is XML"),
    (b"<svg", "it is a drawing in SVG"),
    (b"gif8", "it is a GIF"),
    (b"%pdf", "it is a PDF"),
    (b"%!ps", "it is PostScript"),
    (b"pk\x03\x04", "it is a zip archive"),
    (b"{", "it is JSON"),
    *(
        (
            head,
            "it is a TIFF of a kind that is not read, as of more than five bands; write its red, green and "
            "blue as 8 bit",
        )
        for head in (b"ii*\x00", b"mm\x00*", b"ii+\x00", b"mm\x00+")
    ),
    (b"version https://git-lfs", "it is a Git LFS pointer: fetch the file with 'git lfs pull'"),
)
MIN_SIDE = 10
# 179 megapixels: Pillow's own decompression-bomb error threshold. Images above it are looked at in tiles
# (`datasets.orthophotos`).
MAX_PIXELS = 178_956_970
# While it is cut, an image takes four bytes a pixel of memory: four gigabytes.
LARGEST = 1_000_000_000
# Pixels a byte above which a large image is no photograph: JPEG at its lowest quality stays below twenty, and
# a file of a few kilobytes that takes gigabytes of memory is an attack.
EMPTIEST = 100
# Held while Pillow's limit, which is one for the whole process, is lifted.
_LIMIT = threading.Lock()
# Cameras of 10, 12 and 14 bits store their values unscaled: the brightest pixel then has less than a quarter
# of the range, and of what is left of it in 8 bits fewer than 64 levels.
DARK_16_BIT = 1 << 14
_TRANSPOSED = frozenset({5, 6, 7, 8})
_TURNS = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


class UnreadableImage(Exception):
    """A file that cannot be used as an image; the message is a reason for the ledger."""


def probe(path: Path) -> tuple[int, int, str]:
    """Read the size of an image from its header alone.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    tuple[int, int, str]
        Width and height in pixels of the upright image, and what is unusual about it, in words.

    Raises
    ------
    UnreadableImage
        If it is not a regular file, empty, not an image, too small, or above a gigapixel.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage("not a regular file")
        if status.st_size == 0:
            raise UnreadableImage("empty file")
        with _open_any_size(path) as image:
            width, height = image.size
            if width * height > LARGEST:
                raise UnreadableImage(
                    "too large (over 1,000 megapixels); cut it into tiles (gdal_retile does)"
                )
            if width * height > max(MAX_PIXELS, EMPTIEST * status.st_size):
                raise UnreadableImage(
                    f"{width * height / 1e6:,.0f} megapixels in {status.st_size:,} bytes: never decoded"
                )
            if image.mode == "F":
                raise UnreadableImage("32-bit values, which no training reads; scale them to 8 bit")
            # Pillow turns TIFFs upright itself and reports their upright size.
            turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) in _TRANSPOSED
            remark = _remark(image, path)
    except (UnidentifiedImageError, ImportError):
        # ImportError: ultralytics patches Pillow to import a HEIF plugin for every file that is not an image.
        raise UnreadableImage(f"not an image ({_content_kind(path)})") from None
    except UnreadableImage:
        raise
    except OSError as error:
        raise UnreadableImage(f"unreadable ({error.strerror or error})") from None
    except Exception as error:  # whatever Pillow's many decoders raise on broken content
        raise UnreadableImage(f"unreadable ({error})") from None
    if min(width, height) < MIN_SIDE:
        raise UnreadableImage(f"too small ({width}x{height}, needs {MIN_SIDE} pixels a side)")
    return (height, width, remark) if turned else (width, height, remark)


@contextlib.contextmanager
def without_limit() -> Iterator[None]:
    """Lift Pillow's limit of 179 megapixels, for an image that `probe` has let through."""
    with _LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _open_any_size(path: Path) -> Image.Image:
    """Open an image of any size; nothing is decoded yet."""
    try:
        return Image.open(path, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        with without_limit():
            return Image.open(path, formats=FORMATS)


def as_colour(image: Image.Image) -> Image.Image:
    """An opened image in 8-bit RGB, of 16 bits the upper eight."""
    if image.mode.startswith("I;16"):
        # Pillow would clip everything above 255; the upper byte is the image.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def orientation(path: Path) -> int:
    """EXIF's orientation of an image file, 1 for one that is upright or says nothing."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return int(image.getexif().get(0x0112, 1))
    except Exception:  # as in `probe`, which has told of it
        return 1


def _remark(image: Image.Image, path: Path) -> str:
    """What is unusual about an image that is used, in words for the ledger."""
    words = []
    kind = str(image.format)
    if _KINDS.get(path.suffix.lower(), kind) != kind:
        words.append(f"content is {kind}, despite its suffix")
    if image.mode not in ("RGB", "L"):
        words.append(f"mode {image.mode}, converted to RGB")
    samples = image.tag_v2.get(277, 1) if isinstance(image, TiffImageFile) else 0
    if samples > len(image.getbands()):
        words.append(f"the first {len(image.getbands())} of {samples} bands")
    if image.mode.startswith("I;16") and (highest := image.getextrema()[1]) < DARK_16_BIT:  # type: ignore[operator]
        words.append(
            f"values of 16 bits that end at {highest}: dark, as in the training; scale them to 65535"
        )
    if getattr(image, "n_frames", 1) > 1 and kind != "MPO":
        words.append(f"the first of {getattr(image, 'n_frames', 1)} pages")
    return "; ".join(words)


def _content_kind(path: Path) -> str:
    """What a file that is not an image probably is, for the ledger."""
    with path.open("rb") as handle:
        head = handle.read(64).lstrip().lower()
    if b"ftyphei" in head or b"ftypmif1" in head:
        return "it is HEIC: convert it to JPEG"
    return next((words for start, words in _HEADS if head.startswith(start)), "unknown content")


def decode(path: Path) -> Pixels:
    """Decode an image.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Pixels
        BGR pixels (H, W, 3) uint8, upright by the EXIF orientation.

    Raises
    ------
    UnreadableImage
        If the file is cut short or broken.
    """
    try:
        raw = path.read_bytes()
        with Image.open(path, formats=FORMATS) as header:
            kind, mode, turn = header.format, header.mode, header.getexif().get(0x0112, 1)
    except OSError as error:
        raise UnreadableImage(f"unreadable ({error.strerror or error})") from None
    except Exception as error:  # as in `probe`
        raise UnreadableImage(f"unreadable ({error})") from None
    if kind == "JPEG" and b"\xff\xd9" not in raw[-64:] and _lacks_only_end_marker(raw):
        raw += b"\xff\xd9"
    intact = kind != "TIFF" and (kind != "JPEG" or b"\xff\xd9" in raw[-64:])
    if intact and mode in ("RGB", "L"):
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None:
            upright = _TURNS[turn](pixels) if turn in _TURNS else pixels
            return np.ascontiguousarray(upright, dtype=np.uint8)
    # Unusual modes, TIFFs (which some versions of OpenCV turn upright) and JPEGs without an end marker are
    # left to Pillow, which reads strictly and raises when data is missing.
    try:
        with Image.open(path, formats=FORMATS) as image:
            colour = np.asarray(as_colour(ImageOps.exif_transpose(image)))
    except Exception as error:  # as in `probe`
        raise UnreadableImage("cut short" if "truncated" in str(error) else f"broken ({error})") from None
    return np.ascontiguousarray(colour[..., ::-1])


def decode_thumbnail(path: Path, side: int) -> Pixels:
    """Decode an image at a small size; a JPEG takes a fraction of the time of `decode`.

    Parameters
    ----------
    path
        The file.
    side
        Longer side of the result in pixels; a smaller image keeps its size.

    Returns
    -------
    Pixels
        BGR pixels (H, W, 3) uint8, upright by the EXIF orientation.

    Raises
    ------
    UnreadableImage
        If the file is cut short or broken.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                image.draft("RGB", (side, side))
                small = ImageOps.exif_transpose(image).convert("RGB")
                small.thumbnail((side, side))
                return np.ascontiguousarray(np.asarray(small)[..., ::-1])
    except Exception as error:  # as in `probe`
        raise UnreadableImage(f"broken ({error})") from None
    pixels = decode(path)
    scale = min(1.0, side / max(pixels.shape[:2]))
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _lacks_only_end_marker(raw: bytes) -> bool:
    """Whether a JPEG without end marker is otherwise complete.

    Decoders fill missing data, which begins with the last block, with blocks of a constant value.
    """
    filled = cv2.imdecode(
        np.frombuffer(raw + b"\xff\xd9", np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    )
    if filled is None:
        return False
    # Blocks start at the top left and the last ones may extend beyond the image, so only whole ones count.
    height, width = (side // 8 * 8 for side in filled.shape)
    return bool(np.ptp(filled[max(height - 8, 0) : height, max(width - 8, 0) : width]) > 2)


def statistics(pixels: Pixels) -> dict[str, float]:
    """Measure interpretable properties of an image, independent of its size.

    Parameters
    ----------
    pixels
        BGR pixels (H, W, 3).

    Returns
    -------
    dict[str, float]
        brightness, contrast: mean and standard deviation of grey, in [0, 1].
        saturation: mean, in [0, 1].
        sharpness: log10 of the variance of the Laplacian at a width of 256 pixels.
        top_light: mean grey of the top quarter minus that of the bottom half (sky), in [-1, 1].
        texture_gradient: log10 ratio of edge energy in the upper half to that in the lower half. At a shallow
        angle a road's texture is compressed towards the horizon; from above it is uniform. With top_light it
        serves as a proxy of the viewpoint.
        mean_b ... spread_r: mean and standard deviation of each channel, in [0, 255].
    """
    small = cv2.resize(
        pixels, (256, max(8, round(256 * pixels.shape[0] / pixels.shape[1]))), interpolation=cv2.INTER_AREA
    )
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    energy = np.square(edges)
    half, quarter = grey.shape[0] // 2, grey.shape[0] // 4
    # NumPy reduces an axis of three values twenty times as slowly.
    blue, green, red = cv2.split(small)
    high = np.maximum(np.maximum(blue, green), red).astype(np.float32)
    low = np.minimum(np.minimum(blue, green), red).astype(np.float32)
    mean, spread = cv2.meanStdDev(small)
    channels = {
        f"{statistic}_{name}": float(values[i, 0])
        for statistic, values in (("mean", mean), ("spread", spread))
        for i, name in enumerate("bgr")
    }
    return {
        **channels,
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "saturation": float(((high - low) / np.maximum(high, 1)).mean()),
        "sharpness": float(np.log10(edges.var() + 1e-8)),
        "top_light": float(grey[:quarter].mean() - grey[half:].mean()),
        "texture_gradient": float(np.log10((energy[:half].mean() + 1e-8) / (energy[half:].mean() + 1e-8))),
    }


def descriptor(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Image descriptor without a learned model.

    A detector's own features can ignore changes that did not matter in training; these do not. Entries are
    scaled to a standard deviation of about one over ordinary images.

    Parameters
    ----------
    pixels
        BGR pixels (H, W, 3).

    Returns
    -------
    npt.NDArray[np.float32]
        (84,): Lab colours on a grid of 4 by 4, divided by 32 (48 values), then per quarter of the image the
        square root of each edge direction's share of the edge energy, times 4 (36 values).
    """
    small = cv2.resize(pixels, (128, 128), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_BGR2LAB)
    colours = cv2.resize(lab, (4, 4), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 32
    grey = lab[..., 0].astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    energy, direction = cv2.cartToPolar(across, down)
    bins = np.minimum((direction % np.pi / np.pi * 9).astype(int), 8)
    quarter = (np.arange(128)[:, None] // 64) * 2 + np.arange(128)[None] // 64
    histogram = np.bincount((quarter * 9 + bins).ravel(), energy.ravel(), minlength=36).reshape(4, 9)
    edges = 4 * np.sqrt(histogram / np.maximum(histogram.sum(1, keepdims=True), 1e-6))
    return np.concatenate([colours, edges.ravel()]).astype(np.float32)


def difference_hash(pixels: Pixels) -> bytes:
    """256-bit gradient hash (32 bytes): near-duplicates differ in few bits, unrelated images in half."""
    small = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), (17, 16), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()
