import pytest


@pytest.fixture
def stock_after():
    from stockroom.stock import load_stock

    def load(*lines):
        rows = [f"2024-01-01,{line}\n" for line in lines]
        return load_stock("date,sku,kind,quantity,price\n" + "".join(rows))

    return load


def test_deliveries_are_lots(stock_after):
    stock = stock_after("a,in,10,1.00", "a,in,5,2.00")
    assert stock.lots("a") == [(10, 100), (5, 200)]
    assert stock.quantity("a") == 15
    assert stock.value("a") == 2000


def test_first_in_first_out(stock_after):
    stock = stock_after("a,in,10,1.00", "a,in,5,2.00", "a,out,12,")
    assert stock.lots("a") == [(3, 200)]
    assert stock.value("a") == 600


def test_a_lot_may_be_used_up_exactly(stock_after):
    assert stock_after("a,in,10,1.00", "a,in,5,2.00", "a,out,10,").lots("a") == [(5, 200)]
    assert stock_after("a,in,10,1.00", "a,out,10,").lots("a") == []


def test_articles_are_kept_apart(stock_after):
    stock = stock_after("b,in,1,1", "a,in,2,1", "b,out,1,")
    assert stock.skus() == ["a", "b"]
    assert [stock.quantity(sku) for sku in stock.skus()] == [2, 0]


def test_unknown_articles(stock_after):
    stock = stock_after()
    assert stock.skus() == []
    assert (stock.quantity("x"), stock.value("x"), stock.lots("x")) == (0, 0, [])
    assert stock.skus() == []


def test_too_large_a_withdrawal(stock_after):
    with pytest.raises(ValueError) as caught:
        stock_after("nut,in,3,1", "nut,out,4,")
    assert str(caught.value) == "line 3: only 3 of 'nut' in stock, 4 wanted"
    with pytest.raises(ValueError) as caught:
        stock_after("nut,out,1,")
    assert str(caught.value) == "line 2: only 0 of 'nut' in stock, 1 wanted"


def test_a_refused_movement_changes_nothing():
    from datetime import date

    from stockroom.movements import Movement, StockError
    from stockroom.stock import Stock

    stock = Stock()
    stock.apply(Movement(date(2024, 1, 1), "a", "in", 2, 50, 2))
    for sku in ("a", "b"):
        with pytest.raises(StockError):
            stock.apply(Movement(date(2024, 1, 1), sku, "out", 3, 0, 3))
    assert stock.lots("a") == [(2, 50)]
    assert stock.skus() == ["a"]


def test_counting_less_takes_the_oldest(stock_after):
    assert stock_after("a,in,10,1", "a,in,5,2", "a,count,7,").lots("a") == [(2, 100), (5, 200)]
    assert stock_after("a,in,10,1", "a,count,0,").lots("a") == []


def test_counting_the_same_changes_nothing(stock_after):
    assert stock_after("a,in,10,1", "a,count,10,").lots("a") == [(10, 100)]


def test_counting_more_adds_at_the_latest_price(stock_after):
    assert stock_after("a,in,10,1", "a,in,5,2", "a,count,18,").lots("a") == [(10, 100), (5, 200), (3, 200)]
    assert stock_after("a,in,1,3", "a,out,1,", "a,count,2,").lots("a") == [(2, 300)]


def test_counting_what_was_never_delivered(stock_after):
    stock = stock_after("a,count,4,")
    assert stock.lots("a") == [(4, 0)]
    assert stock.value("a") == 0


def test_lots_cannot_be_changed_from_outside(stock_after):
    stock = stock_after("a,in,10,1")
    stock.lots("a").clear()
    assert stock.quantity("a") == 10
