from seedbed.iterate import batched, divisors


def test_batches_are_in_order_and_the_last_one_is_shorter() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_divisors_are_those_that_leave_nothing() -> None:
    for number in range(1, 200):
        assert divisors(number) == [n for n in range(1, number + 1) if number % n == 0]


def test_divisors_of_a_large_number_take_its_square_root() -> None:
    assert len(divisors(2**30)) == 31 and divisors(10**12)[-2:] == [5 * 10**11, 10**12]
