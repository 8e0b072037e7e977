# SPDX-License-Identifier: Apache-2.0
"""`heepgen check-architecture`: the verification kit for an architecture's author."""
