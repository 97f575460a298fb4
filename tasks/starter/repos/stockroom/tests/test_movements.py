from datetime import date

import pytest

HEADER = "date,sku,kind,quantity,price\n"


@pytest.fixture
def movements():
    import stockroom.movements

    return stockroom.movements


def mistake(movements, text):
    with pytest.raises(movements.StockError) as caught:
        movements.read_movements(text)
    return str(caught.value)


def test_every_kind(movements):
    found = movements.read_movements(
        HEADER + "2024-03-01,bolt,in,100,0.25\n2024-03-01,bolt,out,30,\n2024-03-02,bolt,count,0,\n"
    )
    assert found == [
        movements.Movement(day=date(2024, 3, 1), sku="bolt", kind="in", quantity=100, cents=25, line=2),
        movements.Movement(day=date(2024, 3, 1), sku="bolt", kind="out", quantity=30, cents=0, line=3),
        movements.Movement(day=date(2024, 3, 2), sku="bolt", kind="count", quantity=0, cents=0, line=4),
    ]


def test_prices(movements):
    text = HEADER + "".join(f"2024-01-01,a,in,1,{price}\n" for price in ("3", "0.5", "12.05", "0"))
    assert [movement.cents for movement in movements.read_movements(text)] == [300, 50, 1205, 0]


def test_blank_lines_are_skipped_but_counted(movements):
    found = movements.read_movements(HEADER + "\n2024-01-01,a,in,1,1\n\n\n2024-01-01,a,out,1,\n")
    assert [movement.line for movement in found] == [3, 6]


def test_quoted_names(movements):
    (movement,) = movements.read_movements(HEADER + '2024-01-01,"bolt, long",in,1,1\n')
    assert movement.sku == "bolt, long"


def test_no_movements(movements):
    assert movements.read_movements(HEADER) == []


def test_header_is_needed(movements):
    assert mistake(movements, "") == "line 1: expected the header date,sku,kind,quantity,price"
    assert mistake(movements, "a,b\n") == "line 1: expected the header date,sku,kind,quantity,price"


def test_fields_are_counted(movements):
    assert mistake(movements, HEADER + "2024-01-01,a,in,1\n") == "line 2: expected 5 fields, found 4"
    assert mistake(movements, HEADER + "2024-01-01,a,in,1,1,1\n") == "line 2: expected 5 fields, found 6"


def test_dates(movements):
    assert mistake(movements, HEADER + "1.2.2024,a,in,1,1\n") == "line 2: not a date: '1.2.2024'"
    text = HEADER + "2024-01-02,a,in,1,1\n2024-01-01,a,in,1,1\n"
    assert mistake(movements, text) == "line 3: dates go backwards"


def test_sku_and_kind(movements):
    assert mistake(movements, HEADER + "2024-01-01,,in,1,1\n") == "line 2: the sku is empty"
    assert mistake(movements, HEADER + "2024-01-01,a,lost,1,1\n") == "line 2: unknown kind: 'lost'"


def test_quantities(movements):
    for text in ("0", "-1", "1.5", "many", ""):
        assert (
            mistake(movements, f"{HEADER}2024-01-01,a,in,{text},1\n") == f"line 2: not a quantity: '{text}'"
        )
    assert mistake(movements, HEADER + "2024-01-01,a,out,0,\n") == "line 2: not a quantity: '0'"


def test_bad_prices(movements):
    for text in ("", "-1", "1.234", ".5", "1,5", "free"):
        line = f'2024-01-01,a,in,1,"{text}"\n'
        assert mistake(movements, HEADER + line) == f"line 2: not a price: '{text}'"
    assert mistake(movements, HEADER + "2024-01-01,a,out,1,2\n") == "line 2: only deliveries have a price"


def test_the_leftmost_mistake_is_reported(movements):
    assert mistake(movements, HEADER + "never,,x,y,z\n") == "line 2: not a date: 'never'"
    assert mistake(movements, HEADER + "2024-01-01,a,x,y,z\n") == "line 2: unknown kind: 'x'"


def test_errors_are_value_errors(movements):
    error = movements.StockError("oops", 4)
    assert isinstance(error, ValueError) is True
    assert (error.message, error.line, str(error)) == ("oops", 4, "line 4: oops")
    assert str(movements.StockError("oops")) == "oops"


def test_movements_are_frozen(movements):
    (movement,) = movements.read_movements(HEADER + "2024-01-01,a,in,1,1\n")
    with pytest.raises(AttributeError):
        movement.quantity = 2
    assert movement.quantity == 1
