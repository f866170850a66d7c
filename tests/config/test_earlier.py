"""Records of earlier versions are read as they were meant."""

from headstart.config.earlier import up_to_date
from headstart.config.guard import located
from headstart.record.trackers import Tracker


def test_parts_that_moved_are_found_under_their_old_names():
    before = {
        "logger": {"_target_": "headstart.tracking.WandB", "project": "headstart.tracking.x"},
        "list": [{"_target_": "headstart.mlflow_tracking.MLflow"}, {"_target_": "torch.optim.AdamW"}, 3],
    }
    after = up_to_date(before)
    assert after == {
        "logger": {"_target_": "headstart.record.trackers.WandB", "project": "headstart.tracking.x"},
        "list": [{"_target_": "headstart.record.mlflow.MLflow"}, {"_target_": "torch.optim.AdamW"}, 3],
    }
    assert located(after["logger"]["_target_"], "logger", Tracker).__name__ == "WandB"
    assert located(after["list"][0]["_target_"], "logger", Tracker).__name__ == "MLflow"
