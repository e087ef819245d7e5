"""How the tests' processes wait for their threads: as the project's own do, set before torch is imported."""

from workers.runtime.torch_environment import set_waiting

set_waiting()
