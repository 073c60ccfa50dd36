"""Jobs on many machines: the workers of a dask.distributed cluster do them, one each at a time.

What travels is the description of a job and a line of text. The worker reads the images and writes the results
itself, each file whole or not at all, into folders that all machines share. So a worker that is lost loses nothing
but the job that it was at, which another one does again from its beginning.
"""
