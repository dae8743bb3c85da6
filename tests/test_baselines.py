"""Baselines are whole or not there, and nothing that is stored is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaoslab import baselines
from chaoslab.errors import CampaignFolderError, UsageError
from chaoslab.records import RunState
from chaoslab.store import Campaign
from tests.campaigns import make_campaign, make_run


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "baselines"


def campaign(path: Path, *, state: RunState = RunState.COMPLETED, **meta: object) -> Path:
    runs = [make_run(repeat=n, seed=n, state=state) for n in (1, 2, 3)]
    return make_campaign(path, runs, campaign=path.name, **meta).path


def test_a_baseline_is_the_record_and_nothing_else(tmp_path: Path, base: Path) -> None:
    source = campaign(tmp_path / "one")
    (source / "report.html").write_text("large")
    (source / "journal.jsonl").write_text("undo")
    (source / "probes" / ".half.parquet.tmp").write_text("cut off")

    found = baselines.save(source, "v1.0", folder=base)

    assert {file.name for file in found.path.iterdir()} == {
        *("campaign.json", "baseline.json", "probes", "resources", "events")
    }
    assert not list(found.path.rglob(".*"))
    assert dict(found.runs) == {"Light CPU Stress": 3}
    assert Campaign.open(found.path).probes.equals(Campaign.open(source).probes)


def test_baselines_are_found_by_name_and_campaigns_by_folder(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = campaign(tmp_path / "one")
    baselines.save(source, "v1", folder=base)
    assert baselines.find("v1", folder=base).name == "one"
    assert baselines.find(source).path == source
    monkeypatch.setenv(baselines.FOLDER_VARIABLE, str(base))
    assert baselines.load("v1").campaign == "one"
    assert [one.name for one in baselines.stored()] == ["v1"]


def test_by_default_they_are_under_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(baselines.FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    baselines.save(campaign(tmp_path / "one"), "v1")
    assert (tmp_path / "data" / "baselines" / "v1" / "campaign.json").is_file()


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a b", "a/b", "-x", "x" * 65, "ä"])
def test_a_name_that_is_not_a_plain_word_is_refused(tmp_path: Path, base: Path, name: str) -> None:
    with pytest.raises(UsageError, match="accepted: up to 64 letters"):
        baselines.save(campaign(tmp_path / "one"), name, folder=base)
    assert not base.exists()


def test_a_name_that_is_taken_needs_force(tmp_path: Path, base: Path) -> None:
    baselines.save(campaign(tmp_path / "one"), "v1", folder=base)
    with pytest.raises(UsageError, match="--force replaces it"):
        baselines.save(campaign(tmp_path / "two"), "v1", folder=base)
    assert baselines.load("v1", folder=base).campaign == "one"
    baselines.save(tmp_path / "two", "v1", folder=base, force=True)
    assert baselines.load("v1", folder=base).campaign == "two"
    assert [path.name for path in base.iterdir()] == ["v1"]


def test_what_cannot_be_used_is_not_kept(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UsageError, match="has no usable run"):
        baselines.save(campaign(tmp_path / "broken", state=RunState.BROKEN), "v1", folder=base)
    with pytest.raises(CampaignFolderError, match="still running"):
        baselines.save(campaign(tmp_path / "running", status="running"), "v1", folder=base)
    document = campaign(tmp_path / "dry") / "campaign.json"
    document.write_text(json.dumps(json.loads(document.read_text()) | {"dry_run": True}))
    with pytest.raises(CampaignFolderError, match="dry run"):
        baselines.save(tmp_path / "dry", "v1", folder=base)
    assert baselines.stored(base) == []


def test_a_replacement_that_fails_leaves_the_old_one(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baselines.save(campaign(tmp_path / "one"), "v1", folder=base)
    two, rename = campaign(tmp_path / "two"), Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(CampaignFolderError, match="No space left on device"):
        baselines.save(two, "v1", folder=base, force=True)
    assert baselines.load("v1", folder=base).campaign == "one"
    assert [path.name for path in base.iterdir()] == ["v1"]


def test_one_that_was_moved_aside_when_the_process_was_killed_comes_back(tmp_path: Path, base: Path) -> None:
    baselines.save(campaign(tmp_path / "one"), "v1", folder=base)
    (base / "v1").rename(base / ".v1.replaced")
    assert [one.campaign for one in baselines.stored(base)] == ["one"]
    assert [path.name for path in base.iterdir()] == ["v1"]


def test_a_baseline_that_is_not_there_is_named_with_the_nearest(tmp_path: Path, base: Path) -> None:
    baselines.save(campaign(tmp_path / "one"), "release", folder=base)
    with pytest.raises(UsageError, match=r"no baseline 'relase' in .*did you mean 'release'.*there: release"):
        baselines.find("relase", folder=base)


def test_a_damaged_baseline_says_so(tmp_path: Path, base: Path) -> None:
    found = baselines.save(campaign(tmp_path / "one"), "v1", folder=base)
    (found.path / "baseline.json").write_text("{")
    with pytest.raises(CampaignFolderError, match=r"baseline.json is damaged"):
        baselines.load("v1", folder=base)
