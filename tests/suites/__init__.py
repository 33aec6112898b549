"""The test suites; tests/harness.py says what one is."""
