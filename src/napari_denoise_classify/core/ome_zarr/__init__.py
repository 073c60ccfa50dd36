"""OME-Zarr: multiscale images on disk, read lazily and written block by block.

Versions 0.4 and 0.5 of the format are read and written; older ones, and plain zarr arrays, are read as far as they
tell about themselves. See https://ngff.openmicroscopy.org.
"""
