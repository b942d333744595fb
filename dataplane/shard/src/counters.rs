//! What a shard counts. It writes, anyone may read at any time; what the numbers are and cost is in `metrics`.

use crate::metrics;
use crate::metrics::{Counter, Family, Kind, Sink};
use crate::reason::{Direction, Reason, Stage, Withheld};

metrics! {
    /// Everything a shard counts. Shared with whoever exports it.
    pub struct Counters {
        /// Datagrams that came in.
        datagrams_received: counter = "weir_shard_received_datagrams_total",
            "More is sent to the focus. Compare with weir_shard_packets_total{stage=\"bound\"}: what grows apart is not media.";
        /// Bytes of the datagrams that came in.
        bytes_received: counter = "weir_shard_received_bytes_total",
            "More is sent to the focus. The machine's network has a limit.";
        /// Datagrams that went out.
        datagrams_sent: counter = "weir_shard_sent_datagrams_total",
            "More is forwarded. Each send costs the kernel most: see weir_shard_send_segments.";
        /// Bytes of the datagrams that went out.
        bytes_sent: counter = "weir_shard_sent_bytes_total",
            "More is forwarded. The machine's network has a limit.";
        /// Sends: one may hold many datagrams.
        sends: counter = "weir_shard_sends_total",
            "The cost of the kernel grows with it.";
        /// Datagrams in one send.
        send_segments: histogram(0, 7) = "weir_shard_send_segments",
            "Good: the same packets cost the kernel less. It is longest for pictures in full size.";
        /// Datagrams that were taken in one batch; batches without any are not counted.
        batch_datagrams: histogram(0, 11) = "weir_shard_batch_datagrams",
            "The shard is busy while more arrives; hundreds say that its core is nearly full.";
        /// Packets that reached a stage in one batch; batches without any are not counted.
        batch_packets: histogram[Stage; "stage"](0, 13) = "weir_shard_batch_packets",
            "As weir_shard_batch_datagrams; behind `selected` it counts once for each subscriber.";
        /// Packets of RTP that have reached a stage; from `selected` on once for each subscriber.
        stages: counter[Stage; "stage"] = "weir_shard_packets_total",
            "More media. What does not get from one stage to the next is in weir_shard_dropped_total and weir_shard_withheld_total.";
        /// Bytes of the packets that have reached a stage: as on the wire in `received`, `bound` and `sealed`, else the payload.
        stage_bytes: counter[Stage; "stage"] = "weir_shard_bytes_total",
            "More media, or larger pictures.";
        /// Datagrams that came over trunks, connectivity checks left out.
        trunk_datagrams_received: counter = "weir_shard_trunk_received_datagrams_total",
            "More that is published at other foci is watched here.";
        /// Bytes of the datagrams that came over trunks, connectivity checks left out.
        trunk_bytes_received: counter = "weir_shard_trunk_received_bytes_total",
            "As weir_shard_trunk_received_datagrams_total, or pictures are larger. Each track comes once, whoever watches it.";
        /// Datagrams that went out over trunks, connectivity checks left out.
        trunk_datagrams_sent: counter = "weir_shard_trunk_sent_datagrams_total",
            "More that is published here is watched at other foci.";
        /// Bytes of the datagrams that went out over trunks, connectivity checks left out.
        trunk_bytes_sent: counter = "weir_shard_trunk_sent_bytes_total",
            "As weir_shard_trunk_sent_datagrams_total, or pictures are larger. Each track goes once to each focus, whoever watches it there.";
        /// RTP packets of tracks that were accepted.
        rtp_received: counter = "weir_shard_rtp_received_total",
            "More media is published.";
        /// RTP packets that went to subscribers, resends not among them.
        rtp_forwarded: counter = "weir_shard_rtp_forwarded_total",
            "More media is watched.";
        /// Retransmissions of publishers that were unwrapped.
        rtx_unwrapped: counter = "weir_shard_rtx_unwrapped_total",
            "Publishers lose packets on their way to the focus, and mend it.";
        /// Packets that publishers' numbers say were sent and that did not come (yet).
        rtp_missing: counter = "weir_shard_rtp_missing_total",
            "Packets are lost or late on the way from publishers; or the socket overflows because the shard's core is full.";
        /// RTCP packets (compound) that came in.
        rtcp_received: counter = "weir_shard_rtcp_received_total",
            "More participants, or more losses.";
        /// RTCP packets (compound) that went out.
        rtcp_sent: counter = "weir_shard_rtcp_sent_total",
            "More participants, or more losses.";
        /// Connectivity checks that were answered.
        checks_answered: counter = "weir_shard_stun_checks_answered_total",
            "More participants: each sends one every few seconds.";
        /// Connectivity checks that were sent, to foci that this one has called.
        checks_sent: counter = "weir_shard_stun_checks_sent_total",
            "More trunks: each sends one every five seconds, and more while it comes about.";
        /// Authenticated answers to the connectivity checks that were sent.
        checks_confirmed: counter = "weir_shard_stun_checks_confirmed_total",
            "As weir_shard_stun_checks_sent_total. When only that one rises, another focus cannot be reached.";
        /// Remote addresses that were not checked: more than a transport may have, none that can be sent to, or with no socket left to
        /// call them from.
        remotes_ignored: counter = "weir_shard_remotes_ignored_total",
            "Other foci name too many addresses, or a shard has more trunks to one address than media.calling_ports.";
        /// Keyframes of publishers.
        keyframes_received: counter = "weir_shard_keyframes_received_total",
            "Somebody starts, switches layers or loses packets. Keyframes cost everybody who watches bandwidth.";
        /// Keyframe requests sent to publishers.
        keyframe_requests_sent: counter = "weir_shard_keyframe_requests_sent_total",
            "Without weir_shard_keyframes_received_total: a publisher does not answer. With it: joins, switches or losses.";
        /// Keyframe requests of subscribers, and those of the shard itself, that joined one under way.
        keyframe_requests_coalesced: counter = "weir_shard_keyframe_requests_coalesced_total",
            "Many need the same keyframe; this is what saves it from being made for each.";
        /// Keyframe requests that subscribers sent.
        keyframe_requests_received: counter = "weir_shard_keyframe_requests_received_total",
            "Decoders are stuck: losses that were not mended in time.";
        /// Sequence numbers that subscribers reported missing.
        nacks_received: counter = "weir_shard_nacked_packets_received_total",
            "Subscribers lose packets. Compare with weir_shard_resends_total and weir_shard_resends_refused_total.";
        /// Packets sent again.
        resends: counter = "weir_shard_resends_total",
            "Subscribers lose packets, and it is mended.";
        /// Sequence numbers that the focus reported missing to publishers.
        nacks_sent: counter = "weir_shard_nacked_packets_sent_total",
            "Packets are lost on the way from publishers.";
        /// Video subscriptions that began to flow.
        starts: counter = "weir_shard_starts_total",
            "People join or change what they look at.";
        /// From when a video subscription could begin until its first packet was forwarded.
        start_wait: histogram(10, 15) / 1e6 = "weir_shard_start_wait_seconds",
            "Publishers answer keyframe requests late: their way is long or lossy, or their encoder is busy.";
        /// Layer changes that took place.
        switches: counter = "weir_shard_switches_total",
            "Sizes of tiles or bandwidths change. Many a minute for each participant: a bandwidth that comes and goes.";
        /// From the decision to change a layer until the change; the old layer flows meanwhile.
        switch_wait: histogram(10, 15) / 1e6 = "weir_shard_switch_wait_seconds",
            "As weir_shard_start_wait_seconds.";
        /// Layer changes refused because the picture's time would have gone back.
        switches_refused: counter = "weir_shard_switches_refused_total",
            "A publisher's layers disagree about the time; switches take longer.";
        /// Packets of padding, sent to learn how much a subscriber can be sent.
        probes: counter = "weir_shard_probes_total",
            "People join, or want more than fits.";
        /// Decisions that gave a subscriber's pictures less than before, because less fits.
        allocations_lowered: counter = "weir_shard_allocations_lowered_total",
            "Bandwidths of subscribers shrink. With weir_shard_allocations_raised_total: they come and go.";
        /// Decisions that gave a subscriber's pictures more than before.
        allocations_raised: counter = "weir_shard_allocations_raised_total",
            "Bandwidths of subscribers grow, or fewer share them.";
        /// Layers given up because they were silent while others flowed.
        layers_stalled: counter = "weir_shard_layers_stalled_total",
            "Publishers stop layers by themselves: their way up or their processor is too small.";
        /// Padding-only packets that were left out, the numbers behind them closed up.
        padding_removed: counter = "weir_shard_padding_removed_total",
            "Publishers probe their way up. Harmless.";
        /// Changes of who speaks that were told.
        speakers_told: counter = "weir_shard_speakers_told_total",
            "Lively conversation.";
        /// Changes of which layers of a track anybody needs that were told.
        layers_in_use_told: counter = "weir_shard_layers_in_use_told_total",
            "Sizes of tiles change.";
        /// Commands that named something the shard does not have.
        unknown_ids: counter = "weir_shard_unknown_ids_total",
            "A few when people leave. Many are a fault of the focus: report it.";
        /// Commands refused because a table was full or the id was taken.
        commands_refused: counter = "weir_shard_commands_refused_total",
            "The shard is full: more shards, or lower limits in the configuration.";
        /// Subscriptions that wait for a keyframe to start or to switch (now).
        waiting_switches: gauge = "weir_shard_waiting_switches",
            "Publishers do not answer keyframe requests, or many people joined a moment ago.";
        /// Subscriptions by what they get, and why it is not more (now).
        reasons: gauge[Reason; "reason"] = "weir_shard_subscriptions_by_reason",
            "All but `flowing`, `muted` and `not_loudest` mean that somebody gets less than was asked for.";
        /// Packets that subscribers were not meant to get, by why. No losses.
        withheld: counter[Withheld; "reason"] = "weir_shard_withheld_total",
            "More layers are published than each subscriber watches: that is what they are for.";
        /// What subscribers can be sent, one value for each with an estimate, twice a second while anything moves.
        estimates: histogram(16, 12) / 8.0 = "weir_shard_estimate_bytes_per_second",
            "Good: ways have become wider. Low quantiles are people on narrow ways.";
        /// What the subscribers with an estimate can be sent, all together (now).
        estimate_bps_sum: gauge / 8.0 = "weir_shard_estimates_bytes_per_second",
            "More subscribers, or wider ways.";
        /// What the subscriber on the narrowest way can be sent (now); zero when nobody has an estimate.
        estimate_bps_min: gauge / 8.0 = "weir_shard_lowest_estimate_bytes_per_second",
            "Good. When it is low, one participant's network is narrow.";
        /// What the subscriber on the widest way can be sent (now).
        estimate_bps_max: gauge / 8.0 = "weir_shard_highest_estimate_bytes_per_second",
            "Good.";
        /// Round trips to participants, one value for each report that tells.
        round_trips: histogram(9, 14) / 1e6 = "weir_shard_round_trip_seconds",
            "Ways are long or queues are full. High quantiles alone: some participants' networks.";
        /// What streams lost before anything was sent again, one value for each stream and report, about once a second.
        loss: histogram[Direction; "direction"](0, 9) / 256.0 = "weir_shard_loss_ratio",
            "Networks lose packets. Of all participants at once: look at the machine's network and at weir_ring_receive_buffers.";
        /// How unevenly the packets of streams arrive (RFC 3550 §6.4.1), one value for each stream and report.
        jitter: histogram[Direction; "direction"](7, 14) / 1e6 = "weir_shard_jitter_seconds",
            "Queues come and go on the ways of participants. Of all at once: the shard's core is full.";
        /// The longest round trip to a participant, smoothed (now).
        round_trip_us_max: gauge / 1e6 = "weir_shard_worst_round_trip_seconds",
            "Somebody's way is long or its queue is full.";
        /// The most that a subscriber lost of one stream before anything was sent again (now).
        lost_down_per_mille_max: gauge / 1e3 = "weir_shard_worst_loss_down_ratio",
            "Somebody's network loses packets.";
        /// The most that was lost of one stream of a publisher (now).
        lost_up_per_mille_max: gauge / 1e3 = "weir_shard_worst_loss_up_ratio",
            "Some publisher's network loses packets; all who watch it see that.";
        /// The largest jitter of one stream at a subscriber (now).
        jitter_down_us_max: gauge / 1e6 = "weir_shard_worst_jitter_down_seconds",
            "Somebody's network delivers unevenly.";
        /// The largest jitter of one stream of a publisher (now).
        jitter_up_us_max: gauge / 1e6 = "weir_shard_worst_jitter_up_seconds",
            "Some publisher's network delivers unevenly.";
        /// Transports (now).
        transports: gauge = "weir_shard_transports",
            "More participants.";
        /// Published tracks (now).
        tracks: gauge = "weir_shard_tracks",
            "More cameras, microphones and screens.";
        /// Subscriptions to tracks (now).
        subscriptions: gauge = "weir_shard_subscriptions",
            "More people look at more people: the shard's work grows with it.";
        /// Packets kept for retransmission or on their way out (now).
        packets_held: gauge = "weir_shard_packets_held",
            "More media. It has an upper limit, at which the oldest packets go.";
        /// Send buffers that the kernel has (now).
        send_buffers_out: gauge = "weir_shard_send_buffers_out",
            "The kernel or the network card is slower than the shard; without any left packets are dropped as `no_send_buffer`.";
    }
    /// By reason.
    + drops: Drops;
}

/// One counter for each reason.
#[derive(Debug)]
struct Drops([Counter; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// What is lost.
static DROPPED: Family = Family {
    name: "weir_shard_dropped_total",
    kind: Kind::Counter,
    help: "Datagrams, packets and requests that did not get beyond a stage, by why. Losses.",
    rises: "The reason says what to look at. `unknown_address` and `unauthenticated` come from strangers, `no_send_buffer` and \
            `outgoing_full` from a shard with too much to do.",
    per_unit: 1.0,
};

/// What cannot or need not be mended.
static RESENDS_REFUSED: Family = Family {
    name: "weir_shard_resends_refused_total",
    kind: Kind::Counter,
    help: "Packets that subscribers reported missing and that were not sent again, by why.",
    rises: "`share` and `full`: more is lost than may be sent again. `too_old` and `too_often`: ways are long or very lossy, and a \
            keyframe follows. `too_soon` and `useless`: it was sent already, or a keyframe comes.",
    per_unit: 1.0,
};

impl Drops {
    fn export(&self, sink: &mut dyn Sink) {
        for reason in DropReason::ALL {
            let value = self.0[reason as usize].get();
            match reason.refuses_resend() {
                Some(label) => sink.number(&RESENDS_REFUSED, &[("reason", label)], value),
                None => {
                    let labels = [
                        ("stage", reason.stage().label()),
                        ("reason", reason.label()),
                    ];
                    sink.number(&DROPPED, &labels, value);
                }
            }
        }
    }
}

impl Counters {
    /// Counts a drop.
    pub fn count_drop(&self, reason: DropReason) {
        self.drops.0[reason as usize].add(1);
    }

    /// Reported packets that were not sent again, for any reason.
    pub fn resends_refused(&self) -> u64 {
        let refused = DropReason::ALL
            .into_iter()
            .filter(|reason| reason.refuses_resend().is_some());
        refused.map(|reason| self.dropped(reason)).sum()
    }

    /// How often something was dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.0[reason as usize].get()
    }

    /// Counts a packet that has reached a stage, and its bytes.
    pub(crate) fn pass(&self, stage: Stage, bytes: usize) {
        self.stages[stage as usize].add(1);
        self.stage_bytes[stage as usize].add(bytes as u64);
    }

    /// Counts `packets` that were withheld from a subscriber.
    pub(crate) fn withhold(&self, reason: Withheld, packets: u64) {
        self.withheld[reason as usize].add(packets);
    }

    /// How many packets were withheld from subscribers for `reason`.
    pub fn withheld(&self, reason: Withheld) -> u64 {
        self.withheld[reason as usize].get()
    }

    pub(crate) fn set_by_reason(&self, reason: Reason, subscriptions: u64) {
        self.reasons[reason as usize].set(subscriptions);
    }

    /// How many subscriptions are in the state of `reason` now.
    pub fn by_reason(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize].get()
    }
}

macro_rules! drops {
    ($($(#[$doc:meta])* $variant:ident, $stage:ident => $label:literal;)*) => {
        /// Why a datagram, packet or request came to nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            /// Every reason there is.
            pub const ALL: [DropReason; [$($label),*].len()] = [$(DropReason::$variant),*];

            /// The reason as a metric label.
            pub fn label(self) -> &'static str {
                match self { $(DropReason::$variant => $label,)* }
            }

            /// The reason as the label of a refused resend, if it is one.
            fn refuses_resend(self) -> Option<&'static str> {
                self.label().strip_prefix("resend_")
            }

            /// The stage at which it ends, never reaching the next.
            pub fn stage(self) -> Stage {
                match self { $(DropReason::$variant => Stage::$stage,)* }
            }
        }
    };
}

drops! {
    /// The first byte belongs to no protocol of RFC 7983.
    Garbage, Received => "garbage";
    /// RTP, RTCP or DTLS from an address that no authenticated check came from.
    UnknownAddress, Received => "unknown_address";
    /// STUN that does not parse, or is neither a binding request nor an answer to one.
    StunMalformed, Received => "stun_malformed";
    /// A check with a user name that no transport has.
    StunUnknownUser, Received => "stun_unknown_user";
    /// A check, or an answer to one, with a wrong or missing message integrity.
    StunUnauthenticated, Received => "stun_unauthenticated";
    /// An answer to a check that this end has not made, or has been answered already; or a check of somebody who was not called, at
    /// a port that is only called from.
    StunUnsolicited, Received => "stun_unsolicited";
    /// The other end answers a check with an error.
    StunRefused, Received => "stun_refused";
    /// A check from the address of another focus that a trunk leads to already.
    AddressTaken, Received => "address_taken";
    /// More DTLS datagrams than a handshake or a data channel needs.
    DatagramRate, Received => "datagram_rate";
    /// Events wait and nobody takes them.
    EventsFull, Received => "events_full";
    /// Media before the keys.
    NoKeys, Received => "no_keys";
    /// Not RTP, or its lengths contradict each other.
    RtpMalformed, Received => "rtp_malformed";
    /// The authentication tag is wrong.
    Unauthenticated, Received => "unauthenticated";
    /// Seen before, or older than the replay window.
    Replayed, Received => "replayed";
    /// RTCP that does not parse.
    RtcpMalformed, Received => "rtcp_malformed";
    /// Neither SSRC nor mid, rid or payload type lead to a track.
    UnknownSsrc, Received => "unknown_ssrc";
    /// The transport sends more SSRCs than the table holds.
    TooManySsrcs, Received => "too_many_ssrcs";
    /// More transport-wide feedback than packets can have been sent.
    FeedbackRate, Received => "feedback_rate";
    /// A payload type that was not negotiated for the track.
    UnknownPayloadType, Bound => "unknown_payload_type";
    /// A payload descriptor that does not parse.
    PayloadMalformed, Bound => "payload_malformed";
    /// The same packet by another way (RTX and original), or too old to tell.
    Duplicate, Bound => "duplicate";
    /// A retransmission that holds no packet (a probe), or one that its source has not sent yet.
    RtxUseless, Bound => "rtx_useless";
    /// The subscriber does not take this codec.
    CodecNotTaken, Kept => "codec_not_taken";
    /// Late, and from before the keyframe that the subscription started or switched at.
    BeforeKeyframe, Selected => "before_keyframe";
    /// Late, and its number is no longer known.
    TooLate, Selected => "too_late";
    /// Something has gone out under the number that it would get.
    NumberTaken, Selected => "number_taken";
    /// More forwarded packets than fit before `flush`.
    OutgoingFull, Numbered => "outgoing_full";
    /// Every send buffer is with the kernel.
    NoSendBuffer, Numbered => "no_send_buffer";
    /// The subscriber has no keys or no address (yet, or any more).
    NotReady, Numbered => "not_ready";
    /// Larger than a datagram may be.
    TooLarge, Numbered => "too_large";
    /// A packet is not sent again: it went out a moment ago.
    ResendTooSoon, Numbered => "resend_too_soon";
    /// A packet is not sent again: that was done often enough. A keyframe is asked for instead.
    ResendTooOften, Numbered => "resend_too_often";
    /// A packet is not sent again: it is too old. A keyframe is asked for instead.
    ResendTooOld, Numbered => "resend_too_old";
    /// A packet is not sent again: it never went out. It is lost on the way from the publisher, too, or never existed.
    ResendUnknown, Numbered => "resend_unknown";
    /// A packet is not sent again: a keyframe went out since, or is awaited.
    ResendUseless, Numbered => "resend_useless";
    /// A subscriber asks for more keyframes than it may cause.
    KeyframeRate, Numbered => "keyframe_rate";
    /// More resends to one transport than one batch may hold.
    ResendsFull, Numbered => "resend_full";
    /// Resends have had their part of what the subscriber can be sent.
    ResendShare, Numbered => "resend_share";
    /// Protection failed.
    Protect, Numbered => "protect";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{HistogramView, Labels};

    #[derive(Default)]
    struct Seen(Vec<(&'static str, String, u64)>);

    impl Sink for Seen {
        fn number(&mut self, family: &'static Family, labels: Labels<'_>, value: u64) {
            let labels: Vec<_> = labels
                .iter()
                .map(|(name, label)| format!("{name}={label}"))
                .collect();
            self.0.push((family.name, labels.join(","), value));
        }

        fn histogram(
            &mut self,
            family: &'static Family,
            labels: Labels<'_>,
            of: HistogramView<'_>,
        ) {
            self.number(family, labels, of.count());
        }
    }

    #[test]
    fn every_reason_has_its_own_label_and_place() {
        let counters = Counters::default();
        counters.count_drop(DropReason::Garbage);
        counters.count_drop(DropReason::Protect);
        counters.count_drop(DropReason::ResendShare);
        counters.withhold(Withheld::NotLoudest, 3);
        counters.pass(Stage::Kept, 1200);
        counters.set_by_reason(Reason::Muted, 2);
        counters.loss[Direction::Down as usize].record(64);
        let mut seen = Seen::default();
        counters.export(&mut seen);
        for expected in [
            (
                "weir_shard_dropped_total",
                "stage=received,reason=garbage",
                1,
            ),
            (
                "weir_shard_dropped_total",
                "stage=numbered,reason=protect",
                1,
            ),
            ("weir_shard_resends_refused_total", "reason=share", 1),
            ("weir_shard_withheld_total", "reason=not_loudest", 3),
            ("weir_shard_packets_total", "stage=kept", 1),
            ("weir_shard_bytes_total", "stage=kept", 1200),
            ("weir_shard_subscriptions_by_reason", "reason=muted", 2),
            ("weir_shard_loss_ratio", "direction=down", 1),
        ] {
            let found = |(name, labels, value): &(&str, String, u64)| {
                (*name, labels.as_str(), *value) == expected
            };
            assert!(seen.0.iter().any(found), "{expected:?}");
        }
        let mut names: Vec<_> = seen
            .0
            .iter()
            .map(|(name, labels, _)| (*name, labels))
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
