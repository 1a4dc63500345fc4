"""The tables of the event store. Nothing here holds state that the events do not tell, except who this replica is and what it promised."""

from sqlalchemy import BigInteger, Index, LargeBinary, MetaData, Text
from sqlmodel import Field, SQLModel


class StoreTable(SQLModel):
    """Base of the tables of this store; they have a catalogue of their own, so that founding creates these and no others."""

    metadata = MetaData()


class EventRow(StoreTable, table=True):
    """One sealed record; the columns stand in the order of `Record`'s fields. The database never gives out a position."""

    __tablename__ = "event"
    __table_args__ = (
        Index("event_by_stream", "stream", "seq"),
        Index("event_by_type", "log", "type", "seq"),
        {"sqlite_with_rowid": False},
    )

    log: str = Field(sa_type=Text, primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False})
    epoch: str = Field(sa_type=Text)
    stream: str = Field(sa_type=Text)
    type: str = Field(sa_type=Text)
    version: int
    at: int = Field(sa_type=BigInteger)
    data: str = Field(sa_type=Text)
    hash: bytes = Field(sa_type=LargeBinary)


class SnapshotRow(StoreTable, table=True):
    """Written last: with it a snapshot becomes usable. `checksum` is that of the last part."""

    __tablename__ = "snapshot"
    __table_args__ = {"sqlite_with_rowid": False}

    log: str = Field(sa_type=Text, primary_key=True)
    number: int = Field(sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False})
    seq: int = Field(sa_type=BigInteger)
    epoch: str = Field(sa_type=Text)
    hash: bytes = Field(sa_type=LargeBinary)
    checksum: bytes = Field(sa_type=LargeBinary)


class SnapshotPartRow(StoreTable, table=True):
    """A piece of bounded size of a snapshot's text; its checksum covers the pieces before it too."""

    __tablename__ = "snapshot_part"

    log: str = Field(sa_type=Text, primary_key=True)
    number: int = Field(sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False})
    position: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    data: str = Field(sa_type=Text)
    checksum: bytes = Field(sa_type=LargeBinary)


class PromiseRow(StoreTable, table=True):
    """The epoch that this replica promised last for a log: it votes for no lower one."""

    __tablename__ = "promise"
    __table_args__ = {"sqlite_with_rowid": False}

    log: str = Field(sa_type=Text, primary_key=True)
    epoch: str = Field(sa_type=Text)


class ProgressRow(StoreTable, table=True):
    """How far a log was known to be committed; the hash of the record there proves that the row is of this very log."""

    __tablename__ = "progress"
    __table_args__ = {"sqlite_with_rowid": False}

    log: str = Field(sa_type=Text, primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    hash: bytes = Field(sa_type=LargeBinary)


class IdentityRow(StoreTable, table=True):
    """The one row that says who this replica is and which log it founded; `promised` is a checksum of all its promises."""

    __tablename__ = "identity"
    __table_args__ = {"sqlite_with_rowid": False}

    node: str = Field(sa_type=Text, primary_key=True)
    log: str = Field(sa_type=Text)
    checksum: bytes = Field(sa_type=LargeBinary)
    promised: bytes = Field(sa_type=LargeBinary)


METADATA = StoreTable.metadata
EVENT = METADATA.tables["event"]
SNAPSHOT = METADATA.tables["snapshot"]
SNAPSHOT_PART = METADATA.tables["snapshot_part"]
PROGRESS = METADATA.tables["progress"]
IDENTITY = METADATA.tables["identity"]
