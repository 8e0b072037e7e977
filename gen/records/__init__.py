# SPDX-License-Identifier: Apache-2.0
"""What every result can do: become a table for people, and JSON with its schema for programs."""
