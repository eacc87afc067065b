"""Values that the presets of several scripts share."""

SMOKE = dict(num_steps=20, warmup_steps=5, batch_size=16, sample_steps=4)
SMOKE |= dict(log_every=5, save_every=10, samples_every=10)
IMAGES = dict(
  data="folder:images",  # replaced by --data; sides of 4 pixels or more
  multipliers=(1, 2, 2),
  num_steps=3000,
  batch_size=32,
  learning_rate=2e-3,
)
PHOTOS = IMAGES | dict(data="photos", num_steps=1500)
POINTS = dict(
  data="eight_gaussians",
  level_mean=0.5,  # for the points' std of 3.6; EDM's -1.2 is for a std of .5
  width=128,
  num_blocks=3,
  num_steps=5000,
  batch_size=512,
  learning_rate=2e-3,
  log_every=50,
  save_every=1000,
  samples_every=1000,
)
