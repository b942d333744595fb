//! What a shard's thread counts about its wires, beside what the shard counts about packets.

use weir_shard::Counter;

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $name:literal;)*) => {
        /// Single-writer numbers of one shard's ring. Shared with whoever exports them.
        #[derive(Debug, Default)]
        pub struct RingCounters {
            $($(#[$doc])* pub $field: Counter,)*
        }

        impl RingCounters {
            /// Calls `f` with every metric's name and value.
            pub fn for_each(&self, mut f: impl FnMut(&'static str, u64)) {
                $(f($name, self.$field.get());)*
            }
        }
    };
}

counters! {
    /// Wake-ups, each one batch and one `io_uring_enter`.
    wakeups => "weir_ring_wakeups_total";
    /// Times that a batch had more submissions than the queue holds and needed another system call.
    extra_submits => "weir_ring_extra_submits_total";
    /// Receives that were started again after the kernel ended them.
    receives_armed => "weir_ring_receives_armed_total";
    /// Times that the kernel had no buffer for a datagram.
    buffers_exhausted => "weir_ring_buffers_exhausted_total";
    /// Receives that ended with another error.
    receive_errors => "weir_ring_receive_errors_total";
    /// Datagrams larger than a buffer, or without an address.
    datagrams_unusable => "weir_ring_datagrams_unusable_total";
    /// Sends that failed.
    send_errors => "weir_ring_send_errors_total";
    /// Sends for a destination whose address family has no socket.
    sends_unroutable => "weir_ring_sends_unroutable_total";
    /// Runs of datagrams that the kernel or the network card refused, and that went out one by one.
    segmentation_refused => "weir_ring_segmentation_refused_total";
    /// Wake-ups of control.
    control_wakeups => "weir_ring_control_wakeups_total";
    /// Receive buffers that the kernel may fill (now).
    receive_buffers_with_kernel => "weir_ring_receive_buffers_with_kernel";
    /// Sends that the kernel has not completed (now).
    sends_in_flight => "weir_ring_sends_in_flight";
}
