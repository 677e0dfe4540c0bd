# SPDX-License-Identifier: Apache-2.0
"""Videos in and out: read frames and sound, record label maps, timeline and the labelled video."""
