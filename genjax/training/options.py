"""The options of every training script, by group.

Comments become the text of --help.
"""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What is trained on."""

    # digits | a folder or zip of images | .npz | a folder of idx files | tfds:NAME
    data: str = "digits"
    split: str = "train"  # part of the data, where the data have parts
    # SIZE, or HEIGHT WIDTH, to resize to; default: the size of the images, or of most
    # of them
    resolution: tuple[int, ...] = ()
    # how images of other proportions are resized: center (crop) | none (stretch) |
    # whole (left out)
    crop: str = "center"
    channels: int = 0  # 1, 3 or 4; 0: 1 if all images are grey, else 3
    # SIZE, or HEIGHT WIDTH, of a random crop of each image, a new one each time
    random_crop: tuple[int, ...] = ()
    flip: bool = False  # mirror each image left to right with probability 1/2
    max_bad: float = 0.01  # largest share of unreadable files that is skipped
    # decoded sets of up to this many MB stay on the device; larger ones are streamed
    resident_mb: float = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How long, where to, from what."""

    # folder of the run; default: runs/MODEL. The same command again resumes
    out: Path | None = None
    steps: int = 5000  # number of optimizer steps in all
    batch_size: int = 128  # images per step, over all devices
    seed: int = 0  # seed of the weights, the order of the data and all noise
    dtype: str = "float32"  # dtype of the computation: float32 | bfloat16
    log_every: int = 200  # interval in steps of log rows
    sample_every: int = 1000  # interval in steps of sample grids
    save_every: int = 1000  # interval in steps of checkpoints
    keep: int = 2  # number of newest checkpoints that are retained, beside the best
    # interval in steps of checkpoints that are never removed, a multiple of
    # --save-every; 0: none
    keep_every: int = 0
    # run folder, also of converted weights, to start from where its weights fit
    transfer: Path | None = None
    fork: bool = False  # resume although settings have changed
    tensorboard: bool = False  # write OUT/tensorboard too
    # trace this many steps after the programs are compiled, into OUT/profile, for
    # TensorBoard or Perfetto; 0: none
    profile: int = 0
    # on GPUs: the same bits in every run, by slower sums (--xla_gpu_deterministic_ops)
    deterministic: bool = False
    # compile the programs, print their memory and what would be written, and end
    dry_run: bool = False
    # several processes: auto (SLURM, Cloud TPU, Open MPI) | ADDRESS:PORT,COUNT,INDEX
    distributed: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Measuring samples during training."""

    # interval in steps of measuring the distance of samples to the data, which selects
    # the best checkpoint; 0: none
    eval_every: int = 0
    eval_images: int = 2048  # number of samples that are measured
    # features: inception, vgg16, alexnet, resnet20, resnet32 or lenet, read from
    # GENJAX_WEIGHTS, or pixels
    eval_extractor: str = "inception"


GROUPS = {"data": DataOptions, "run": RunOptions, "evaluation": EvaluationOptions}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DataOptions, RunOptions, EvaluationOptions):
    """The options of every training script."""
