"""``torch.hub.load("<this repository>", "vpr", "megaloc")``: a model by its name, as a torch module."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

dependencies = [
    "torch", "torchvision", "timm", "numpy", "pandas", "PIL", "pydantic", "yaml", "tqdm", "requests", "filelock",
    "zstandard", "psutil", "torchcodec",
]  # fmt: skip


def vpr(name: str = "megaloc", device: str = "cpu"):
    """A model from images ``(B, 3, H, W)``, uint8 of its ``spec.image_size``, to descriptors ``(B, D)`` of unit norm.

    Args:
        name: of ``vpr models``, or a checkpoint's path; see ``vpr.load``.
        device: ``cpu``, ``cuda`` or ``auto``.
    """
    from vpr.api.models import load

    return load(name, device).network
