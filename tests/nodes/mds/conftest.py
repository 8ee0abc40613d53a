from .rig import two, world

__all__ = ["two", "world"]
