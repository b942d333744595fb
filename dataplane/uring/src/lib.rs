//! The wires of a shard: ring, buffers, sockets, pinning, and the rings between threads.
