"""Pages: counted, named, found and given back."""

from __future__ import annotations

from raison.engine.cache import PagePool, prefix_keys
from tests.engine.small import make_engine, params, prompt


def test_named_pages_are_kept_until_the_room_is_needed() -> None:
    pool = PagePool(3)
    keys = prefix_keys(range(12), 4, epoch=0)
    pages = [page for page in (pool.take() for _ in keys) if page is not None]
    for page, key in zip(pages, keys, strict=True):
        pool.name(page, key)
    assert pool.take() is None
    pool.release(reversed(pages))
    assert pool.available == 3
    assert pool.find(keys) == pages
    pool.share(pages[:1])
    assert pool.take() == pages[2]  # the end of a prefix goes first
    assert pool.find(keys) == pages[:2]
    pool.forget()
    assert pool.find(keys) == []
    assert pool.available == 1


def test_keys_tell_prefix_and_weights_apart() -> None:
    assert prefix_keys([1, 2, 3, 4, 5], 2, 0)[:1] == prefix_keys([1, 2, 9], 2, 0)
    assert len(prefix_keys([1, 2, 3, 4, 5], 2, 0)) == 2
    assert prefix_keys([0, 0, 3, 4], 2, 0)[1] != prefix_keys([1, 2, 3, 4], 2, 0)[1]
    assert prefix_keys([1, 2], 2, 0) != prefix_keys([1, 2], 2, 1)


def test_tenants_do_not_find_each_others_prefixes() -> None:
    engine = make_engine()
    for tenant, cached in (("a", 0), ("b", 0), ("a", 16), ("b", 16), ("", 0)):
        (group,) = engine.generate([prompt(18, 1)], params(0, max_tokens=2), tenant=tenant)
        assert group[0].cached_tokens == cached
    assert prefix_keys([1, 2], 2, 0, "a") != prefix_keys([1, 2], 2, 0, "b")
