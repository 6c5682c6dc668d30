import pytest

from tests.bench import anatomy


@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for _, owner, name, _ in (*anatomy.SENDER, *anatomy.HOST) if owner is not None],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_step_of_a_hop_is_a_function_of_the_product(owner: object, name: str) -> None:
    assert callable(getattr(owner, name))


def test_steps_add_up_to_the_hop() -> None:
    edges = [f"{name} {edge}" for _, _, name, edge in (*anatomy.SENDER, *anatomy.HOST)]
    noted = {edge: [1_000_000 + place * 1_000] for place, edge in enumerate(edges, 1)}
    found = anatomy._anatomy("os", [1_000_000], [1_500_000], noted)
    assert set(found.steps.values()) == {1.0}
    assert found.hop_us == len(edges)
    assert found.acknowledged_us == 500


def test_a_step_that_nobody_took_is_an_error() -> None:
    noted = {f"{name} {edge}": [1_000] for _, _, name, edge in (*anatomy.SENDER, *anatomy.HOST)}
    noted["encode ends"] = []
    with pytest.raises(RuntimeError, match="nobody was seen to encode"):
        anatomy._anatomy("os", [0], [1], noted)
