//! The slow path of a transport: DTLS, SCTP and data channels, without I/O.
