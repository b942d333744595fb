//! A focus for Matrix calls.
