"""Builds the documentation site: lays out the pages, writes the reference from the code, runs Zensical."""
