"""The entry point of torch.hub: ``torch.hub.load(".", "vpr", "megaloc", source="local")`` in a clone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

dependencies = [
    "torch", "torchvision", "timm", "numpy", "pandas", "PIL", "pydantic", "yaml", "tqdm", "requests", "filelock",
    "zstandard", "psutil", "torchcodec",
]  # fmt: skip


def vpr(name: str = "megaloc", device: str = "cpu"):
    """Return a model that maps images ``(B, 3, H, W)``, uint8 at ``spec.image_size``, to descriptors ``(B, D)``.

    Args:
        name: Name or path of the model, see ``vpr.load``.
        device: ``cpu``, ``cuda`` or ``auto``.
    """
    from vpr.api.load_model import load

    return load(name, device).network
