"""Sliders that live in a notebook and, without a kernel, on the built page.

The laboratory trains networks in the page. The five others share one drawing core (``static/widget.js``); each of
these is made from numbers that are already there, and moving its sliders computes nothing in Python, so the static
page can do all that the notebook does. In a notebook,
``widget.observe(function, names="position")`` follows the reader. Put a widget on the last line of a cell, or
``display`` it.

==============  =========================================================================
``chart``       the base: a drawing with sliders, and its numbers as a table
``curves``      ``Curves``, ``LambdaPath``, ``BoundExplorer``
``plane``       ``Plane``: paths, points and regions over a landscape
``dice``        ``Dice``: a distribution to be drawn by hand, its numbers computed in the page
``static``      the drawing core and its style
``laboratory``  ``Laboratory``: training in the page, with an engine and an element of its own
==============  =========================================================================

Numbers are rounded to four digits on their way to the page. Infinity is drawn as a gap in a curve and written as
"infinite", and so is what exceeds 1e300; what is smaller than 1e-300 is 0. NaN and missing keys are refused with a
sentence that names the row.
"""

from helpers.widgets.curves import BoundExplorer, Curves, LambdaPath
from helpers.widgets.dice import Dice
from helpers.widgets.laboratory import Laboratory, Train
from helpers.widgets.plane import Plane

__all__ = ["BoundExplorer", "Curves", "Dice", "Laboratory", "LambdaPath", "Plane", "Train"]
