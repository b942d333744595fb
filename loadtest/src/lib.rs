//! Synthetic participants and the demo.
