"""Labelled image data sets."""
