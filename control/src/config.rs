//! What the operator says.
