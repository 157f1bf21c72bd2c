"""Folders of runs."""

from __future__ import annotations

import os
from itertools import count


def new_folder(name: str) -> str:
    """Makes a folder of that name, with a number behind it where another run has the name, and gives its path."""
    folder = name
    for i in count(2):
        try:
            os.makedirs(folder)
        except FileExistsError:
            folder = f"{name}-{i}"
        else:
            break
    return folder
