# The mini model, whose masks the mini SAM draws anew before they are named; it differs at test time only
_base_ = ['./ovavss_mini_ablation.py', '../_base_/models/foundation_mini.py']
model = dict(refiner=dict(type='SAMMaskRefiner', masker=_base_.mini_sam))
test_evaluator = dict(boundary=True)
