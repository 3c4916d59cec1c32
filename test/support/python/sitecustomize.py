"""
Python finds shared libraries through ldconfig's cache, which knows nothing of unpacked packages.
This lets psycopg find libpq on the library path that the tests set. Loaded by Python at its start.
"""
import ctypes.util
import os

_find_library = ctypes.util.find_library


def find_library(name):
    found = _find_library(name)
    if found is not None:
        return found
    for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if not os.path.isdir(folder):
            continue
        for file in sorted(os.listdir(folder)):
            if file.startswith(f"lib{name}.so"):
                return os.path.join(folder, file)
    return None


ctypes.util.find_library = find_library
