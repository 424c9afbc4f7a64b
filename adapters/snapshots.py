"""Stored models as directories of plain `.npy` files with a manifest; never pickle.

    models/
      LIVE                     which version is live, and which were before it
      20261125T031955.081522Z-4f2a9c/
        manifest.json          the record, and size and SHA-256 of each file
        user_factors.npy ...

A model is staged in a directory of its own, flushed to disk and renamed, so it is there whole or
not at all. Arrays are memory-mapped: all processes of a machine share one copy.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from domain.errors import SnapshotCorrupt, SnapshotError, SnapshotMissing
from domain.ports import Arrays, Snapshot, SnapshotStore
from domain.runs import Manifest

FORMAT = 1
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")
_STAGED, _DISCARDED = ".staged-", ".discarded-"


class _File(msgspec.Struct, frozen=True):
    bytes: int
    sha256: str


class _Record(msgspec.Struct, frozen=True):
    """The manifest file: `sha256` is that of the encoded rest, with an empty `sha256`."""

    format: int
    manifest: Manifest
    files: dict[str, _File]
    sha256: str = ""

    def sealed(self) -> _Record:
        return msgspec.structs.replace(self, sha256=self.seal())

    def seal(self) -> str:
        unsealed = msgspec.structs.replace(self, sha256="")
        return hashlib.sha256(msgspec.json.encode(unsealed, order="deterministic")).hexdigest()


class _Format(msgspec.Struct):
    format: int


class _Live(msgspec.Struct, frozen=True):
    """The live version last, those before it in the order in which they were live."""

    versions: list[str] = []


# Before there are threads, as in `adapters.runs`
_as_live = msgspec.json.Decoder(_Live).decode
_as_format = msgspec.json.Decoder(_Format).decode
_as_record = msgspec.json.Decoder(_Record).decode


class DirectorySnapshotStore(SnapshotStore):
    """The models under one directory, which is made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, manifest: Manifest, arrays: Arrays) -> None:
        """Store a model whole or not at all; see the port."""
        target = self._path(manifest.version)
        if target.exists():
            raise SnapshotError(f"version {manifest.version} exists already")
        staged = self._folder / f"{_STAGED}{manifest.version}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            staged.mkdir()
            files = {name: _save(staged / f"{name}.npy", array) for name, array in arrays.items()}
            record = _Record(FORMAT, manifest, files).sealed()
            encoded = msgspec.json.encode(record, order="deterministic")
            _decoded(encoded, manifest.version)
            _write_synced(staged / "manifest.json", msgspec.json.format(encoded))
            _sync_folder(staged)
            staged.rename(target)
            _sync_folder(self._folder)
        except OSError as error:
            # A full disk must not stay full: the run's record needs some room, too
            shutil.rmtree(staged, ignore_errors=True)
            raise SnapshotError(f"cannot store version {manifest.version}: {error}") from error

    def open(self, version: str) -> Snapshot:
        """Return a stored model after checking every byte of it; see the port."""
        folder = self._existing(version)
        record = _read_record(folder)
        arrays: dict[str, NDArray[Any]] = {}
        for name, expected in record.files.items():
            path = folder / f"{name}.npy"
            _check(path, expected)
            arrays[name] = _map(path)
        return Snapshot(record.manifest, arrays)

    def manifests(self) -> list[Manifest]:
        """Return the records of all readable models, newest first."""
        if not self._folder.is_dir():
            return []
        records = []
        for path in self._folder.iterdir():
            if path.is_dir() and _VERSION.fullmatch(path.name):
                try:
                    records.append(_read_record(path).manifest)
                except SnapshotCorrupt:
                    continue  # `open` tells who asks for it by name
        return sorted(records, key=lambda manifest: manifest.version, reverse=True)

    def live(self) -> str | None:
        """Return the promoted version, None before the first."""
        versions = self._live().versions
        return versions[-1] if versions else None

    def previous(self) -> str | None:
        """Return the version that was live before and is still stored."""
        versions = self._live().versions
        earlier = [version for version in versions[:-1] if self._path(version).is_dir()]
        return earlier[-1] if earlier else None

    def promote(self, version: str) -> None:
        """Make a stored version the live one, for every process; see the port."""
        self._existing(version)
        versions = self._live().versions
        if versions and versions[-1] == version:
            return
        if version in versions:
            # Going back to a version forgets those that came after it
            versions = versions[: versions.index(version)]
        staged = self._folder / f"{_STAGED}live"
        try:
            _write_synced(staged, msgspec.json.encode(_Live([*versions, version][-100:])))
            staged.replace(self._folder / "LIVE")
            _sync_folder(self._folder)
        except OSError as error:
            raise SnapshotError(f"cannot promote version {version}: {error}") from error

    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest models; see the port."""
        if not self._folder.is_dir():
            return []
        stored = sorted(
            (
                path.name
                for path in self._folder.iterdir()
                if path.is_dir() and _VERSION.fullmatch(path.name)
            ),
            reverse=True,
        )
        kept = {self.live(), self.previous(), *stored[:keep]}
        removed = [version for version in stored if version not in kept]
        try:
            for version in removed:
                # Renamed first: a half-removed model must not look like one
                discarded = self._folder / f"{_DISCARDED}{version}"
                self._path(version).rename(discarded)
                shutil.rmtree(discarded)
        except OSError as error:
            raise SnapshotError(f"cannot remove old models: {error}") from error
        return removed

    def _live(self) -> _Live:
        path = self._folder / "LIVE"
        try:
            return _as_live(path.read_bytes())
        except FileNotFoundError:
            return _Live()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SnapshotCorrupt(f"{path} is not readable: {error}") from error

    def _existing(self, version: str) -> Path:
        path = self._path(version)
        if not path.is_dir():
            raise SnapshotMissing(f"there is no model version {version!r}")
        return path

    def _path(self, version: str) -> Path:
        if not _VERSION.fullmatch(version):
            raise SnapshotMissing(f"{version[:100]!r} is no model version")
        return self._folder / version

    def _sweep(self) -> None:
        """Remove what an interrupted writing or pruning left behind."""
        for path in self._folder.iterdir():
            if path.is_dir() and path.name.startswith((_STAGED, _DISCARDED)):
                shutil.rmtree(path)


def _read_record(folder: Path) -> _Record:
    path = folder / "manifest.json"
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise SnapshotCorrupt(f"{folder.name}: its manifest is not readable: {error}") from error
    return _decoded(encoded, folder.name)


def _decoded(encoded: bytes, version: str) -> _Record:
    try:
        written = _as_format(encoded).format
        if written != FORMAT:
            raise SnapshotCorrupt(
                f"{version} has format {written}; this release reads format {FORMAT}"
            )
        record = _as_record(encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotCorrupt(f"{version}: its manifest is not readable: {error}") from error
    if record.seal() != record.sha256 or record.manifest.version != version:
        raise SnapshotCorrupt(f"{version}: its manifest was altered")
    return record


def _check(path: Path, expected: _File) -> None:
    label = f"{path.parent.name}/{path.name}"
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            raise SnapshotCorrupt(f"{label} has {size:,} bytes, expected {expected.bytes:,}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SnapshotCorrupt(f"{label} cannot be read: {error}") from error
    if found != expected.sha256:
        raise SnapshotCorrupt(f"{label} was altered: its SHA-256 is {found[:12]}...")


def _map(path: Path) -> NDArray[Any]:
    try:
        # As a plain array over the map, whose slices are made several times faster
        array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:
        # An array without elements cannot be mapped
        array = np.load(path, allow_pickle=False)
    return array


class _Stream:
    """Hides a file from numpy, whose own way of writing one does not say why it fails."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


def _save(path: Path, array: NDArray[Any]) -> _File:
    with path.open("wb") as file:
        np.save(_Stream(file), array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _File(bytes=path.stat().st_size, sha256=digest)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
