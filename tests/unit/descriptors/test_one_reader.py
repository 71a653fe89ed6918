"""Every reader of photos treats the same files in the same way: the library, verify, the server and the report."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from vpr.config.errors import UserError
from vpr.data.images import as_rgb, formats, open_image, open_pixels
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


def xmp_first(jpeg: bytes) -> bytes:
    """Return a JPEG with a segment of XMP before its other segments."""
    segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


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
    "xmp first.jpg": xmp_first(turned(6)),
    "long orientation.jpg": turned(6).replace(
        b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00", b"\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00\x06"
    ),
    "bad exif.jpg": saved(COLOURS, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01garbage"),
    "progressive.jpg": saved(COLOURS, "JPEG", progressive=True),
    "half.jpg": saved(COLOURS, "JPEG")[:600],
    "half.png": saved(COLOURS, "PNG")[:200],
    "empty.jpg": b"",
    "text.jpg": b"<html>not found</html>",
}
if "HEIF" in formats():
    FILES |= {"phone.heic": saved(COLOURS, "HEIF"), "turned.heic": turned(6, "HEIF")}


UPRIGHT = {
    o: np.asarray(COLOURS if o in (0, 1, 9) else COLOURS.transpose(turn))
    for o, turn in {
        0: None, 1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90, 9: None,
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_turned_upright(tmp_path, kind, orientation, loaded):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    (tmp_path / "a").write_bytes(saved(COLOURS, kind, exif=exif, **options))
    with Image.open(tmp_path / "a") as image:
        if loaded:
            image.load()
        for pixels in (
            open_image(tmp_path / "a"),
            as_rgb(image),
            np.asarray(open_pixels(tmp_path / "a")).transpose(1, 2, 0),
        ):
            found = np.asarray(pixels).astype(float)
            assert found.shape == UPRIGHT[orientation].shape
            assert np.abs(found - UPRIGHT[orientation]).mean() < (30 if kind in ("JPEG", "AVIF", "WEBP") else 0.01)


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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"])
def test_an_image_of_pillow_may_have_any_mode_with_8_bits(mode):
    via = {"La": "LA", "RGBa": "RGBA", "LAB": None}.get(mode, mode)
    image = Image.new("LAB", SIZE) if via is None else COLOURS.convert(via).convert(mode)
    assert as_rgb(image).mode == "RGB"


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


def test_bytes_in_any_form_are_a_photo():
    content = FILES["JPEG.JPEG"]
    expected = np.asarray(as_pixels(content, NEAREST))
    for form in (bytearray(content), memoryview(content), io.BytesIO(content)):
        np.testing.assert_array_equal(np.asarray(as_pixels(form, NEAREST)), expected)


def test_photos_that_fail_only_when_they_are_read_end_in_a_sentence(tmp_path):
    content = FILES["JPEG.JPEG"]
    (tmp_path / "half.jpg").write_bytes(content[: content.index(b"\xff\xda") + 20])  # the header and hardly a pixel
    with Image.open(tmp_path / "half.jpg") as half, pytest.raises(UserError, match="photo: cannot be decoded"):
        as_pixels(half, NEAREST)
    closed = Image.open(tmp_path / "half.jpg")
    closed.close()
    with pytest.raises(UserError, match="photo: cannot be decoded"):
        as_pixels(closed, NEAREST)
    with pytest.raises(UserError, match="an image without pixels"):
        as_pixels(np.zeros((0, 5, 3), np.uint8), NEAREST)


def test_each_part_of_a_path_may_have_another_form_of_unicode(tmp_path):
    place = tmp_path / "m\u00fcller"
    place.mkdir()
    (place / "Zu\u0308rich.jpg").write_bytes(FILES["JPEG.JPEG"])
    assert open_image(tmp_path / "m\u00fcller" / "Z\u00fcrich.jpg").size == COLOURS.size
