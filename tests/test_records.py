import pytest

from skyclaw.records import GENESIS_EPOCH, GENESIS_HASH, Epoch, Record, chain_hash, sealed

RECORD = Record("0123abcd", 7, "0.1.n", "j1", "JobLeased", 1, 1_700_000_000_000, '{"job_id":"j1"}')
OTHER = {
    "log": "0123abce",
    "seq": 8,
    "epoch": "0.2.n",
    "stream": "j2",
    "type": "JobReleased",
    "version": 2,
    "at": 1_700_000_000_001,
    "data": '{"job_id":"j2"}',
}


def changed(**fields: object) -> Record:
    values = {name: getattr(RECORD, name) for name in OTHER} | fields
    return Record(**values)


@pytest.mark.parametrize("name", list(OTHER))
def test_a_change_of_any_field_changes_the_hash(name: str) -> None:
    assert chain_hash(GENESIS_HASH, changed(**{name: OTHER[name]})) != chain_hash(GENESIS_HASH, RECORD)


def test_another_predecessor_changes_the_hash() -> None:
    assert chain_hash(b"\1" * 32, RECORD) != chain_hash(GENESIS_HASH, RECORD)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"log": "a", "epoch": "bc"}, {"log": "ab", "epoch": "c"}),
        ({"stream": "a", "type": "bc"}, {"stream": "ab", "type": "c"}),
        ({"stream": 'j1", "x'}, {"stream": "j1", "type": 'x", "JobLeased'}),
        ({"stream": "j\n1"}, {"stream": "j", "data": "1"}),
        ({"seq": 1, "version": 12}, {"seq": 11, "version": 2}),
    ],
)
def test_text_that_moves_between_fields_changes_the_hash(one: dict[str, object], other: dict[str, object]) -> None:
    assert chain_hash(GENESIS_HASH, changed(**one)) != chain_hash(GENESIS_HASH, changed(**other))


def test_a_record_is_sealed_with_its_hash_and_is_otherwise_the_same() -> None:
    record = sealed(GENESIS_HASH, RECORD)
    assert record.hash == chain_hash(GENESIS_HASH, RECORD)
    assert changed() == RECORD
    assert {name: getattr(record, name) for name in OTHER} == {name: getattr(RECORD, name) for name in OTHER}


def test_a_record_can_be_sealed_again_whatever_hash_it_bore() -> None:
    assert sealed(GENESIS_HASH, sealed(b"\1" * 32, RECORD)) == sealed(GENESIS_HASH, RECORD)


def test_an_exchange_of_two_events_is_seen_in_the_chain() -> None:
    def end(*records: Record) -> bytes:
        last = GENESIS_HASH
        for record in records:
            last = chain_hash(last, record)
        return last

    assert end(RECORD, changed(seq=8)) != end(changed(seq=8), RECORD)
    assert end(RECORD, changed(seq=8)) != end(RECORD)


def test_text_beyond_ascii_has_a_hash() -> None:
    assert chain_hash(GENESIS_HASH, changed(data='{"stdout":"häß \U0001f600 \\u0000"}', stream="ü")) != chain_hash(GENESIS_HASH, RECORD)


@pytest.mark.parametrize("epoch", [GENESIS_EPOCH, Epoch(0, 1, "node-a#1f"), Epoch(2, 10, "10.0.0.1"), Epoch(1, 2, "with.two.dots")])
def test_an_epoch_is_read_back_from_its_text(epoch: Epoch) -> None:
    assert Epoch.parse(str(epoch)) == epoch


@pytest.mark.parametrize("text", ["", "1", "1.2", "a.1.n", "1.b.n", "1,2,n"])
def test_what_is_no_epoch_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # int and unpacking word it differently
        Epoch.parse(text)


def test_epochs_are_ordered_as_numbers_not_as_text() -> None:
    assert Epoch(0, 9, "z") < Epoch(0, 10, "a") < Epoch(1, 0, "a") < Epoch(1, 0, "b")
