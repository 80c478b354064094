"""Which checkpoints there are: the newest, the best, those that make room, and what killed writers left."""

import shutil
from pathlib import Path

from cairn.core.files import TEMPORARY_SUFFIX, remove_temporaries, write_json
from cairn.training.checkpoint_files import DAMAGE, read_state


class CheckpointFolder:
    """The folder of a run's checkpoints. Looking is for every process, changing for one."""

    def __init__(self, folder: Path, *, keep: int, keep_best: bool):
        assert keep >= 1
        self.folder, self.keep, self.keep_best = folder, keep, keep_best

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:07d}"

    def paths(self) -> list[Path]:
        """All checkpoints, the oldest first."""
        return sorted((p for p in self.folder.glob("step-*") if p.name[5:].isdigit()), key=step_of)

    def best(self) -> Path | None:
        """The checkpoint with the lowest evaluated loss, as their states have it; of equals the first."""
        found = []
        for path in self.paths() if self.keep_best else []:
            try:
                evaluated = read_state(path)["evaluated"]
            except DAMAGE:
                continue  # whoever wants to go on from it hears of it
            if evaluated is not None:
                found.append((evaluated, step_of(path), path))
        return min(found)[2] if found else None

    def rotate(self) -> None:
        """Keep the newest and the best, and name the best in best.json, for whoever looks into the folder."""
        best = self.best()
        if best:
            record = {"checkpoint": best.name, "step": step_of(best), "loss": read_state(best)["evaluated"]}
            write_json(self.folder / "best.json", record)
        else:
            (self.folder / "best.json").unlink(missing_ok=True)
        for path in self.paths()[: -self.keep]:
            if path != best:
                self.remove(path)

    def remove(self, path: Path) -> None:
        """Remove a checkpoint, which is never seen half removed."""
        shutil.rmtree(path.rename(path.with_name(path.name + TEMPORARY_SUFFIX)))

    def remove_leftovers(self) -> None:
        for path in self.folder.glob("*.old"):
            remove_temporaries(path.with_suffix(""))
        for path in self.folder.glob("*" + TEMPORARY_SUFFIX):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def step_of(path: Path) -> int:
    return int(path.name[5:])
