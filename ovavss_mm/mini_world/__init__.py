# SPDX-License-Identifier: Apache-2.0
"""The mini world: clips of moving, sounding shapes in the layout of AVSBench-semantic.

A name is ``<colour>-<shape>``. The colour decides what an object looks like and in which register it sounds, the shape
its outline and its timbre: a novel name recombines what base names teach. The folder also holds a trained mini model,
two CLIP models of this world with their vocabulary, and a CLAP, a Grounding DINO and a SAM of it.
"""
