# OV-AVSS that labels only what it hears, the best of the ways measured in docs/hearing.md
_base_ = '../ablations/hearing_mix_gates-matched.py'
