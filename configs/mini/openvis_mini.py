# OpenVIS on the mini world: the same model in small, from scratch; it does not hear
_base_ = ['./ovavss_mini.py', '../_base_/models/openvis.py']
model = _base_.openvis
