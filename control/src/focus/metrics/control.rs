//! What control counts. Written by the driver alone, except for `blips`, which the blip port writes alone.

use weir_shard::{labelled, metrics};

use crate::conference::{CallEnd, InviteResult, OfferReceived, OfferSent, Refusal, TrunkEvent};

labelled! {
    /// What became of a DTLS handshake.
    pub(crate) enum HandshakeResult {
        /// Keys were agreed on, with who was announced.
        Completed => "completed";
        /// Another certificate than announced, no common cipher, or no end in time.
        Failed => "failed";
        /// The call ended before.
        Abandoned => "abandoned";
    }
}

labelled! {
    /// What became of a to-device message of the focus.
    pub(crate) enum SendResult {
        /// The homeserver took it.
        Sent => "sent";
        /// Given up: the homeserver refused it, or did not answer for too long.
        Failed => "failed";
    }
}

metrics! {
    /// Everything that control counts.
    pub(crate) struct ControlCounters {
        /// Conferences with at least one participant (now).
        conferences: gauge = "weir_conferences",
            "More calls. The limit is limits.conferences_max.";
        /// Participants over all conferences (now).
        participants: gauge = "weir_participants",
            "More people.";
        /// Participants of the largest conference (now).
        participants_max: gauge = "weir_largest_conference_participants",
            "A conference lives on one shard: one that is too large for a core fills it.";
        /// Participants that publish at least one track (now).
        publishers: gauge = "weir_publishers",
            "More cameras and microphones.";
        /// Trunks to other foci over all conferences, up or on the way to it (now).
        trunks: gauge = "weir_trunks",
            "More conferences whose members use several foci.";
        /// What happened to trunks.
        trunk_events: counter[TrunkEvent; "event"] = "weir_trunk_events_total",
            "`called` without `up`: another focus does not answer, or its packets do not come. `up` and `ended` often: the way breaks.";
        /// Participants without media: they hold a place or measure the way (now).
        slots: gauge = "weir_slots",
            "Clients choose between foci; each goes after limits.slot_seconds at the latest. Near limits.slots_max somebody may hoard them.";
        /// Transports with a DTLS association, connected or connecting (now).
        transports: gauge = "weir_transports",
            "More participants. If it stays above weir_participants and weir_trunks together: report it.";
        /// Invites that wait for the room state that allows them (now).
        invites_waiting: gauge = "weir_invites_waiting",
            "Room state is late, or people call who may not; each waits five seconds.";
        /// Invites by what became of them.
        invites: counter[InviteResult; "result"] = "weir_invites_total",
            "`refused`: see weir_refusals_total for why. `ignored`: duplicates, or somebody sends too many.";
        /// Calls that have ended, by why.
        calls_ended: counter[CallEnd; "reason"] = "weir_calls_ended_total",
            "`left` and `replaced` are people. `ice_failed` and `keep_alive_timeout` of many at once: the network or the focus.";
        /// Requests that were not carried out, by why.
        refusals: counter[Refusal; "reason"] = "weir_refusals_total",
            "The reason says who is at fault: limits of the configuration, authorisation, or clients that send nonsense.";
        /// Offers of participants on the data channel, by what became of them.
        offers_received: counter[OfferReceived; "result"] = "weir_offers_received_total",
            "People publish and unpublish. `crossed`: glare, mended by itself.";
        /// Offers of the focus on the data channel, by what became of them.
        offers_sent: counter[OfferSent; "result"] = "weir_offers_sent_total",
            "People subscribe. `unanswered`: clients that do not react; after a few their calls end.";
        /// DTLS handshakes by what became of them.
        handshakes: counter[HandshakeResult; "result"] = "weir_dtls_handshakes_total",
            "`failed` or `abandoned`: clients whose packets are lost, or which are not who they say.";
        /// From a participant's first DTLS datagram to its keys.
        handshake_time: histogram(10, 15) / 1e6 = "weir_dtls_handshake_seconds",
            "Lossy or long ways. Of all participants at once: control's cores are full.";
        /// DTLS or SCTP associations that ended by a fault.
        associations_failed: counter = "weir_associations_failed_total",
            "Clients that vanish or break the protocol; of many at once: the network.";
        /// To-device messages about calls that arrived.
        to_device_received: counter = "weir_to_device_received_total",
            "More joins; or somebody sends many.";
        /// From when the homeserver's response with a to-device message had arrived until it was dealt with. Matrix gives such
        /// messages no time of their own, so that what they waited at homeservers is not in it.
        to_device_lag: histogram(6, 17) / 1e6 = "weir_to_device_lag_seconds",
            "Control's cores are full, or many messages come at once.";
        /// To-device messages of the focus by what became of them.
        to_device_sent: counter[SendResult; "result"] = "weir_to_device_sent_total",
            "`failed`: the homeserver is away or refuses; clients do not get their answers.";
        /// From when a to-device message was ready until the homeserver took it, waiting and tries included.
        to_device_send_time: histogram(10, 17) / 1e6 = "weir_to_device_send_seconds",
            "The homeserver is slow: joining takes as much longer.";
        /// Connections to the blip port that were refused, which is what it is for.
        blips: counter = "weir_blips_total",
            "Clients measure the way. Near blip.connections_per_second they wait, and what they measure is too long.";
        /// 1 if the last sync with the homeserver succeeded.
        matrix_up: gauge = "weir_matrix_up",
            "Good. 0: the homeserver does not answer; running calls go on, new ones wait.";
        /// Time since the homeserver answered a sync; it holds them back for up to 30 s while there is nothing to say (now).
        sync_age: gauge / 1e3 = "weir_matrix_sync_age_seconds",
            "Above 30 s the homeserver is late or away.";
    }
}
