"""Tests of the wire layer; a package, so that they share their strategies."""
