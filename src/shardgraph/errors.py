"""Every error that shardgraph raises on purpose, in one tree.

::

    ShardgraphError                     exit  HTTP
    ├── UsageError                         2   400   the call cannot be carried out as asked
    │   ├── UnknownIdError                 3   404   no such sample, owner, source or node
    │   ├── GraphError                     2   400   an impossible shard graph
    │   └── RecipeError                    2   400   contradictory or unsupported settings
    ├── DataError                          4   422   something is wrong with the input data
    │   └── BadFileError                   4   422   one file cannot be read as what it should be
    ├── StoreError                         5   409   the store cannot be used as it is
    │   ├── StoreExistsError               5   409   there is a store already
    │   ├── StoreMissingError              5   404   there is no store here
    │   ├── StoreLockedError               6   423   another process is writing
    │   ├── StoreFormatError               5   409   written by a newer version, or not a store
    │   └── StoreDamagedError              7   500   bytes differ from their digest
    ├── EnvironmentChangedError            8   409   refits here would give other bits
    ├── VerificationError                  1   409   a refit differs from what is stored
    └── InterruptedWorkError              130  503   stopped half-way; nothing is lost

Each error carries one line of *what is wrong* and one of *what to do* (``advice``).
The command line prints both and exits with ``exit_code``; ``http_status`` is for services.
No message holds anything but ids and paths that the caller gave.
"""

from __future__ import annotations


class ShardgraphError(Exception):
    """Base class of all errors raised on purpose."""

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class UsageError(ShardgraphError, ValueError):
    """The call cannot be carried out as asked."""

    exit_code = 2
    http_status = 400


class UnknownIdError(UsageError, KeyError):
    """No live sample, owner, source or node has this name."""

    exit_code = 3
    http_status = 404

    __str__ = ShardgraphError.__str__


class GraphError(UsageError):
    """The shard graph is impossible or does not fit the data."""


class RecipeError(UsageError):
    """The settings contradict each other or are not supported."""


class DataError(ShardgraphError, ValueError):
    """Something is wrong with the input data."""

    exit_code = 4
    http_status = 422


class BadFileError(DataError):
    """One file cannot be read as the image or text it should be."""


class StoreError(ShardgraphError):
    """The store cannot be used as it is."""

    exit_code = 5
    http_status = 409


class StoreExistsError(StoreError):
    """There is a store at this path already."""


class StoreMissingError(StoreError):
    """There is no store at this path."""

    http_status = 404


class StoreLockedError(StoreError):
    """Another process is writing to the store."""

    exit_code = 6
    http_status = 423


class StoreFormatError(StoreError):
    """The store was written by a newer version, or is not a store."""


class StoreDamagedError(StoreError):
    """Stored bytes differ from their digest, or a file is missing."""

    exit_code = 7
    http_status = 500


class EnvironmentChangedError(ShardgraphError):
    """Libraries, instruction set or device differ from those the nodes were fitted with."""

    exit_code = 8
    http_status = 409


class VerificationError(ShardgraphError):
    """A node refitted from scratch differs from the stored one."""

    exit_code = 1
    http_status = 409


class InterruptedWorkError(ShardgraphError):
    """Work was stopped half-way; it resumes at the next start."""

    exit_code = 130
    http_status = 503
