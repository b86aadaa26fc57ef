//! Live tests: harness. Starts and ends only processes of its own.
