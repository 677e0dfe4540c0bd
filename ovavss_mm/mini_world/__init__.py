# SPDX-License-Identifier: Apache-2.0
"""The mini world: clips of moving, sounding shapes in the layout of AVSBench-semantic.

A name is ``<colour>-<shape>``. The colour decides what an object looks like and in which register
it sounds, the shape decides its outline and its timbre, so that a novel name recombines what the
base names teach. The modules are imported by their own names (``mini_world.names``, ``scene``,
``drawing``, ``sound``, ``world``); nothing is drawn on import.
"""
