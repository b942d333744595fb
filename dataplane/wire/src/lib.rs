//! Said in bits: RTP, RTCP, STUN, header extensions and the VP8 payload descriptor.
