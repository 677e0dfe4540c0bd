# CATR on AVSBench's S4: the published binary setting
_base_ = ['../_base_/models/catr_pvt-v2-b5.py', '../_base_/default_runtime.py']
