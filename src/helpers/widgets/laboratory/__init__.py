"""The laboratory: networks that train in the page while every bound of the book answers.

=============  ==========================================================================================
``random.js``  PCG32; its twin in Python is ``generator``
``worlds.js``  digits and toys; ``worlds``
``network.js`` a network with one hidden layer, its gradients, Hessian products and traces; ``helpers.curvature``
``training.js``, ``session.js``  k runs in lockstep; ``replay``
``bounds.js``  the bounds; the modules of ``helpers`` that have their names
=============  ==========================================================================================

The scripts have no imports and are read one after the other, in this order. ``ENGINE`` is their text: the page runs it
in a worker that is made from it, or on its main thread where a browser forbids workers.
"""

from importlib.resources import files

PARTS = ("random", "worlds", "network", "training", "bounds", "session")


def script(name: str) -> str:
    """The text of one of the laboratory's scripts."""
    return (files("helpers.widgets.laboratory") / f"{name}.js").read_text(encoding="utf-8")


ENGINE = "\n".join(map(script, PARTS))
