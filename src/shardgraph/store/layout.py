"""Where everything in a store directory lies, and what its name says."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from shardgraph.files import PARTIAL_SUFFIX
from shardgraph.store.state import BLOB_KINDS, BlobKind

DATABASE = "store.sqlite"
DATABASE_COMPANIONS = ("store.sqlite-wal", "store.sqlite-shm")
LOCK = "lock"
NEWEST = "newest"
STAGING = "staging"
BACKUP_DATABASE = "backup.sqlite"
BACKUP_KEY = "backup.pem"
KEYS = "keys"
SIGNING_KEY = "receipts.pem"
BLOB_SUFFIX = ".safetensors"
_NAME_DIGITS = 16
_BLOB_NAME = re.compile(rf"(\d{{5,}})-([0-9a-f]{{{_NAME_DIGITS}}}){re.escape(BLOB_SUFFIX)}")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file; a directory is a store once this exists."""
        return self.root / DATABASE

    @property
    def log(self) -> Path:
        """The write-ahead log that SQLite keeps beside the database."""
        return self.root / DATABASE_COMPANIONS[0]

    @property
    def lock(self) -> Path:
        """The file that the writer locks."""
        return self.root / LOCK

    @property
    def newest(self) -> Path:
        """What says how new the database must be; see `witness`."""
        return self.root / NEWEST

    @property
    def staging(self) -> Path:
        """Partial work; may vanish at any time."""
        return self.root / STAGING

    @property
    def signing_key(self) -> Path:
        """The private key that signs receipts; none until the first receipt."""
        return self.root / KEYS / SIGNING_KEY

    def database_bytes(self) -> int:
        """Bytes of the database and its companions."""
        names = (DATABASE, *DATABASE_COMPANIONS)
        return sum((self.root / n).stat().st_size for n in names if (self.root / n).exists())

    def folder(self, kind: BlobKind) -> Path:
        """The folder of one kind of blob."""
        return self.root / kind

    def blob(self, kind: BlobKind, key: int, digest: str) -> Path:
        """The path of one blob: a function of what it is and what it holds."""
        return self.root.joinpath(kind, f"{key:05d}-{digest[:_NAME_DIGITS]}{BLOB_SUFFIX}")

    def staged(self, kind: BlobKind) -> Path:
        """A fresh path for a blob that is being written."""
        return self.staging / f"{kind}-{secrets.token_hex(8)}{PARTIAL_SUFFIX}"

    def blob_files(self) -> tuple[Path, ...]:
        """Every file in a blob folder that has the name of a blob, sorted."""
        return tuple(path for path in self._in_folders() if _BLOB_NAME.fullmatch(path.name))

    def foreign_files(self) -> tuple[Path, ...]:
        """Everything in the store directory that the store did not put there, sorted."""
        known = {DATABASE, *DATABASE_COMPANIONS, LOCK, NEWEST, STAGING, KEYS, *BLOB_KINDS}
        strangers = [path for path in self.root.iterdir() if path.name not in known]
        strangers += [path for path in self._in_folders() if not _BLOB_NAME.fullmatch(path.name)]
        keys = self.signing_key.parent
        if keys.is_dir():
            strangers += [path for path in keys.iterdir() if path.name != SIGNING_KEY]
        return tuple(sorted(strangers))

    def staged_files(self) -> tuple[Path, ...]:
        """Every file below the staging folder, sorted."""
        return tuple(sorted(p for p in self.staging.rglob("*") if p.is_symlink() or p.is_file()))

    def staged_folders(self) -> tuple[Path, ...]:
        """Every folder directly in the staging folder, sorted."""
        found = self.staging.iterdir() if self.staging.is_dir() else ()
        return tuple(sorted(p for p in found if p.is_dir() and not p.is_symlink()))

    def unfinished_databases(self) -> tuple[Path, ...]:
        """What a creation that was killed left beside the database's name, sorted."""
        return tuple(sorted(self.root.glob(f".{DATABASE}.*{PARTIAL_SUFFIX}*")))

    def _in_folders(self) -> list[Path]:
        folders = [self.folder(kind) for kind in BLOB_KINDS]
        return sorted(path for f in folders if f.is_dir() for path in f.iterdir())
