"""The laws of the design, a file each, over the table of public names; the ninth is that of `tests/properties`."""
