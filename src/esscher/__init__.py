"""Prior, evidence, target: laws tilted by evidence, and honest ways to approximate them.

Importing this package loads nothing heavy; `esscher.core` holds the mathematics and
`esscher.align` the main job.
"""

from esscher.__about__ import __version__

__all__ = ["__version__"]
