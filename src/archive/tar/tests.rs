//! Tests of the tar layer.
