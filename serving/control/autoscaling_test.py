"""A version that is kept busy gets more replicas, and fewer again, and no request is lost."""

from pathlib import Path

from serving.control.options import RayConfig
from serving.testing.example import publish_example
from serving.testing.placed_process import placed


def test_busy_replicas_become_more_and_idle_ones_fewer_and_nothing_is_lost(tmp_path: Path) -> None:
    artifact = publish_example(tmp_path / "artifact")
    config = RayConfig(max_replicas=2, scale_up_after_s=2, scale_down_after_s=4)
    with placed(artifact.directory, config, framework="torch", max_batch_size=512) as process:
        assert len(process.next("ready")["pids"]) == 1
        process.ask("load 8", "load")
        process.next("changed", lambda event: len(event["pids"]) == 2)
        # A few go on, to the one that is going to end too.
        process.ask("load 1", "load")
        process.next("changed", lambda event: len(event["pids"]) == 1)
        ended = process.ask("load 0", "load")
        assert ended["answered"] > 0
        assert ended["lost"] == 0
        assert process.end() == 0
