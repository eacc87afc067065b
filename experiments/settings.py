"""Groups of settings; the Config of a script inherits the groups that it needs.

A Config is flat: its fields are the flags of the command line and the entries
of config.json. List the groups with `Run` last: dataclasses order the fields
from the last base to the first, and the script's own fields follow. A script
repeats a field to change its default.
"""

import dataclasses
from typing import Literal

from experiments.lib import choices


@dataclasses.dataclass(frozen=True)
class Run:
  """The run itself."""

  run_dir: str
  """Directory of the run; the same settings resume it."""
  seed: int = 0
  """Seed of parameters, batches, noise and samples, from 0 to 2^32 - 1."""
  start: str | None = None
  """Run directory, or .safetensors file of `export`, whose weights training
  starts from; None starts anew."""


@dataclasses.dataclass(frozen=True)
class Data:
  """The dataset."""

  data: str = "digits"
  """Dataset: digits, binary_digits, digits:fold-K and binary_digits:fold-K
  (fold 0 to 9 of ten), digits:LABEL, photos, gaussian, eight_gaussians, moons,
  s_curve, checkerboard, swiss_roll, pinwheel, ring, gaussian:DIM:MEAN
  (N(MEAN, I)), tfds:NAME, file:PATH.npz (images or points), file:PATH.zip or
  folder:PATH."""
  image_size: int | None = None
  """Side in pixels to which the center of images is resized; None keeps their
  size. For photos, the side of the crops; None is 32."""
  convert: bool = False
  """Accept transparent pixels, composited on white, and 16 bits per channel,
  cut to 8, in a folder or zip."""
  flip: bool = False
  """Mirror half of the training images left to right."""
  data_dir: str | None = None
  """Directory of prepared TFDS datasets; None is the default of TFDS."""


@dataclasses.dataclass(frozen=True)
class SecondStage:
  """What is modelled."""

  codec: str | None = None
  """Run directory of a first stage, whose latents of the images are modelled in
  place of the images; None models the data themselves."""


@dataclasses.dataclass(frozen=True)
class Noise:
  """The path, the prediction of the network, and the distribution of t."""

  path: choices.PathName = "edm"
  """Path x_t = alpha(t) data + sigma(t) noise."""
  prediction: choices.PredictionName = "edm"
  """What the network predicts."""
  weight: choices.WeightName = "uniform"
  """Weight of the squared error, as in jaxgen.levels; uniform is 1."""
  draw: choices.DrawName = "normal"
  """Distribution of t; normal is a truncated normal of log(sigma / alpha)."""
  level_mean: float = -0.4
  """Mean of log(sigma / alpha) in the normal distribution of t."""
  level_std: float = 1.2
  """Standard deviation of log(sigma / alpha), positive."""
  ratio_min: float = 0.002
  """Smallest noise ratio sigma / alpha in training and sampling, positive."""
  ratio_max: float = 80.0
  """Largest noise ratio in training and sampling, above ratio_min."""
  sigma_data: float | None = None
  """Standard deviation of the data, positive; None measures it."""
  label_dropout: float = 0.0
  """Fraction of labels replaced by the null label, from 0 to 1."""


@dataclasses.dataclass(frozen=True)
class Network:
  """The network of a diffusion model or a flow."""

  model: Literal["auto", "unet", "dit", "mlp"] = "auto"
  """Network; auto is the U-Net for images and the MLP for points."""
  width: int = 32
  """Number of U-Net channels at full size, or of DiT or MLP features."""
  multipliers: tuple[int, ...] = (1, 2)
  """Multiples of width, each at least 1, one for each U-Net level."""
  attention: tuple[int, ...] | None = None
  """Image sizes, in pixels, at which the U-Net attends; None is the size of its
  lowest level, or no attention if that is above 32."""
  skips: Literal["add", "concat"] = "add"
  """Skip connections of the U-Net: added, or concatenated as in DDPM++."""
  num_blocks: int = 1
  """Number of blocks per U-Net level, DiT blocks, or MLP hidden layers."""
  patch: int = 2
  """Side of the DiT's patches, in pixels."""
  num_heads: int = 1
  """Number of attention heads, at least 1."""
  attention_implementation: Literal["xla", "cudnn"] = "xla"
  """Attention kernel; cudnn needs an NVIDIA GPU and bfloat16."""
  dropout: float = 0.0
  """Dropout probability of activations, from 0 to below 1."""
  dtype: Literal["float32", "bfloat16"] = "float32"
  """Data type of activations; parameters stay float32."""


@dataclasses.dataclass(frozen=True)
class Process:
  """The process of a command; config.json does not store these settings."""

  tune_cpu: bool = True
  """On a CPU, use one device per core, keep freed memory and compile quickly;
  this changes results by rounding only."""
  cache_programs: bool = True
  """Keep compiled programs in the user's cache directory, at most 1 GiB."""


@dataclasses.dataclass(frozen=True)
class Devices(Process):
  """Placement of the state on the devices."""

  shard: choices.ShardName = "replicated"
  """Placement of parameters, optimizer states and averages: on every device, or
  split over the devices."""


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """Adam with a warm-up and clipped gradients."""

  num_steps: int = 2600
  """Number of training steps, at least 1."""
  batch_size: int = 64
  """Number of examples per step, at least 1."""
  learning_rate: float = 3e-3
  """Peak learning rate of Adam, positive."""
  adam_b2: float = 0.99
  """Decay of Adam's second moment, from 0 to below 1."""
  schedule: Literal["cosine", "constant"] = "cosine"
  """Learning rate after the warm-up: a cosine to zero, or constant."""
  warmup_steps: int = 100
  """Number of steps of linear warm-up, below num_steps; if only num_steps is
  given, at most a tenth of it."""
  clip_norm: float = 1.0
  """Largest global norm of the gradient, positive."""
  weight_decay: float = 0.0
  """Weight decay of AdamW, at least 0; 0 is Adam."""
  accumulate: int = 1
  """Number of parts of a batch, computed one after the other to save memory; it
  divides batch_size."""


@dataclasses.dataclass(frozen=True)
class Averages:
  """Moving averages of the parameters."""

  ema_decay: tuple[float, ...] = (0.999,)
  """Decays of the averages, each from 0 to 1; the first average is sampled."""
  ema_length: tuple[float, ...] = ()
  """Lengths of EDM2's averages relative to training, each below .3; snapshots
  of two of them can be combined to other lengths."""
  snapshot_every: int = 100
  """Number of steps between snapshots of EDM2's averages."""


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How a field is sampled; flags of `sample` and `evaluate` too."""

  solver: choices.SolverName = "heun"
  """Solver of the sampling ODE or SDE."""
  churn: float = 10.0
  """Amount of noise of the solver churn, at least 0."""
  grid: choices.GridName = "karras"
  """Time grid of sampling."""
  sample_steps: int = 17
  """Number of sampling steps; the final denoising is one more network call."""
  sample_path: choices.PathName | None = None
  """Path to sample on; None is the path of training."""
  guidance: float = 1.0
  """Weight w of guidance, at least 0: null label + w (label - null label); 1 is
  no guidance."""
  guidance_interval: tuple[float, float] | None = None
  """Noise ratios, at least 0, between which samples are guided; None is all."""
  guide: str | None = None
  """Run directory of a weaker model that guidance uses in place of the null
  label (autoguidance)."""


@dataclasses.dataclass(frozen=True)
class Logging:
  """How often a run writes its files."""

  log_every: int = 20
  """Number of steps between records of metrics.jsonl."""
  save_every: int = 500
  """Number of steps between checkpoints."""
  keep: int = 2
  """Number of latest checkpoints that are kept."""
  samples_every: int = 650
  """Number of steps between small sheets of samples."""
  validate_every: int = 0
  """Number of steps between records of the loss on held-out data, for weights
  and averages, and of the log-likelihood if there is one; 0 for none."""
  metrics_every: int = 0
  """Number of steps between records of the metrics of `evaluate`, for one set
  of samples; 0 for none."""
  log_to: tuple[Literal["tensorboard", "wandb"], ...] = ()
  """Further places of the records: TensorBoard, in the run directory (pip
  install tensorboardX), or Weights & Biases (pip install wandb)."""


@dataclasses.dataclass(frozen=True)
class Diffusion(
  Logging,
  Sampling,
  Averages,
  Optimizer,
  Devices,
  Network,
  Noise,
  Data,
  Run,
):
  """All groups of a diffusion model, a flow or a score network."""


@dataclasses.dataclass(frozen=True)
class Read(Process):
  """Which parameters `sample`, `evaluate` and `encode` use."""

  script: str | None = None
  """File of the run's script; required for scripts outside experiments/."""
  average: str | None = None
  """Name of the average, such as 0.999, or power_LENGTH for an EDM2 average of
  any length; None is the run's first average."""


@dataclasses.dataclass(frozen=True)
class Resampled:
  """Sampling settings that may differ from the run's; None keeps the run's."""

  solver: choices.AnySolverName | None = None
  """Solver of the sampling ODE or SDE, or of a flow map; None is the run's."""
  churn: float | None = None
  """Amount of noise of the solver churn, at least 0; None is the run's."""
  grid: choices.GridName | None = None
  """Time grid of sampling; None is the run's."""
  sample_steps: int | None = None
  """Number of sampling steps; None is the run's number."""
  sample_path: choices.PathName | None = None
  """Path to sample on, which may differ from training; None is the run's."""
  guidance: float | None = None
  """Weight w of guidance, at least 0: null label + w (label - null label); 1 is
  no guidance, None is the run's."""
  guidance_interval: tuple[float, float] | None = None
  """Noise ratios, at least 0, between which samples are guided; None is the
  run's."""
  guide: str | None = None
  """Run directory of a weaker model that guidance uses in place of the null
  label (autoguidance); None is the run's."""


@dataclasses.dataclass(frozen=True)
class Sampled(Resampled, Read):
  """How `sample` and `evaluate` sample a run."""

  chunk: int = 500
  """Number of samples computed together, which limits the memory."""


PROCESS = tuple(field.name for field in dataclasses.fields(Process))
SAMPLING = tuple(field.name for field in dataclasses.fields(Sampling))
LOGGING = tuple(field.name for field in dataclasses.fields(Logging))
# Settings that a resumed run may change, as the steps done do not depend on
# them. A Config adds its own by a class variable, may_change.
MAY_CHANGE = ("num_steps", "snapshot_every", *LOGGING, *SAMPLING)
