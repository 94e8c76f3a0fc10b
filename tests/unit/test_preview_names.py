"""Names of previews: valid, stable, and never two branches' whatever they are called."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deferlite.model.ids import is_environment_name
from deferlite.watcher.preview_names import names_for

BASES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
BRANCHES = st.one_of(
    st.text(min_size=1, max_size=300),
    st.text(alphabet="aA/-_.é", min_size=1, max_size=80),
    st.from_regex(r"[a-z]+(/[a-z0-9-]+){0,3}", fullmatch=True),
)


def taken(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The names that branches get one after the other."""
    names: dict[tuple[str, str], str] = {}
    for pair in pairs:
        if pair not in names:
            names[pair] = next(name for name in names_for(*pair) if name not in names.values())
    return names


def test_a_plain_branch_has_a_plain_name() -> None:
    assert next(names_for("shop", "feature/login-2")) == "shop--feature-login-2"


def test_what_the_name_cannot_say_is_in_a_hash() -> None:
    for branch in ("Feature/x", "feature/x_y", "feature/ü", "feature/x.", "-x", "feature/" + "x" * 80, "ü"):
        name = next(names_for("shop", branch))
        assert name.startswith("shop-") and name[-9] == "-" and len(name) <= 63, name


def test_branches_that_look_alike_and_a_base_with_the_separator() -> None:
    pairs = [("a", "b/c"), ("a", "b-c"), ("a", "b--c"), ("a", "B/c"), ("a--b", "c"), ("a", "b/-c"), ("a", "b_c")]
    assert len(set(taken(pairs).values())) == len(pairs)


@given(st.lists(st.tuples(BASES, BRANCHES), max_size=8))
def test_names_are_valid_and_no_two_are_the_same(pairs: list[tuple[str, str]]) -> None:
    names = taken(pairs)
    assert all(is_environment_name(name) for name in names.values())
    assert len(set(names.values())) == len(names)


@given(BASES, BRANCHES, BRANCHES)
def test_the_names_with_a_hash_are_no_other_branchs(base: str, one: str, other: str) -> None:
    if one != other:
        assert not set(list(names_for(base, one))[-3:]) & set(list(names_for(base, other))[-3:])
    assert list(names_for(base, one)) == list(names_for(base, one))
