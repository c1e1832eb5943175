"""What the workflow promises on every cluster; test_slurm.py and test_gridengine.py run it on theirs."""

import json

from login import wait_for

from fishertail.results import storage

BLOCK = "results/runs/digits-fc/bs256/seed0/epochs0001-0002"
BY_GRADIENTS = ("per_sample_gradients", "fim_eigen", "trimmed_eigenvalues")


class Workflow:
    """Inherited by a test class for each scheduler."""

    def test_the_whole_workflow_gives_the_same_bits_as_on_this_machine(self, login, finished_once):
        """By the command that docs/clusters.md has for the demo; --configfile drops nothing of the site."""
        rules = ["train", *(f"{rule}{at}" for rule in BY_GRADIENTS for at in ("", "_at_landmarks"))]
        login.run("--set-threads", *(f"{rule}=1" for rule in rules))
        local, cluster = finished_once.results(), login.results()
        assert local.keys() == cluster.keys()
        assert [name for name in local if local[name] != cluster[name]] == []
        log = (login.path / "logs/train/digits-fc-bs256-seed0-epochs0001-0002.log").read_text()
        for part in ("job ", "attempt 1, on tsubame", "peak memory"):
            assert part in log

    def test_a_cancelled_training_goes_on_after_its_last_epoch(self, login, scheduler, finished_once):
        login.save_every_checkpoint()
        process = login.start("--set-threads", "train=1", "--", f"{BLOCK}/metrics.csv")
        saved = login.path / BLOCK / ".train.unfinished"
        wait_for((saved / "step00000006.checkpoints.safetensors").exists, 300, "the end of the first epoch")
        scheduler.cancel(scheduler.job_ids()[0])
        login.end(process)
        log = (login.path / "logs/train/digits-fc-bs256-seed0-epochs0001-0002.log").read_text()
        assert "2 of 3 epochs are already trained, by an earlier start of this job" in log
        assert not saved.exists()
        for name, read in (("metrics.csv", storage.read_table), ("checkpoints.safetensors", storage.read_tensors)):
            found, expected = (read(each.path / BLOCK / name) for each in (login, finished_once))
            assert all((found[column] == expected[column]).all() for column in expected)

    def test_a_whole_node_has_four_workers_on_four_gpus(self, login):
        login.jobs("out/whole_node.json")
        seen = json.loads((login.path / "out/whole_node.json").read_text())
        assert sorted(seen["gpus"]) == ["0", "1", "2", "3"]
        assert seen["workers"] == [[[0, 4], "0"], [[1, 5], "1"], [[2], "2"], [[3], "3"]]

    def test_a_job_that_fails_by_itself_is_not_run_again(self, login):
        output = login.jobs("out/faulty.txt", check=False)
        assert (login.path / "out/faults").read_text().split() == ["run"]
        assert output.count("error: digits.npz: 10 classes expected, found 9") == 1

    def test_a_job_without_the_gpu_that_it_asked_for_fails(self, login):
        login.write_grid(machine={"device": "auto"})
        output = login.jobs("out/on_a_gpu.txt", "--retries", "0", check=False)
        assert "machine.device is auto, and the job asked the cluster for a GPU: " in " ".join(output.split())
