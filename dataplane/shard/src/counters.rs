//! What a shard counts: plain single-writer numbers, read by anyone at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::reason::{Reason, Stage, Withheld};

/// A number that one thread writes and others may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds `n`. A load and a store instead of a locked addition: there is one writer.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// Label names with their values.
pub type Labels<'a> = &'a [(&'static str, &'static str)];

/// One counter for each reason. Arrays of more than 32 have no default of their own.
#[derive(Debug)]
struct Drops([Counter; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $name:literal;)*) => {
        /// Everything a shard counts. Shared with whoever exports it.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $field: Counter,)*
            drops: Drops,
            stages: [Counter; Stage::ALL.len()],
            withheld: [Counter; Withheld::ALL.len()],
            reasons: [Counter; Reason::ALL.len()],
        }

        impl Counters {
            /// Calls `f` with every metric's name, its labels and its value.
            pub fn for_each(&self, mut f: impl FnMut(&'static str, Labels<'_>, u64)) {
                $(f($name, &[], self.$field.get());)*
                for reason in DropReason::ALL {
                    let labels = [("stage", reason.stage().label()), ("reason", reason.label())];
                    f("weir_shard_dropped_total", &labels, self.dropped(reason));
                }
                for stage in Stage::ALL {
                    let value = self.stages[stage as usize].get();
                    f("weir_shard_packets_total", &[("stage", stage.label())], value);
                }
                for reason in Withheld::ALL {
                    let labels = [("reason", reason.label())];
                    f("weir_shard_withheld_total", &labels, self.withheld(reason));
                }
                for reason in Reason::ALL {
                    let labels = [("reason", reason.label())];
                    f("weir_shard_subscriptions_by_reason", &labels, self.by_reason(reason));
                }
            }
        }
    };
}

counters! {
    /// Datagrams that came in.
    datagrams_received => "weir_shard_datagrams_received_total";
    /// Their bytes.
    bytes_received => "weir_shard_bytes_received_total";
    /// Datagrams that went out.
    datagrams_sent => "weir_shard_datagrams_sent_total";
    /// Their bytes.
    bytes_sent => "weir_shard_bytes_sent_total";
    /// Sends: one may hold many datagrams.
    sends => "weir_shard_sends_total";
    /// RTP packets of tracks that were accepted.
    rtp_received => "weir_shard_rtp_received_total";
    /// RTP packets that went to subscribers, resends not among them.
    rtp_forwarded => "weir_shard_rtp_forwarded_total";
    /// Retransmissions of publishers that were unwrapped.
    rtx_unwrapped => "weir_shard_rtx_unwrapped_total";
    /// Packets that publishers' numbers say were sent and that did not come (yet).
    rtp_missing => "weir_shard_rtp_missing_total";
    /// RTCP packets (compound) that came in.
    rtcp_received => "weir_shard_rtcp_received_total";
    /// RTCP packets (compound) that went out.
    rtcp_sent => "weir_shard_rtcp_sent_total";
    /// Connectivity checks that were answered.
    checks_answered => "weir_shard_stun_checks_answered_total";
    /// Keyframes of publishers.
    keyframes_received => "weir_shard_keyframes_received_total";
    /// Keyframe requests sent to publishers.
    keyframe_requests_sent => "weir_shard_keyframe_requests_sent_total";
    /// Keyframe requests of subscribers, and those of the shard itself, that joined one under way.
    keyframe_requests_coalesced => "weir_shard_keyframe_requests_coalesced_total";
    /// Keyframe requests that subscribers sent.
    keyframe_requests_received => "weir_shard_keyframe_requests_received_total";
    /// Sequence numbers that subscribers reported missing.
    nacks_received => "weir_shard_nacked_packets_received_total";
    /// Packets sent again.
    resends => "weir_shard_resends_total";
    /// Sequence numbers that the focus reported missing to publishers.
    nacks_sent => "weir_shard_nacked_packets_sent_total";
    /// Video subscriptions that began to flow.
    starts => "weir_shard_starts_total";
    /// Layer changes that took place.
    switches => "weir_shard_switches_total";
    /// Layer changes refused because the picture's time would have gone back.
    switches_refused => "weir_shard_switches_refused_total";
    /// Packets of padding, sent to learn how much a subscriber can be sent.
    probes => "weir_shard_probes_total";
    /// Decisions that gave a subscriber's pictures less than before, because less fits.
    allocations_lowered => "weir_shard_allocations_lowered_total";
    /// Decisions that gave them more.
    allocations_raised => "weir_shard_allocations_raised_total";
    /// Layers given up because they were silent while others flowed.
    layers_stalled => "weir_shard_layers_stalled_total";
    /// Padding-only packets that were left out, the numbers behind them closed up.
    padding_removed => "weir_shard_padding_removed_total";
    /// Changes of who speaks that were told.
    speakers_told => "weir_shard_speakers_told_total";
    /// Changes of which layers of a track anybody needs that were told.
    layers_in_use_told => "weir_shard_layers_in_use_told_total";
    /// Commands that named something the shard does not have.
    unknown_ids => "weir_shard_unknown_ids_total";
    /// Commands refused because a table was full or the id was taken.
    commands_refused => "weir_shard_commands_refused_total";
    /// Subscriptions that wait for a keyframe to start or to switch (now).
    waiting_switches => "weir_shard_waiting_switches";
    /// What the subscribers with an estimate can be sent, in bits a second: all together, the least and the most (now).
    estimate_bps_sum => "weir_shard_estimate_bps_sum";
    /// See [`Counters::estimate_bps_sum`]; zero when nobody has an estimate.
    estimate_bps_min => "weir_shard_estimate_bps_min";
    /// See [`Counters::estimate_bps_sum`].
    estimate_bps_max => "weir_shard_estimate_bps_max";
    /// Transports (now).
    transports => "weir_shard_transports";
    /// Tracks (now).
    tracks => "weir_shard_tracks";
    /// The longest round trip to a participant, smoothed (now).
    round_trip_us_max => "weir_shard_round_trip_us_max";
    /// The most that a subscriber lost of one stream, in thousandths, before anything was sent again (now).
    lost_down_per_mille_max => "weir_shard_lost_down_per_mille_max";
    /// The most that was lost of one stream of a publisher (now).
    lost_up_per_mille_max => "weir_shard_lost_up_per_mille_max";
    /// The largest jitter of one stream at a subscriber (now).
    jitter_down_us_max => "weir_shard_jitter_down_us_max";
    /// The largest jitter of one stream of a publisher (now).
    jitter_up_us_max => "weir_shard_jitter_up_us_max";
    /// Subscriptions (now).
    subscriptions => "weir_shard_subscriptions";
    /// Packets kept for retransmission or on their way out (now).
    packets_held => "weir_shard_packets_held";
    /// Send buffers that the kernel has (now).
    send_buffers_out => "weir_shard_send_buffers_out";
}

impl Counters {
    /// Counts a drop.
    pub fn count_drop(&self, reason: DropReason) {
        self.drops.0[reason as usize].add(1);
    }

    /// Reported packets that were not sent again, for any reason.
    pub fn resends_refused(&self) -> u64 {
        let reasons = [
            DropReason::ResendTooSoon,
            DropReason::ResendTooOften,
            DropReason::ResendTooOld,
            DropReason::ResendUnknown,
            DropReason::ResendUseless,
            DropReason::ResendsFull,
            DropReason::ResendShare,
        ];
        reasons.map(|reason| self.dropped(reason)).iter().sum()
    }

    /// How often something was dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.0[reason as usize].get()
    }

    /// Counts a packet that has reached a stage.
    pub(crate) fn pass(&self, stage: Stage) {
        self.stages[stage as usize].add(1);
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
    /// STUN that does not parse or is not a binding request.
    StunMalformed, Received => "stun_malformed";
    /// A check with a user name that no transport has.
    StunUnknownUser, Received => "stun_unknown_user";
    /// A check with a wrong or missing message integrity.
    StunUnauthenticated, Received => "stun_unauthenticated";
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
    ResendsFull, Numbered => "resends_full";
    /// Resends have had their part of what the subscriber can be sent.
    ResendShare, Numbered => "resend_share";
    /// Protection failed.
    Protect, Numbered => "protect";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_label_and_place() {
        let counters = Counters::default();
        counters.count_drop(DropReason::Garbage);
        counters.count_drop(DropReason::Protect);
        counters.withhold(Withheld::NotLoudest, 3);
        counters.pass(Stage::Kept);
        counters.set_by_reason(Reason::Muted, 2);
        let mut seen = Vec::new();
        counters.for_each(|name, labels, value| {
            let labels: Vec<_> = labels
                .iter()
                .map(|(name, label)| format!("{name}={label}"))
                .collect();
            seen.push((name, labels.join(","), value));
        });
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
            ("weir_shard_withheld_total", "reason=not_loudest", 3),
            ("weir_shard_packets_total", "stage=kept", 1),
            ("weir_shard_subscriptions_by_reason", "reason=muted", 2),
        ] {
            let found = |(name, labels, value): &(&str, String, u64)| {
                (*name, labels.as_str(), *value) == expected
            };
            assert!(seen.iter().any(found), "{expected:?}");
        }
        let mut names: Vec<_> = seen
            .iter()
            .map(|(name, labels, _)| (*name, labels))
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
