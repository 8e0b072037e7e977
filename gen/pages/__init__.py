# SPDX-License-Identifier: Apache-2.0
"""Runs to look at: the timeline, the trace of it, and the page of a run or an estimate."""
