"""Every reader of photos treats the same files in the same way: the library, verify, the server and the report."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from vpr.config.errors import UserError
from vpr.data.images import formats, open_image, open_pixels
from vpr.data.preprocess import Preprocess
from vpr.descriptors.trained_model import as_pixels
from vpr.serving.photos import from_file, read_photo
from vpr.verification.read_files import read_all_files

SIZE = (24, 32)
NEAREST = Preprocess(SIZE)
RNG = np.random.default_rng(0)
COLOURS = Image.fromarray(np.kron(RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8), np.ones((4, 4, 1), dtype=np.uint8)))
DEEP = Image.fromarray(RNG.integers(0, 65536, (24, 32)).astype(np.uint16))
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned(orientation: int, kind: str = "JPEG", rational: bool = False) -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    if rational:
        exif[0x829A] = TiffImagePlugin.IFDRational(77, 3)
    content = saved(COLOURS, kind, exif=exif)
    for order in ("little", "big"):
        plain, negative = (n.to_bytes(4, order, signed=True) + (3).to_bytes(4, order) for n in (77, -77))
        content = content.replace(plain, negative)
    return content


KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "TGA", "AVIF", "JPEG2000"]
FILES: dict[str, bytes] = {f"{kind}.{kind}": saved(COLOURS, kind) for kind in KINDS}
FILES |= {f"turned {o}.jpg": turned(o) for o in range(10)}
FILES |= {f"turned {o} with a negative rational.jpg": turned(o, rational=True) for o in range(1, 9)}
FILES |= {f"turned {o}.png": turned(o, "PNG") for o in (3, 6, 8)}
FILES |= {f"turned {o}.webp": turned(o, "WEBP") for o in (3, 6, 8)}
FILES |= {f"turned {o}.tif": saved(COLOURS, "TIFF", tiffinfo={274: o}) for o in (3, 6, 8)}
FILES |= {
    f"{mode} {kind}": saved(COLOURS.convert(mode), kind)
    for mode, kinds in {
        "L": ("JPEG", "PNG", "TIFF", "PPM"), "CMYK": ("JPEG", "TIFF"), "RGBA": ("PNG", "WEBP", "TIFF"),
        "P": ("PNG", "GIF"), "1": ("PNG", "TIFF"), "LA": ("PNG",), "YCbCr": ("JPEG",),
    }.items()
    for kind in kinds
}  # fmt: skip
FILES |= {
    "16 bits.png": saved(DEEP, "PNG"),
    "16 bits.tif": saved(DEEP, "TIFF"),
    "32 bits.tif": saved(Image.fromarray(np.arange(768, dtype=np.int32).reshape(24, 32)), "TIFF"),
    "floating point.tif": saved(Image.fromarray(np.ones((24, 32), dtype=np.float32)), "TIFF"),
    "xmp.jpg": saved(COLOURS, "JPEG", xmp=XMP),
    "bad exif.jpg": saved(COLOURS, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01garbage"),
    "progressive.jpg": saved(COLOURS, "JPEG", progressive=True),
    "half.jpg": saved(COLOURS, "JPEG")[:600],
    "half.png": saved(COLOURS, "PNG")[:200],
    "empty.jpg": b"",
    "text.jpg": b"<html>not found</html>",
}
if "HEIF" in formats():
    FILES |= {"phone.heic": saved(COLOURS, "HEIF"), "turned.heic": turned(6, "HEIF")}


def pixels_or_none(read) -> np.ndarray | None:
    try:
        return np.asarray(read())
    except UserError:
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    return place


def test_there_are_sixty_files():
    assert len(FILES) >= 60


@pytest.mark.parametrize("name", FILES)
def test_all_readers_see_the_same_pixels(folder, name):
    path = folder / name
    pixels = pixels_or_none(lambda: open_pixels(path))
    as_image = pixels_or_none(lambda: open_image(path))
    (verified,) = read_all_files(folder, [name], 1, "local").to_dict("records")
    served = pixels_or_none(lambda: read_photo(from_file(path), name))
    assert (pixels is None) == (as_image is None) == (served is None) == (verified["problem"] != "")
    described = [pixels_or_none(lambda form=form: as_pixels(form, NEAREST)) for form in (path, str(path), FILES[name])]
    if pixels is None:
        assert all(found is None for found in described)
        return
    for found in (as_image, served):
        np.testing.assert_array_equal(found.transpose(2, 0, 1), pixels)
    assert (verified["height"], verified["width"]) == pixels.shape[1:]
    with Image.open(path) as lazily:
        described.append(np.asarray(as_pixels(lazily, NEAREST)))
    described += [np.asarray(as_pixels(form, NEAREST)) for form in (as_image, np.ascontiguousarray(as_image))]
    for found in described:
        np.testing.assert_array_equal(found, described[0])


def test_a_missing_file_is_said_to_be_missing(folder):
    for read in (open_image, open_pixels, lambda path: as_pixels(path, NEAREST)):
        with pytest.raises(UserError, match=r"gone\.jpg: no such file"):
            read(folder / "gone.jpg")


def test_a_name_with_an_accent_is_found_however_unicode_writes_it(tmp_path):
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    for on_disk, asked in ((composed, decomposed), (decomposed, composed)):
        place = tmp_path / str(len(on_disk))
        place.mkdir()
        (place / on_disk).write_bytes(FILES["JPEG.JPEG"])
        assert open_image(place / asked).size == COLOURS.size
        assert read_all_files(place, [asked], 1, "local")["problem"].tolist() == [""]
