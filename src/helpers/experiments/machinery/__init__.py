"""What carries rows and does not change them: settings, artefacts, their origin, the runner, its cluster.

===============  ================================================================================
``config``       frozen settings; ``--set key=value``
``storage``      JSON on disk: atomic writes, a lock, a digest
``artefact``     one experiment's rows, settings and origin, as a file
``fingerprint``  what identifies the code that rows depend on
``provenance``   code, commit, libraries, machine
``worker``       one row, with a fixed number of threads
``runner``       row by row through any executor, resuming what is there
``cluster``      the executor of a Dask cluster
``library``      the artefacts that come with the book, and the reader's
``verify``       whether an artefact can be trusted
``restamp``      whether it is what the current code gives
===============  ================================================================================
"""
