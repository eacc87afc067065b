"""The loop hands signals' handlers back as it found them."""

import contextlib
import signal

import pytest

from jaxgen.training import loop


@pytest.fixture
def handlers():
  """Handlers of this test's own, {signal: function}."""
  numbers = (signal.SIGINT, signal.SIGTERM)
  mine = {number: lambda number, frame: None for number in numbers}
  before = {number: signal.signal(number, mine[number]) for number in numbers}
  yield mine
  for number in numbers:
    signal.signal(number, before[number])


@pytest.mark.parametrize("error", [None, LookupError])
def test_the_handlers_come_back(handlers, error):
  with contextlib.suppress(LookupError), loop._signals() as received:
    for number, handler in handlers.items():
      assert signal.getsignal(number) is not handler
    signal.raise_signal(signal.SIGTERM)
    if error is not None:
      raise error
  assert received == [signal.SIGTERM]
  assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_a_handler_that_is_not_pythons_becomes_the_default(
  handlers, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(signal, "getsignal", lambda number: None)
    with loop._signals():
      pass
  for number in handlers:
    assert signal.getsignal(number) is signal.SIG_DFL
