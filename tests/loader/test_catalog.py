"""The catalog: checked whole, every error named; followed without a restart, the last good kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from extender.documents import API_VERSION
from extender.errors import InvalidConfigurationError
from extender.loader.catalog import KIND, Catalog, CatalogModel, load_catalog, read_catalog
from extender.loader.catalog_file import CatalogFile
from extender.loader.spreading import holders

HEAD = {"apiVersion": API_VERSION, "kind": KIND}
SHIPPED = Path(__file__).parents[2] / "config" / "model-catalog.yaml"


def model(name: str = "m", **more: Any) -> dict[str, Any]:
    return {"name": name, "source": "hf://org/name", **more}


def test_the_shipped_catalog_is_valid_says_every_key_and_the_defaults() -> None:
    shipped = load_catalog(SHIPPED)
    assert Catalog(models=shipped.models) == shipped
    document = yaml.safe_load(SHIPPED.read_text())
    assert set(document) == set(Catalog.__struct_encode_fields__)
    for key in ("watermarks", "limits"):
        section = type(getattr(shipped, key))
        assert set(document[key]) == set(section.__struct_encode_fields__)
    assert set(document["models"][0]) == set(CatalogModel.__struct_encode_fields__)
    assert shipped.models[1] == CatalogModel(
        name=shipped.models[1].name, source=shipped.models[1].source
    )
    assert shipped.models[1].directory == "all-minilm-l6-v2"


def test_every_error_is_named_at_once_with_object_field_and_remedy() -> None:
    document = {
        **HEAD,
        "onDemand": "maybe",
        "watermarks": {"highPercent": 70, "lowPercent": 80, "reserve": "much"},
        "limits": {"connections": 0, "bytesPerSecond": "-1", "speed": 1},
        "models": [
            model("a", path="shared/a"),
            model("b", path="shared"),
            model("b", path="elsewhere"),
            model("c", source="ftp://host/x"),
            model("d", path="../d", copies=0),
            {"name": "e"},
            model("f", include="*.json"),
            "g",
            model("../h", source="ftp://other/x", path="/h"),
            {"source": "ftp://third/x"},
            {"name": "k", "path": "/k"},
            {"name": "l", "source": 7, "path": "elsewhere/l"},
            {"source": "hf://org/name", "path": "shared/m"},
            {"path": "e"},
        ],
    }
    with pytest.raises(InvalidConfigurationError) as refused:
        read_catalog(document, name="catalog.yaml")
    said = str(refused.value)
    assert "catalog.yaml: 28 error(s)" in said
    for part in (
        "onDemand:", "watermarks.lowPercent: 80 is not below highPercent (70)",
        "watermarks.reserve: quantity 'much'", "limits.connections:", "limits.bytesPerSecond:",
        "limits.speed: unknown key", "models[b].path: 'shared' overlaps with 'shared/a' of model a",
        "models[b]: 2 have this name; rename all but one", "models[c].source: source 'ftp://host/x'",
        "models[d].path: '../d'", "models[d].copies:", "models[e].source: is missing",
        "models[f].include:", "models[7]: is not a mapping",
        "models[../h].name:", "models[../h].source: source 'ftp://other/x'",
        "models[../h].path: '/h' is not relative", "models[9].name: is missing",
        "models[9].source: source 'ftp://third/x'",
        "models[k].source: is missing", "models[k].path: '/k' is not relative",
        "models[l].source: Expected `str`",
        "models[l].path: 'elsewhere/l' overlaps with 'elsewhere' of model b",
        "models[12].name: is missing",
        "models[12].path: 'shared/m' overlaps with 'shared' of model b",
        "models[13].name: is missing", "models[13].source: is missing",
        "models[13].path: 'e' overlaps with 'e' of model e",
    ):  # fmt: skip
        assert part in said, part


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"path": "/abs"}, "is not relative"),
        ({"path": "a/../../b"}, "not a plain path"),
        ({"path": "a//b"}, "not a plain path"),
        ({"path": ".modelcache/x"}, "loader's own"),
        ({"path": "x/.modelcache.json"}, "loader's own"),
        ({"path": "x" * 300}, "too long"),
        ({"path": "lost+found/x"}, "no model is looked for there"),
        ({"path": "a\nb"}, "a character that cannot be shown"),
        ({"nodeSelector": {"bad key!!": "x"}}, "'bad key!!' can be no label's name"),
        ({"nodeSelector": {"zone": "a b"}}, "'a b' can be no label's value"),
        ({"name": "a/b"}, "name"),
        ({"source": "hf://a/b/c"}, "write hf://organisation/name"),
        ({"source": "hf://a/b@v1", "revision": "v2"}, "two revisions"),
        ({"source": "hf://a/b", "revision": "../../x"}, "branch, a tag or a commit"),
        ({"source": "s3://bucket/x", "revision": "main"}, "has no revisions"),
        ({"source": "s3:///x"}, "names no bucket"),
        ({"source": "http://host/x"}, "write https://"),
        ({"source": "https://host/x#y"}, "query or fragment"),
        ({"source": "file://relative"}, "is not absolute"),
    ],
)
def test_a_model_that_cannot_be_meant_is_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=named):
        read_catalog({**HEAD, "models": [model(**wrong)] if "name" not in wrong else [wrong]})


def test_a_limit_is_not_compared_with_the_default_of_one_that_was_refused() -> None:
    marks = {"highPercent": 0, "lowPercent": 90}
    with pytest.raises(InvalidConfigurationError, match="highPercent") as refused:
        read_catalog({**HEAD, "watermarks": marks})
    assert "1 error(s)" in str(refused.value)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    secret = model(source="https://user:hunter2@host/x")
    with pytest.raises(InvalidConfigurationError, match="holds credentials") as refused:
        read_catalog({**HEAD, "models": [secret]})
    assert "hunter2" not in str(refused.value)


def test_a_key_given_twice_is_an_error_and_not_the_last_one_wins(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"apiVersion: {API_VERSION}\nkind: {KIND}\nmodels: []\nmodels: []\n")
    with pytest.raises(InvalidConfigurationError, match="'models' is given twice"):
        load_catalog(file)


def test_the_digest_is_that_of_the_meaning() -> None:
    one = read_catalog({**HEAD, "models": [model("a"), model("b")]})
    same = read_catalog({**HEAD, "onDemand": True, "models": [model("b", pin=False), model("a")]})
    other = read_catalog({**HEAD, "models": [model("a"), model("b", pin=True)]})
    assert one.digest == same.digest != other.digest


def test_a_revision_means_the_same_in_the_address_and_beside_it() -> None:
    inside, beside = (
        read_catalog({**HEAD, "models": [model("a", **source)]})
        for source in (
            {"source": "hf://org/name@v1"},
            {"source": "hf://org/name", "revision": "v1"},
        )
    )
    assert inside == beside


class TestCatalogFile:
    @staticmethod
    def mount(directory: Path, text: str) -> None:
        """Swap the content as the kubelet does: a new folder, then the link ``..data``."""
        number = len(list(directory.glob("..v*")))
        (directory / f"..v{number}").mkdir()
        (directory / f"..v{number}" / "catalog.yaml").write_text(text)
        fresh = directory / "..data_tmp"
        fresh.symlink_to(f"..v{number}")
        fresh.replace(directory / "..data")
        link = directory / "catalog.yaml"
        if not link.is_symlink():
            link.symlink_to("..data/catalog.yaml")

    @staticmethod
    def text(*models: dict[str, Any]) -> str:
        return yaml.safe_dump({**HEAD, "models": list(models)})

    def test_a_swapped_mount_takes_effect_and_only_changes_are_told(self, tmp_path: Path) -> None:
        self.mount(tmp_path, self.text(model("a")))
        file = CatalogFile(tmp_path / "catalog.yaml")
        assert file.poll()
        assert not file.poll()
        self.mount(tmp_path, self.text(model("a")) + "# a comment\n")
        assert not file.poll()
        self.mount(tmp_path, self.text(model("b")))
        assert file.poll()
        assert file.catalog is not None
        assert [m.name for m in file.catalog.models] == ["b"]

    def test_a_bad_one_is_refused_said_and_forgotten_with_the_next_good_one(
        self, tmp_path: Path
    ) -> None:
        self.mount(tmp_path, self.text(model("a")))
        file = CatalogFile(tmp_path / "catalog.yaml")
        file.poll()
        good = file.catalog
        self.mount(tmp_path, self.text(model("a", path="..")))
        assert not file.poll()
        assert file.catalog is good
        assert "models[a].path" in file.error
        assert "the last good catalog stays in force" in file.error
        (tmp_path / "..data").unlink()
        assert not file.poll()
        assert "cannot be read" in file.error
        assert file.catalog is good
        self.mount(tmp_path, self.text(model("a")))
        assert not file.poll()
        assert file.error == ""

    def test_the_last_good_one_is_kept_on_a_new_node_once_the_disk_takes_it(
        self, tmp_path: Path
    ) -> None:
        mount, keep = tmp_path / "mount", tmp_path / "cache" / ".modelcache" / "catalog.yaml"
        mount.mkdir()
        self.mount(mount, self.text(model("a")))
        file = CatalogFile(mount / "catalog.yaml", keep=keep)
        assert file.poll()
        keep.parents[1].mkdir()  # there was no disk before
        assert not file.poll()
        self.mount(mount, "nothing good")
        later = CatalogFile(mount / "catalog.yaml", keep=keep)
        later.poll()
        assert "the last good catalog stays in force" in later.error
        assert later.catalog == file.catalog

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("2024-13-01", "put it in quotes"),
            ("0x_", "put it in quotes"),
            ("1" * 5000, "put it in quotes"),
            ("!!timestamp x", "put it in quotes"),
            ("!!bool maybe", "put it in quotes"),
            ('!!int ""', "put it in quotes"),
            ("1" + ":1" * 400 + ".5", "put it in quotes"),
            ("!!set [a]", "expected a mapping"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_a_value_that_is_not_what_it_looks_like_is_said_with_its_remedy(
        self, tmp_path: Path, value: str, said: str
    ) -> None:
        self.mount(tmp_path, self.text(model("a")))
        file = CatalogFile(tmp_path / "catalog.yaml")
        file.poll()
        good = file.catalog
        self.mount(tmp_path, self.text(model("a")) + f"grace: {value}\n")
        assert not file.poll()
        assert f"{tmp_path / 'catalog.yaml'}: not YAML: line " in file.error
        assert said in file.error
        assert file.catalog is good

    @pytest.mark.parametrize("path", ["a/b/c/d/e", "\u00e9" * 40])
    def test_a_path_that_no_loader_would_look_at_is_refused(
        self, tmp_path: Path, path: str
    ) -> None:
        self.mount(tmp_path, self.text(model("a", path=path)))
        file = CatalogFile(tmp_path / "catalog.yaml")
        assert not file.poll()
        assert "models[a].path" in file.error

    def test_no_other_user_may_read_what_is_kept(self, tmp_path: Path) -> None:
        """Whoever mounts the cache sees the copy, and a query in it may be a signature."""
        keep = tmp_path / "kept.yaml"
        (tmp_path / "kept.yaml.new").write_text("left by a loader that was killed")
        keep.write_text("written by an earlier release")
        for name in ("a", "b"):
            self.mount(tmp_path, self.text(model(name)))
            assert CatalogFile(tmp_path / "catalog.yaml", keep=keep).poll()
            assert keep.stat().st_mode & 0o777 == 0o600
            assert name in keep.read_text()

    def test_a_loader_that_starts_with_a_bad_one_goes_on_with_the_last_good_one(
        self, tmp_path: Path
    ) -> None:
        keep = tmp_path / "kept.yaml"
        self.mount(tmp_path, self.text(model("a")))
        before = CatalogFile(tmp_path / "catalog.yaml", keep=keep)
        before.poll()
        self.mount(tmp_path, "models: [")
        after = CatalogFile(tmp_path / "catalog.yaml", keep=keep)
        assert after.poll()
        assert after.catalog == before.catalog
        assert "not YAML" in after.error

    def test_without_a_good_one_none_is_in_force(self, tmp_path: Path) -> None:
        file = CatalogFile(tmp_path / "absent.yaml", keep=tmp_path / "kept.yaml")
        assert not file.poll()
        assert file.catalog is None
        assert "no catalog is in force" in file.error


class TestSpreading:
    NODES: ClassVar = {f"node-{n}": {"gpu": "a100" if n % 2 else "h100"} for n in range(20)}

    @staticmethod
    def model(name: str = "m", **more: Any) -> CatalogModel:
        return CatalogModel(name=name, source="hf://o/n", **more)

    def test_without_copies_every_node_that_the_selector_matches_holds_it(self) -> None:
        assert holders(self.model(), self.NODES) == set(self.NODES)
        assert holders(self.model(node_selector={"gpu": "a100"}), self.NODES) == {
            name for name, labels in self.NODES.items() if labels["gpu"] == "a100"
        }

    def test_as_many_nodes_as_asked_hold_it_or_all_there_are(self) -> None:
        assert len(holders(self.model(copies=3), self.NODES)) == 3
        assert len(holders(self.model(copies=30), self.NODES)) == 20

    def test_the_order_in_which_nodes_became_known_changes_nothing(self) -> None:
        backwards = dict(reversed(self.NODES.items()))
        assert holders(self.model(copies=5), self.NODES) == holders(self.model(copies=5), backwards)

    def test_a_node_that_goes_moves_only_what_it_held(self) -> None:
        models = [self.model(f"m{n}", copies=3) for n in range(50)]
        left = {name: labels for name, labels in self.NODES.items() if name != "node-7"}
        for one in models:
            before, after = holders(one, self.NODES), holders(one, left)
            assert before - {"node-7"} <= after
            assert len(after - before) == ("node-7" in before)
