"""A process whose node dies under it; run as a program, it writes what came of it to the file that it is given."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from orchestrator.environment import prepare
from workers.runtime.ray_process import Resources, in_own_process


def patient(begun: str) -> None:
    Path(begun).touch()
    time.sleep(120)


def outcome(begun: Path) -> str:
    import ray
    from ray.cluster_utils import Cluster

    quiet = {"include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **quiet})
    node = cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False)

    def die() -> None:
        while not begun.exists():
            time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=die, daemon=True).start()
    try:
        in_own_process(Resources(1.0, 0.0), patient, str(begun))
    except ConnectionError as error:
        return str(error)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return "it ended"


if __name__ == "__main__":
    prepare(None)
    file = Path(sys.argv[1])
    file.write_text(outcome(file.with_name("begun")), encoding="utf-8")
