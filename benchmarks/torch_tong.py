"""torchcfm on the points of benchmarks.tong: the peer, in its own process.

  python -m benchmarks.torch_tong POINTS.npz METHOD SEED STEPS STATES.npz

Reads train_source, train_data and test_source, [N, 2] each; trains torchcfm's
MLP by its own matcher, in PyTorch, and writes the states of its flow from
test_source, [N, T, 2], and the seconds of the training.
"""

import itertools
import sys
import time

import numpy as np
import torch
from torchcfm import conditional_flow_matching, models


def matcher(method: str):
  """torchcfm's object of this name."""
  kinds = {"I-CFM": "", "OT-CFM": "ExactOptimalTransport"}
  name = f"{kinds[method]}ConditionalFlowMatcher"
  return getattr(conditional_flow_matching, name)(sigma=0.1)


def batches(points, batch_size=256):
  """Batches for ever: every epoch a new order, what is left over dropped."""
  while True:
    order = torch.randperm(len(points))
    for i in range(len(points) // batch_size):
      yield points[order[i * batch_size : (i + 1) * batch_size]]


def train(source, data, method, num_steps):
  """The trained network, [B, 3] -> [B, 2]."""
  net = models.MLP(dim=2, w=64, time_varying=True)
  optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-5)
  flow = matcher(method)
  pairs = zip(batches(source), batches(data), strict=True)
  for x0, x1 in itertools.islice(pairs, num_steps):
    t, x_t, velocity = flow.sample_location_and_conditional_flow(x0, x1)
    predicted = net(torch.cat([x_t, t[:, None]], 1))
    loss = torch.mean((predicted - velocity) ** 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
  return net


def states(net, x, num_steps=100):
  """Euler's method from time 0 to 1, torchcfm's direction: [N, T, 2]."""
  found = [x]
  with torch.no_grad():
    for i in range(num_steps):
      t = torch.full((len(x), 1), i / num_steps)
      x = x + net(torch.cat([x, t], 1)) / num_steps
      found.append(x)
  return torch.stack(found, 1).numpy()


def main():
  """One run."""
  points, method, seed, num_steps, out = sys.argv[1:]
  torch.set_num_threads(1)
  torch.manual_seed(int(seed))
  # torchcfm draws from the plan by NumPy's global state.
  np.random.seed(int(seed))  # noqa: NPY002
  with np.load(points) as file:
    read = {k: torch.tensor(v) for k, v in file.items()}
  start = time.perf_counter()
  net = train(read["train_source"], read["train_data"], method, int(num_steps))
  seconds = time.perf_counter() - start
  np.savez(out, states=states(net, read["test_source"]), seconds=seconds)


if __name__ == "__main__":
  main()
