"""The settings of experiments.edm, and its presets."""

import dataclasses
from typing import Literal

from experiments.lib import tables


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of one run; JSON holds them all."""

  run_dir: str
  """Where everything is written; an existing run is resumed."""
  data: str = "digits"
  """digits, digits:LABEL, photos, gaussian, eight_gaussians, moons, s_curve,
  checkerboard, swiss_roll, pinwheel, ring, tfds:NAME, file:PATH.npz or
  folder:PATH."""
  image_size: int = 32
  """Sides of photos' crops; other data have their own."""
  flip: bool = False
  """Mirror half of the training images left to right."""
  data_dir: str | None = None
  """Where tfds sets were prepared; None is tensorflow-datasets' default."""
  seed: int = 0
  """Of parameters, batches, noise and samples."""

  path: tables.PathName = "edm"
  """x_t = alpha(t) data + sigma(t) noise."""
  prediction: tables.PredictionName = "edm"
  """What the network outputs."""
  weight: tables.WeightName = "uniform"
  """On the squared error: uniform of the prediction, others as in levels."""
  draw: tables.DrawName = "normal"
  """How t is drawn: normal is of log(sigma / alpha), truncated."""
  level_mean: float = -0.4
  """Mean of log(sigma / alpha) in the normal draw."""
  level_std: float = 1.2
  """Its standard deviation."""
  ratio_min: float = 0.002
  """Smallest noise ratio sigma / alpha, in training and sampling."""
  ratio_max: float = 80.0
  """Largest noise ratio."""
  sigma_data: float | None = None
  """Standard deviation of the data; None measures it."""
  label_dropout: float = 0.0
  """Part of the labels replaced by the null label."""

  model: Literal["auto", "unet", "dit", "mlp"] = "auto"
  """Network; auto is the U-Net for images and the MLP for points."""
  width: int = 32
  """Channels of the U-Net at full size, features of the DiT or MLP."""
  multipliers: tuple[int, ...] = (1, 2)
  """Of width, one a level of the U-Net."""
  attention: tuple[int, ...] = (4,)
  """Image sizes at which the U-Net attends."""
  skips: Literal["add", "concat"] = "add"
  """Of the U-Net: added, or concatenated as in DDPM++, with more blocks."""
  num_blocks: int = 1
  """Blocks a level of the U-Net, or of the DiT; hidden layers of the MLP."""
  patch: int = 2
  """Side of the DiT's patches."""
  num_heads: int = 1
  """Of attention."""
  attention_implementation: Literal["xla", "cudnn"] = "xla"
  """cudnn: on NVIDIA GPUs, with bfloat16; either takes the same parameters."""
  dropout: float = 0.0
  """Of activations."""
  dtype: Literal["float32", "bfloat16"] = "float32"
  """Of activations; parameters stay float32."""
  shard: tables.ShardName = "replicated"
  """Parameters, optimizer and averages: on every device, or split over them."""

  num_steps: int = 2600
  """Training steps."""
  batch_size: int = 64
  """Examples a step."""
  learning_rate: float = 3e-3
  """Of Adam, at its peak."""
  adam_b2: float = 0.99
  """Decay of Adam's second moment."""
  schedule: Literal["cosine", "constant"] = "cosine"
  """Of the learning rate after its warm-up: to zero, or none."""
  warmup_steps: int = 100
  """Steps of linear warm-up."""
  clip_norm: float = 1.0
  """Largest norm of the gradient."""
  ema_decay: tuple[float, ...] = (0.999,)
  """Of averages of the parameters; the first average is sampled."""
  ema_length: tuple[float, ...] = ()
  """Of EDM2's averages, relative to training: .05 .1 recombine to any."""
  snapshot_every: int = 100
  """Steps between snapshots of EDM2's averages."""

  solver: tables.SolverName = "heun"
  """Sampler."""
  churn: float = 10.0
  """Amount of the solver churn."""
  grid: tables.GridName = "karras"
  """Times of sampling."""
  sample_steps: int = 17
  """Steps of sampling; a final denoise is one more call."""
  sample_path: tables.PathName | None = None
  """Path to sample on; None is that of training."""

  log_every: int = 20
  """Steps between records of metrics.jsonl."""
  save_every: int = 500
  """Steps between checkpoints."""
  keep: int = 2
  """Checkpoints kept, the latest."""
  samples_every: int = 650
  """Steps between small sheets of samples."""


# What presets of all scripts share.
SMOKE = dict(
  num_steps=20,
  warmup_steps=5,
  batch_size=16,
  sample_steps=4,
  log_every=5,
  save_every=10,
  samples_every=10,
)
PHOTOS = dict(
  data="photos",
  multipliers=(1, 2, 2),
  attention=(8,),
  num_steps=1500,
  batch_size=32,
  learning_rate=2e-3,
)
POINTS = dict(
  data="eight_gaussians",
  level_mean=0.5,  # the points' std is 3.6, where EDM's -1.2 is for .5
  width=128,
  num_blocks=3,
  num_steps=5000,
  batch_size=512,
  learning_rate=2e-3,
  log_every=50,
  save_every=1000,
  samples_every=1000,
)

PRESETS = {
  "smoke": (
    "Digits in seconds: every part runs, nothing is learned.",
    Config(run_dir="runs/smoke", width=8, multipliers=(1, 1), **SMOKE),
  ),
  "digits": (
    "Class-conditional 8 x 8 digits: one to three minutes on two CPU cores.",
    Config(run_dir="runs/digits"),
  ),
  "digits-dit": (
    "The digits by a diffusion transformer: some minutes on two CPU cores.",
    Config(
      run_dir="runs/digits-dit",
      model="dit",
      width=128,
      num_blocks=4,
      num_heads=4,
      num_steps=4000,
      learning_rate=1e-3,
      warmup_steps=200,
    ),
  ),
  "photos": (
    "32 x 32 crops of two photographs: ten minutes on two CPU cores.",
    Config(run_dir="runs/photos", **PHOTOS),
  ),
  # python -m experiments.edm cifar10 --run-dir runs/cifar10
  # Karras et al. 2022, class-conditional DDPM++: 200 M images, about 2 days on
  # 8 V100 as they publish; FID 1.79, the lowest of 3 draws of 50,000 samples.
  # Not trained by us. Differences: flips instead of their augmentation pipe,
  # to which they owe a part of the score; 49,000 images, as 1000 are held out
  # for validation; gradients clipped at norm 1; the U-Net's, see
  # jaxgen/models/unet.py.
  "cifar10": (
    "CIFAR-10 with the published settings of EDM: days on 8 GPUs.",
    Config(
      run_dir="runs/cifar10",
      data="tfds:cifar10",
      flip=True,
      sigma_data=0.5,
      level_mean=-1.2,
      width=128,
      multipliers=(2, 2, 2),
      attention=(16,),
      skips="concat",
      num_blocks=4,
      dropout=0.13,
      num_steps=390_625,
      batch_size=512,
      learning_rate=1e-3,
      adam_b2=0.999,
      schedule="constant",
      warmup_steps=19_531,
      ema_decay=(0.99929,),  # half-life of .5 M images
      sample_steps=17,
      log_every=100,
      save_every=5000,
      samples_every=10_000,
    ),
  ),
  "toy": (
    "A law on the plane, eight Gaussians unless --data says another.",
    Config(run_dir="runs/toy", **POINTS),
  ),
}
