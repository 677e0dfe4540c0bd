# SPDX-License-Identifier: Apache-2.0
"""Small helpers that every other folder may use; import them from their modules."""
