"""Tests of the native runner."""
