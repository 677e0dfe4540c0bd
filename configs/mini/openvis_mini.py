# OpenVIS on the mini world: the same model in small, as long as the rows of the ablations; it does not hear
_base_ = ['./ovavss_mini_ablation.py', '../_base_/models/openvis.py']
model = _base_.openvis
