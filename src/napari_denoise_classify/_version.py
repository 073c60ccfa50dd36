"""The version, in one place: the package, the record of every output and the build read it here."""

__version__ = "0.1.0"
