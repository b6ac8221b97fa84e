"""The board: a local page that shows the runs below a folder, also while they train.

    pydnn board runs/

It reads runs without locking or changing them, serves pages on this machine alone, and answers
nothing but requests to read.
"""

from pydnn.board.server import Board, make_server

__all__ = ["Board", "make_server"]
