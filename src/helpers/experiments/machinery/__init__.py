"""What carries rows and does not change them: settings, artefacts, their origin, the runner, its cluster.

===============  ================================================================================
``config``       frozen settings; ``--set key=value``
``artefact``     the JSON file: atomic writes, hashes, a lock
``provenance``   code, commit, libraries, machine
``runner``       row by row through any executor, resuming what is there
``cluster``      the executor of a Dask cluster
``verify``       whether an artefact can be trusted
``library``      the artefacts that come with the book
===============  ================================================================================
"""
