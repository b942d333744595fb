//! A participant of its own: signalling, publishing, subscribing, full ICE, by an independent stack.
