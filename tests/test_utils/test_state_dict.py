# SPDX-License-Identifier: Apache-2.0
import torch

from ovavss_mm.utils.state_dict import compare_keys

EXPECTED = dict(a=torch.zeros(2), b=torch.zeros(3), c=torch.zeros(()))


def test_what_fits_is_false():
    assert not compare_keys(EXPECTED, EXPECTED)
    assert not compare_keys(dict(a=torch.ones(2)), EXPECTED, required=['a'])


def test_each_kind_is_named_counted_and_may_be_allowed():
    bad = compare_keys(dict(a=torch.zeros(5), c=torch.zeros(()), x=1, y=2), EXPECTED)
    assert str(bad) == ('1 missing: b; 2 unexpected: x, y; 1 of another shape: a is (5,), expected (2,)')
    assert bad.without(missing=['b$'], unexpected=['x']).unexpected == ['y']
    assert bad.without(shapes=['b', '(?!a)']).shapes and bad.without(['']).missing == []
    assert not bad.without([''], ['x', 'y'], ['a'])
