"""torch-fidelity's Inception network with random weights, without a download.

The peer of benchmarks/features.py and of the parity tests.
"""

import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch
from torch import nn

DECLARED: list[torch.library.Library] = []  # an operator exists as long as its library


def torchvision() -> ModuleType:
    """Import torchvision for its networks in pure Python.

    The compiled operators of its wheels load with one build of PyTorch only. With
    another, the import fails because two operators that it annotates are missing; these
    are then declared, since nothing here calls them.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        DECLARED.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            DECLARED[-1].define(
                f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision
    return torchvision


def save_random(path: Path, seed: int = 0) -> Path:
    """Save random weights in the format of torch-fidelity's file; return the path.

    Activations neither vanish nor explode. `num_batches_tracked` is included.
    """
    torchvision()
    from torch_fidelity import feature_extractor_inceptionv3 as owner

    with (
        mock.patch.object(owner.torch, "load", return_value={}),
        mock.patch.object(owner.FeatureExtractorInceptionV3, "load_state_dict", return_value=None),
    ):
        state = owner.FeatureExtractorInceptionV3("random", ["2048"], "no file").state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, value in state.items():
        if name.endswith("conv.weight"):
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.8, 1.25, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)
        elif name == "fc.weight":
            value.normal_(0, 0.02, generator=generator)
    torch.save(state, path)
    return path


def build(path: Path, taps: tuple[str, ...] = ("2048",)) -> nn.Module:
    """torch-fidelity's extractor: uint8 [n, 3, h, w] -> a tuple of taps [n, d]."""
    torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("peer", list(taps), feature_extractor_weights_path=str(path))
