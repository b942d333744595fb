//! The focus's Matrix device: login, sync, to-device messages and room state.
