# TPAVI with the quadratic form of its attention, see quadratic_tpavi.py
_base_ = ['../configs/tpavi/tpavi_r50_1xb4-60e_avsbench-ov.py']
custom_imports = dict(imports=[*_base_.custom_imports.imports, 'quadratic_tpavi'])
model = dict(decode_head=dict(type='QuadraticTPAVIHead'))
