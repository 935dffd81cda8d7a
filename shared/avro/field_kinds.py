"""Kinds of fields, as the kernels that write and read records know them."""

TEXT, LONG, DOUBLE, FLOAT, BOOLEAN, INT, ENUM, BYTES, SPAN, SKIP, GROUP, NULL = range(12)
"""BYTES are of a fixed size, a SPAN is the encoding of an array, a map or a union, SKIP is what nobody reads, a GROUP is a record
that may be null (its size: how many fields follow that belong to it)."""
