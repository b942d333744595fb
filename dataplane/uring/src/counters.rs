//! What a shard's thread counts about its wires, beside what the shard counts about packets.

weir_shard::labelled! {
    /// What a batch consists of, in this order.
    pub enum Step {
        /// What control has ordered.
        Commands => "commands";
        /// Completions are taken; datagrams are sorted, authenticated and decrypted; RTCP and STUN are dealt with.
        Receive => "receive";
        /// Whose packet it is, who takes it, and with which numbers.
        Route => "route";
        /// Reports, feedback, decisions about layers and bandwidth.
        Timers => "timers";
        /// Headers are written and payloads encrypted into send buffers.
        Seal => "seal";
        /// Sends are put into the ring, and handed to the kernel where there are many.
        Submit => "submit";
        /// Buffers go back to the kernel, events to control.
        Settle => "settle";
    }
}

weir_shard::labelled! {
    /// Who has a buffer.
    pub enum Holder {
        /// To be filled, or to be sent.
        Kernel => "kernel";
        /// Free, kept for retransmission, or at work.
        Shard => "shard";
    }
}

weir_shard::metrics! {
    /// Single-writer numbers of one shard's ring. Shared with whoever exports them.
    pub struct RingCounters {
        /// Wake-ups, each one batch.
        wakeups: counter = "weir_ring_wakeups_total",
            "More packets or timers. Under full load it falls again, since batches become larger.";
        /// From wake-up to sleep, for each batch.
        batch_time: histogram(10, 15) / 1e9 = "weir_ring_batch_seconds",
            "Everything that arrives meanwhile waits so long. Tens of milliseconds: the shard's core is full, or somebody else uses it.";
        /// How long each step of a batch took, in every 17th batch.
        step_time: histogram[Step; "step"](8, 17) / 1e9 = "weir_ring_step_seconds",
            "Compare the steps: `receive` and `route` grow with what is published, `seal` and `submit` with what is watched.";
        /// Times that a batch had more submissions than the queue holds and needed another system call.
        extra_submits: counter = "weir_ring_submission_queue_full_total",
            "Batches are larger than planned for. Harmless but for a system call each.";
        /// Wake-ups at which the kernel had more completions than the queue holds.
        completions_overflowed: counter = "weir_ring_completion_queue_overflows_total",
            "The shard does not keep up; receives end and are started again.";
        /// Times that the ring of events to control was full.
        events_full: counter = "weir_ring_events_full_total",
            "Control does not keep up: its cores are full.";
        /// Times that the ring of commands from control was full; they are tried again.
        commands_full: counter = "weir_ring_commands_full_total",
            "The shard does not keep up, or hundreds join at once.";
        /// Receives that were started again after the kernel ended them.
        receives_armed: counter = "weir_ring_receives_armed_total",
            "With weir_ring_buffers_exhausted_total or weir_ring_completion_queue_overflows_total: see there.";
        /// Times that the kernel had no buffer for a datagram.
        buffers_exhausted: counter = "weir_ring_buffers_exhausted_total",
            "The shard does not keep up; datagrams wait in the socket, and are lost when that is full.";
        /// Receives that ended with another error.
        receive_errors: counter = "weir_ring_receive_errors_total",
            "Some come from unreachable participants. Many: look at the machine's network.";
        /// Datagrams larger than a buffer, or without an address.
        datagrams_unusable: counter = "weir_ring_datagrams_unusable_total",
            "Nothing that belongs to a call is that large: somebody sends nonsense.";
        /// Sends that failed.
        send_errors: counter = "weir_ring_send_errors_total",
            "A firewall, a route or the network card refuses what the focus sends.";
        /// Sends for which there was no socket: none of the destination's address family, or none could be opened.
        sends_unroutable: counter = "weir_ring_sends_unroutable_total",
            "media.listen lacks IPv4 or IPv6. Or the process is at its limit of open files, see the log.";
        /// Sockets that have been opened to call other foci from, besides those that are listened on (now).
        calling_sockets: gauge = "weir_ring_calling_sockets",
            "More trunks to one address at a time than ever before. They stay open; media.calling_ports limits them.";
        /// Runs of datagrams that the kernel or the network card refused, and that went out one by one.
        segmentation_refused: counter = "weir_ring_segmentation_refused_total",
            "The network card cannot segment UDP: sends cost the kernel a multiple.";
        /// Wake-ups of control.
        control_wakeups: counter = "weir_ring_control_wakeups_total",
            "More joins, leaves and changes.";
        /// Receive buffers by who has them (now).
        receive_buffers: gauge[Holder; "holder"] = "weir_ring_receive_buffers",
            "`shard` rises with what is kept for retransmission, up to a limit. `kernel` near zero: packets are about to be lost.";
        /// Send buffers by who has them (now).
        send_buffers: gauge[Holder; "holder"] = "weir_ring_send_buffers",
            "`kernel` rises when the kernel or the network card is slower than the shard. Without any at `shard` packets are dropped.";
    }
}
