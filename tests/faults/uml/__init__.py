"""Tests that run inside User Mode Linux, whose kernel has what this one may lack."""
