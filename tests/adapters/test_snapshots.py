"""Stored models are whole or not there, whatever happens to the disk or to who writes them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adapters.snapshots import DirectorySnapshotStore
from domain.errors import SnapshotCorrupt, SnapshotError, SnapshotMissing
from tests.contracts import ARRAYS, manifest, versions, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES = ["manifest.json", *(f"{name}.npy" for name in ARRAYS)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(folder: Path) -> DirectorySnapshotStore:
    return DirectorySnapshotStore(folder)


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def change(path: Path, make: Callable[[bytearray], object]) -> None:
    content = bytearray(path.read_bytes())
    make(content)
    path.write_bytes(content)


class TestAStoredModel:
    def test_is_mapped_from_plain_files_and_read_only(
        self, store: DirectorySnapshotStore, folder: Path
    ) -> None:
        store.write(manifest("a"), ARRAYS)

        arrays = store.open("a").arrays

        assert entries(folder / "a") == set(FILES)
        for name, array in arrays.items():
            # What has no bytes cannot be mapped, and need not be
            if array.size:
                assert isinstance(array.base, np.memmap), name
                assert not array.flags.writeable

    def test_needs_no_pickle(self, store: DirectorySnapshotStore, folder: Path) -> None:
        store.write(manifest("a"), ARRAYS)

        for name, array in ARRAYS.items():
            plain = np.load(folder / "a" / f"{name}.npy", allow_pickle=False)
            assert plain.tolist() == array.tolist()

    def test_refuses_arrays_of_objects(self, store: DirectorySnapshotStore, folder: Path) -> None:
        with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
            store.write(manifest("a"), {"x": np.array([{}, None], dtype=object)})

        assert store.manifests() == []
        with pytest.raises(SnapshotMissing):
            store.open("a")
        store.write(manifest("a"), ARRAYS)
        assert entries(folder) == {"a"}

    @pytest.mark.parametrize(
        "array",
        [
            np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            np.arange(20)[::3],
            np.array([True, False]),
            np.array([np.nan, np.inf, -0.0], dtype=np.float16),
            np.zeros((0,), dtype=np.int32),
            np.array(5.0),
            np.array([1, 2], dtype=">i4"),
        ],
        ids=lambda array: f"{array.dtype}{array.shape}",
    )
    def test_holds_arrays_of_any_make(
        self, store: DirectorySnapshotStore, array: np.ndarray[Any, Any]
    ) -> None:
        store.write(manifest("a"), {"x": array})

        opened = store.open("a").arrays["x"]

        assert (opened.dtype, opened.shape) == (array.dtype, array.shape)
        assert opened.tobytes() == array.tobytes()

    def test_can_be_opened_or_was_refused_at_writing(self, store: DirectorySnapshotStore) -> None:
        try:
            store.write(manifest("a", metrics={"map": float("nan")}), {})
        except SnapshotError:
            return
        store.open("a")


class TestDamage:
    @pytest.fixture(autouse=True)
    def _stored(self, store: DirectorySnapshotStore) -> None:
        store.write(manifest("before"), ARRAYS)
        store.write(manifest("damaged"), ARRAYS)

    @pytest.fixture
    def damaged(self, folder: Path) -> Path:
        return folder / "damaged"

    @staticmethod
    def assert_corrupt(store: DirectorySnapshotStore, name: str) -> None:
        """The message names the file; the other version can still be opened."""
        with pytest.raises(SnapshotCorrupt) as raised:
            store.open("damaged")
        assert "damaged" in str(raised.value)
        assert Path(name).stem in str(raised.value)
        assert store.open("before").manifest == manifest("before")

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("place", [0, 0.5, -1], ids=["first", "middle", "last"])
    def test_a_flipped_byte_is_found(
        self, store: DirectorySnapshotStore, damaged: Path, name: str, place: float
    ) -> None:
        def flip(content: bytearray) -> None:
            content[-1 if place < 0 else int(place * len(content))] ^= 0x01

        change(damaged / name, flip)

        self.assert_corrupt(store, name)

    @pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
    def test_no_flipped_byte_of_a_manifest_makes_another_model_of_it(
        self, store: DirectorySnapshotStore, damaged: Path, mask: int
    ) -> None:
        path = damaged / "manifest.json"
        whole = path.read_bytes()
        refused = 0
        for position in range(len(whole)):
            changed = bytearray(whole)
            changed[position] ^= mask
            path.write_bytes(changed)
            try:
                opened = store.open("damaged")
            except SnapshotCorrupt:
                refused += 1
            else:
                # A space for another, or "z" for "Z": it still says the same
                assert opened.manifest == manifest("damaged")
                assert opened.arrays.keys() == ARRAYS.keys()
        assert refused > len(whole) / 2

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("missing", [1, 40, None], ids=["a byte", "40 bytes", "everything"])
    def test_a_file_cut_short_is_found(
        self, store: DirectorySnapshotStore, damaged: Path, name: str, missing: int | None
    ) -> None:
        def cut(content: bytearray) -> None:
            del content[0 if missing is None else -missing :]

        change(damaged / name, cut)

        self.assert_corrupt(store, name)

    @pytest.mark.parametrize("name", FILES)
    def test_bytes_added_to_a_file_are_found(
        self, store: DirectorySnapshotStore, damaged: Path, name: str
    ) -> None:
        change(damaged / name, lambda content: content.extend(b"x"))

        self.assert_corrupt(store, name)

    @pytest.mark.parametrize("name", FILES)
    def test_a_missing_file_is_found(
        self, store: DirectorySnapshotStore, damaged: Path, name: str
    ) -> None:
        (damaged / name).unlink()

        self.assert_corrupt(store, name)

    def test_arrays_that_changed_places_are_found(
        self, store: DirectorySnapshotStore, damaged: Path
    ) -> None:
        (damaged / "ids.npy").replace(damaged / "x")
        (damaged / "kinds.npy").replace(damaged / "ids.npy")
        (damaged / "x").replace(damaged / "kinds.npy")

        self.assert_corrupt(store, "ids.npy")

    def test_a_directory_under_another_name_is_not_taken_for_that_version(
        self, store: DirectorySnapshotStore, folder: Path
    ) -> None:
        (folder / "damaged").rename(folder / "renamed")

        with pytest.raises(SnapshotCorrupt, match="renamed"):
            store.open("renamed")

    @pytest.mark.parametrize("written", ["0", "2", "99"])
    def test_a_foreign_format_is_named_with_the_one_that_is_read(
        self, store: DirectorySnapshotStore, damaged: Path, written: str
    ) -> None:
        path = damaged / "manifest.json"
        text = path.read_text()
        assert '"format": 1' in text
        # A later release may have changed everything else as well
        path.write_text(f'{{"format": {written}, "shape": "unknown"}}')

        with pytest.raises(SnapshotCorrupt) as raised:
            store.open("damaged")
        assert str(raised.value) == f"damaged has format {written}; this release reads format 1"

    @pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b"\xff", b'{"format": "1"}'])
    def test_a_manifest_of_something_else_is_corrupt(
        self, store: DirectorySnapshotStore, damaged: Path, content: bytes
    ) -> None:
        (damaged / "manifest.json").write_bytes(content)

        self.assert_corrupt(store, "manifest.json")

    def test_a_damaged_record_is_left_out_of_the_list(
        self, store: DirectorySnapshotStore, damaged: Path
    ) -> None:
        (damaged / "manifest.json").write_bytes(b"{")

        assert versions(store) == ["before"]

    def test_an_array_that_a_manifest_does_not_name_is_not_opened(
        self, store: DirectorySnapshotStore, damaged: Path
    ) -> None:
        np.save(damaged / "more.npy", np.array([1]))

        assert store.open("damaged").arrays.keys() == ARRAYS.keys()


class TestLivePointer:
    def test_is_seen_by_another_process(self, store: DirectorySnapshotStore, folder: Path) -> None:
        write_all(store, "a", "b")
        for version in ("a", "b"):
            store.promote(version)
            script = """
                import sys
                from pathlib import Path
                from adapters.snapshots import DirectorySnapshotStore
                store = DirectorySnapshotStore(Path(sys.argv[1]))
                print(store.live(), store.previous(), store.open(store.live()).arrays["version"])
            """
            seen = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(script), str(folder)],
                check=True,
                capture_output=True,
                text=True,
            )
            expected = {"a": "a None [1]\n", "b": "b a [2]\n"}
            assert seen.stdout == expected[version]

    def test_follows_another_store_of_the_same_folder(
        self, store: DirectorySnapshotStore, folder: Path
    ) -> None:
        other = DirectorySnapshotStore(folder)
        write_all(store, "a")
        assert other.live() is None

        store.promote("a")

        assert other.live() == "a"

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"versions": [1]}'])
    def test_that_cannot_be_read_is_said_to_be_so(
        self, store: DirectorySnapshotStore, folder: Path, content: bytes
    ) -> None:
        write_all(store, "a")
        (folder / "LIVE").write_bytes(content)

        for ask in (store.live, store.previous, lambda: store.promote("a")):
            with pytest.raises(SnapshotCorrupt, match="LIVE"):
                ask()

    def test_of_broken_text_is_said_to_be_so(
        self, store: DirectorySnapshotStore, folder: Path
    ) -> None:
        write_all(store, "a")
        (folder / "LIVE").write_bytes(b'{"versions":["\xff"]}')

        with pytest.raises(SnapshotCorrupt):
            store.live()

    def test_that_the_system_does_not_hand_out_is_said_to_be_so(
        self, store: DirectorySnapshotStore, folder: Path
    ) -> None:
        write_all(store, "a")
        (folder / "LIVE").mkdir()

        with pytest.raises(SnapshotError):
            store.live()

    def test_stays_when_promoting_fails(
        self, store: DirectorySnapshotStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_all(store, "a", "b")
        store.promote("a")
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", no_space)
            with pytest.raises(SnapshotError, match="cannot promote version b"):
                store.promote("b")
        assert store.live() == "a"

        store.promote("b")

        assert store.live() == "b"


class TestPruning:
    def test_an_empty_store_removes_nothing(self, store: DirectorySnapshotStore) -> None:
        assert store.prune(1) == []

    @pytest.mark.parametrize("name", ["0-notes.txt", "notes.txt"])
    def test_leaves_files_alone_that_are_no_models(
        self, store: DirectorySnapshotStore, folder: Path, name: str
    ) -> None:
        write_all(store, "1", "2", "3", "4")
        store.promote("4")
        (folder / name).write_text("do not touch")

        assert sorted(store.prune(2)) == ["1", "2"]
        assert entries(folder) == {"3", "4", "LIVE", name}

    def test_removes_damaged_versions_too(
        self, store: DirectorySnapshotStore, folder: Path
    ) -> None:
        write_all(store, "1", "2", "3")
        store.promote("3")
        (folder / "1" / "manifest.json").unlink()

        assert store.prune(2) == ["1"]
        assert entries(folder) == {"2", "3", "LIVE"}

    def test_that_was_interrupted_leaves_no_half_model(
        self, store: DirectorySnapshotStore, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_all(store, "1", "2", "3")
        store.promote("3")
        with monkeypatch.context() as patch:
            patch.setattr("shutil.rmtree", no_space)
            with pytest.raises(SnapshotError, match="No space"):
                store.prune(1)
        # What is there at all is whole
        assert {"3"} <= set(versions(store)) < {"1", "2", "3"}
        for version in versions(store):
            store.open(version)

        write_all(store, "4")

        assert {name for name in entries(folder) if name.startswith(".")} == set()


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def failing_at(call: int, real: Callable[..., object]) -> Callable[..., object]:
    """Return `real`, whose n-th call finds the disk full."""
    calls = iter(range(1, 1_000))

    def function(*args: Any, **kwargs: Any) -> object:
        if next(calls) == call:
            no_space()
        return real(*args, **kwargs)

    return function


class TestInterruptedWriting:
    @pytest.mark.parametrize(
        ("module", "name", "call"),
        [
            *((np, "save", number) for number in range(1, len(ARRAYS) + 1)),
            *((os, "fsync", number) for number in range(1, len(ARRAYS) + 3)),
            (os, "rename", 1),
            (Path, "mkdir", 1),
            (Path, "mkdir", 2),
        ],
        ids=lambda value: getattr(value, "__name__", str(value)),
    )
    def test_by_a_full_disk_leaves_no_version_and_the_next_succeeds(
        self,
        store: DirectorySnapshotStore,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        module: Any,
        name: str,
        call: int,
    ) -> None:
        write_all(store, "old")
        store.promote("old")
        with monkeypatch.context() as patch:
            patch.setattr(module, name, failing_at(call, getattr(module, name)))
            with pytest.raises(SnapshotError, match=r"cannot store version new.*No space"):
                store.write(manifest("new"), ARRAYS)

        assert versions(store) == ["old"]
        assert store.live() == "old"
        with pytest.raises(SnapshotMissing):
            store.open("new")

        store.write(manifest("new"), ARRAYS)

        assert entries(folder) == {"old", "new", "LIVE"}
        assert store.open("new").manifest == manifest("new")

    def test_by_something_else_leaves_no_version_either(
        self, store: DirectorySnapshotStore, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(np, "save", interrupt)
            with pytest.raises(KeyboardInterrupt):
                store.write(manifest("new"), ARRAYS)

        assert store.manifests() == []
        store.write(manifest("newer"), ARRAYS)
        assert entries(folder) == {"newer"}


# The child tells before each step towards the disk, and goes on when it is told to
CHILD = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    import numpy as np
    from adapters.snapshots import DirectorySnapshotStore
    from tests.contracts import ARRAYS, manifest

    def announced(owner, name):
        real = getattr(owner, name)
        def function(*args, **kwargs):
            print(name, flush=True)
            sys.stdin.readline()
            return real(*args, **kwargs)
        setattr(owner, name, function)

    store = DirectorySnapshotStore(Path(sys.argv[1]))
    for owner, name in ((np, "save"), (os, "fsync"), (os, "rename"), (os, "replace")):
        announced(owner, name)
    store.write(manifest("new"), ARRAYS)
    store.promote("new")
    print("done", flush=True)
    sys.stdin.readline()
    """
)
STEPS = [
    *(["save", "fsync"] * len(ARRAYS)),
    "fsync",  # the manifest
    "fsync",  # the staged folder
    "rename",
    "fsync",  # the folder
    "fsync",  # the pointer
    "replace",
    "fsync",  # the folder
    "done",
]


def steps_of(child: subprocess.Popen[str]) -> Iterator[str]:
    """Yield what the child is about to do; asking for the next lets it do so."""
    assert child.stdin is not None
    assert child.stdout is not None
    while step := child.stdout.readline().strip():
        yield step
        child.stdin.write("\n")
        child.stdin.flush()


# Each is the number of steps done when the child is killed
@pytest.mark.parametrize(
    "done",
    [0, 1, 5, len(STEPS) - 8, *range(len(STEPS) - 6, len(STEPS))],
)
def test_killing_the_writer_leaves_the_old_or_the_new_never_half(
    store: DirectorySnapshotStore, folder: Path, done: int
) -> None:
    write_all(store, "old")
    store.promote("old")
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as child:
        steps = steps_of(child)
        passed = [next(steps) for _ in range(done + 1)]
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert passed == STEPS[: done + 1]

    is_stored = "rename" in passed[:-1]
    is_live = "replace" in passed[:-1]
    assert versions(store) == (["old", "new"] if is_stored else ["old"])
    assert store.live() == ("new" if is_live else "old")
    assert store.open("old").manifest == manifest("old")
    if is_stored:
        assert store.open("new").manifest == manifest("new")
    else:
        store.write(manifest("new"), ARRAYS)
    store.promote("new")
    store.write(manifest("newer"), {})
    assert store.live() == "new"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"old", "new", "newer"}
